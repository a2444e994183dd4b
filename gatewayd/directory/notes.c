/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread adds, the directory's thread writes. The list is guarded by its lock, which is never held across a call of the
 * database: the writer takes the whole list and puts it back in front when the transaction fails. */
#include "gatewayd/directory/notes.h"

#include <stdlib.h>
#include <string.h>

#include "libshared/base/log.h"
#include "libshared/store/audit.h"

#define NOTES_MAX 256u /* a reload a minute for four hours without the database */

struct note {
    struct note *next;
    struct wall at;
    char *actor, *action, *subject;
    json_t *detail;
};

static void note_free(struct note *n)
{
    free(n->actor);
    free(n->action);
    free(n->subject);
    json_decref(n->detail);
    free(n);
}

void notes_init(struct notes *n)
{
    *n = (struct notes){0};
    n->last = &n->first;
    (void)pthread_mutex_init(&n->lock, NULL);
}

static void free_all(struct note *first)
{
    while (first) {
        struct note *next = first->next;

        note_free(first);
        first = next;
    }
}

void notes_release(struct notes *n)
{
    if (n->n)
        log_warn("audit: %u deeds were not written, since the database did not answer", n->n);
    free_all(n->first);
    (void)pthread_mutex_destroy(&n->lock);
}

static void drop_oldest(struct notes *n)
{
    struct note *gone = n->first;

    n->first = gone->next;
    if (!n->first)
        n->last = &n->first;
    n->n--;
    if (n->lost++ == 0)
        log_error("audit: too many deeds wait for the database, and the oldest are left out");
    note_free(gone);
}

void notes_add_mt(struct notes *n, struct wall at, const char *actor, const char *action, const char *subject,
                  json_t *detail)
{
    struct note *one = calloc(1, sizeof(*one));

    if (!one)
        abort();
    *one = (struct note){.at = at,
                         .actor = strdup(actor),
                         .action = strdup(action),
                         .subject = strdup(subject),
                         .detail = detail ? detail : json_object()};
    if (!one->actor || !one->action || !one->subject)
        abort();
    (void)pthread_mutex_lock(&n->lock);
    if (n->n >= NOTES_MAX)
        drop_oldest(n);
    *n->last = one;
    n->last = &one->next;
    n->n++;
    (void)pthread_mutex_unlock(&n->lock);
}

bool notes_any_mt(struct notes *n)
{
    bool any;

    (void)pthread_mutex_lock(&n->lock);
    any = n->first != NULL;
    (void)pthread_mutex_unlock(&n->lock);
    return any;
}

static struct note *take(struct notes *n, unsigned *out_n)
{
    struct note *first;

    (void)pthread_mutex_lock(&n->lock);
    first = n->first;
    *out_n = n->n;
    n->first = NULL;
    n->last = &n->first;
    n->n = 0;
    (void)pthread_mutex_unlock(&n->lock);
    return first;
}

static void put_back(struct notes *n, struct note *first, unsigned count)
{
    struct note **end = &first;

    while (*end)
        end = &(*end)->next;
    (void)pthread_mutex_lock(&n->lock);
    *end = n->first;
    if (!n->first)
        n->last = end == &first ? &n->first : end;
    n->first = first;
    n->n += count;
    while (n->n > NOTES_MAX)
        drop_oldest(n);
    (void)pthread_mutex_unlock(&n->lock);
}

enum err_code notes_write(struct notes *n, struct db *db, struct err *err)
{
    unsigned count;
    struct note *first = take(n, &count);
    enum err_code e = first ? db_begin(db, err) : ERR_OK;
    bool is_open = first && !e;

    for (const struct note *one = first; one && !e; one = one->next) {
        struct audit_row row = {.at = one->at,
                                .actor = one->actor,
                                .action = one->action,
                                .subject = one->subject,
                                .detail = one->detail};

        e = audit_append(db, &row, err);
    }
    if (is_open && !e)
        e = db_commit(db, err);
    else if (is_open)
        db_rollback(db);
    if (e == ERR_BAD_REQUEST) /* a text that is no UTF-8 would hold up all behind it */
        log_error("audit: %u deeds cannot be written: %s", count, err_text(err));
    if (e && e != ERR_BAD_REQUEST && first)
        put_back(n, first, count);
    else
        free_all(first);
    return e;
}
