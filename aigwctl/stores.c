/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the stores. SQLite has one writer: while a gateway lives, its file is only read here, and what
 * changes it is asked of the gateway. */
#include "aigwctl/stores.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/stores_where.h"
#include "libshared/base/log.h"
#include "libshared/cli/human.h"
#include "libshared/store/kv_keys.h"

#define RETENTION_US ((int64_t)4 * 3600 * 1000000)

static int64_t retention_said(void)
{
    const char *z = getenv("GATEWAYD_AGGREGATION_RETENTION");
    int64_t ms = 0;
    uint64_t hours = 0;

    if (z && human_parse_duration(z, &ms) && ms > 0)
        return ms * 1000;
    z = getenv("METRICS_REDIS_RETENTION_HOURS");
    if (z && span_to_u64(span_of(z), &hours) && hours >= 1 && hours <= 168)
        return (int64_t)hours * 3600 * 1000000;
    return 0;
}

/* The socket of the gateway that has the file, unless another address was given: a context's gateway has the context's file. */
static void point_at(struct ctl *ctl, const struct stores_where *w)
{
    static char url[STORES_URL_CAP + 16];
    const char *named = getenv("GATEWAYD_URL"), *slash = strrchr(w->database, '/');

    if (ctl->url || w->is_context_named || w->database_of == STORES_OF_CONTEXT || (named && *named))
        return;
    (void)snprintf(url, sizeof(url), "unix:%.*s/admin.sock", slash ? (int)(slash - w->database) : 1,
                   slash ? w->database : ".");
    if (access(url + 5, F_OK) == 0)
        ctl->url = url;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

int stores_failed(const char *what, const struct err *err)
{
    int code = err->code == ERR_IO || err->code == ERR_TIMEOUT || err->code == ERR_UNAVAILABLE ? CLI_NO_ANSWER
               : err->code == ERR_CONFLICT                                                     ? CLI_CONFLICT
               : err->code == ERR_CONFIG                                                       ? CLI_USAGE
               : err->code == ERR_NOT_FOUND                                                    ? CLI_NOT_FOUND
                                                                                               : CLI_FAILED;

    /* What says by itself whose fault it is needs no other store's name in front of it. */
    if (strncmp(err_text(err), "redis", 5) == 0)
        return ctl_fail(code, "%s", err_text(err));
    return ctl_fail(code, "%s: %s", what, err_text(err));
}

static bool is_postgres(const char *url)
{
    return strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0;
}

/* A file that is not there is not made, but where that is asked for: an address that was mistyped would look like a history
 * without anything in it. */
static int find_file(const char *path, enum stores_use use)
{
    if (strstr(path, "://") || (!strchr("/.", path[0]) && strchr(path, '@')))
        return ctl_fail(
            CLI_USAGE, "the address of the history store is neither 'postgresql://…' nor the path of a file");
    if (access(path, F_OK) == 0 || (use == STORES_CREATE && errno == ENOENT))
        return CLI_OK;
    return errno == ENOENT || errno == ENOTDIR
               ? ctl_fail(CLI_NOT_FOUND, "there is no history store at '%s'", path)
               : ctl_fail(CLI_NO_ANSWER, "the history store '%s' cannot be reached: %s", path,
                          strerror(errno));
}

/* A statement may take minutes; that nobody answers is known much sooner. */
static int probe(const struct ctl *ctl, const char *url)
{
    struct err err = {0};
    unsigned version;
    struct db *db = db_new(
        &(struct db_options){
            .url = url, .is_read_only = true, .deadline_us = ctl->timeout_ms * 1000, .slow_us = -1},
        &err);
    int rc = !db || db_schema_version(db, &version, &err)
                 ? stores_failed(db ? db_where(db) : "the history store", &err)
                 : CLI_OK;

    db_free(db);
    return rc;
}

static int open_db(struct ctl *ctl, const struct stores_where *w, enum stores_use use, int64_t deadline_us,
                   struct stores *out)
{
    struct err err = {0};
    int rc = is_postgres(w->database) ? probe(ctl, w->database) : find_file(w->database, use);

    if (rc)
        return rc;
    out->db = db_new(&(struct db_options){.url = w->database,
                                          .is_read_only = use == STORES_READ,
                                          .deadline_us = deadline_us,
                                          .slow_us = -1},
                     &err);
    out->is_busy = !out->db && err.code == ERR_CONFLICT && use != STORES_READ;
    if (out->is_busy)
        point_at(ctl, w);
    return out->db || out->is_busy ? CLI_OK : stores_failed("the history store", &err);
}

static int open_kv(const struct stores_where *w, struct stores *out)
{
    struct err err = {0};

    if (!w->redis[0])
        return CLI_OK;
    out->kv = kv_new(&(struct kv_options){.url = w->redis}, &err);
    return out->kv ? CLI_OK : stores_failed("the realtime store", &err);
}

static int64_t wait_ms;

void stores_wait(int64_t ms)
{
    wait_ms = ms;
}

/* A gateway keeps its file as long as it lives and can be asked; another command is through with it soon. */
static int open_db_in_time(struct ctl *ctl, const struct stores_where *w, enum stores_use use,
                           int64_t deadline_us, struct stores *out)
{
    struct mono started = mono_now();
    int rc;

    do {
        rc = open_db(ctl, w, use, deadline_us, out);
        if (rc || !out->is_busy || ctl_answers(ctl))
            return rc;
    } while (mono_diff_us(mono_now(), started) < wait_ms * 1000 && ctl_sleep_ms(20));
    out->is_busy = false;
    return ctl_fail(CLI_CONFLICT, "the history store is in use, and no gateway answers for it\n  '%s'",
                    w->database);
}

/* With a context that is read-only nothing is written, whoever would write it. */
static int open_both(struct ctl *ctl, enum stores_use use, int64_t deadline_us, struct stores *out)
{
    struct stores_where w;
    int rc = stores_where(ctl, &w);

    if (!rc && use != STORES_READ && ctl->is_read_only)
        rc = ctl_read_only(ctl);
    if (!rc) {
        rc = open_db_in_time(ctl, &w, use, deadline_us, out);
        rc = rc ? stores_blame(rc, "database", w.database_of) : rc;
    }
    if (!rc && !out->is_busy) {
        rc = open_kv(&w, out);
        rc = rc ? stores_blame(rc, "redis", w.redis_of) : rc;
    }
    explicit_bzero(&w, sizeof(w));
    return rc;
}

static bool is_patient;

void stores_be_patient(void)
{
    is_patient = true;
}

/* A call to a store waits for the store, not for ctl_stop. What it was about to do is undone by the store, or was a whole
 * transaction. */
static void leave(int signo)
{
    if (!is_patient || ctl_stop)
        _exit(128 + signo);
    ctl_stop = signo;
}

static const int ENDINGS[] = {SIGINT, SIGTERM, SIGHUP};
static struct sigaction kept[ARRAY_LEN(ENDINGS)];
static bool is_leaving;

static void leave_on_signals(bool on)
{
    struct sigaction sa = {.sa_handler = leave};

    if (on == is_leaving)
        return;
    is_leaving = on;
    (void)sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(ENDINGS); i++)
        (void)sigaction(ENDINGS[i], on ? &sa : &kept[i], on ? &kept[i] : NULL);
}

int stores_open(struct ctl *ctl, enum stores_use use, int64_t deadline_us, struct stores *out)
{
    int64_t said = retention_said();
    int rc;

    log_set_level(LOG_WARN);
    leave_on_signals(true);
    *out = (struct stores){.retention_us = said ? said : RETENTION_US, .has_retention = said > 0};
    rc = open_both(ctl, use, deadline_us, out);
    if (rc || out->is_busy)
        leave_on_signals(false);
    if (rc)
        stores_close(out);
    return rc;
}

void stores_close(struct stores *s)
{
    leave_on_signals(false);
    db_free(s->db);
    kv_free(s->kv);
    *s = (struct stores){0};
}

int stores_need_schema(const struct stores *s)
{
    struct err err = {0};
    unsigned version = 0;

    if (db_schema_version(s->db, &version, &err))
        return stores_failed("the history store", &err);
    if (version == db_schema_latest())
        return CLI_OK;
    return ctl_fail(CLI_CONFLICT,
                    "the schema of %s is version %u and this program's is %u; see 'aigwctl db migrate'",
                    db_where(s->db), version, db_schema_latest());
}

bool stores_parse_hour(const char *z, int64_t *out)
{
    *out = strlen(z) < KV_HOUR_CAP ? kv_hour_parse(z) : -1;
    return *out >= 0;
}

int stores_ask(struct ctl *ctl, const char *path, json_t *body, json_t **out)
{
    struct api_answer a = {0};
    char *text = json_dumps(body, JSON_COMPACT);
    int rc = text ? ctl_call(ctl, "POST", path, span_of(text), &a) : CLI_FAILED;

    *out = NULL;
    if (!rc && (a.status < 200 || a.status > 299))
        rc = ctl_refused(&a);
    else if (!rc && !(*out = json_loadb(a.body.p ? a.body.p : "", a.body.len, JSON_REJECT_DUPLICATES, NULL)))
        rc = ctl_fail(CLI_FAILED, "the answer of %s%s is not JSON", ctl->found_url, path);
    api_answer_release(&a);
    free(text);
    json_decref(body);
    return rc;
}
