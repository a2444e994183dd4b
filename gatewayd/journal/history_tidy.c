/* SPDX-License-Identifier: Apache-2.0 */
/* Forgets old stories, and the oldest above the maximum, between batches: at most TIDY_TURNS small deletes a second, so that
 * nothing waits for a large one. Writer's thread. */
#include "gatewayd/journal/history_priv.h"

#include "libshared/base/log.h"

#define TIDY_US    (60 * SECOND_US) /* between two counts */
#define TIDY_ROWS  1000
#define TIDY_TURNS 4

static bool take_count(void *user, const struct db_value *c, unsigned n)
{
    (void)n;
    *(int64_t *)user = c[0].i;
    return false;
}

static enum err_code count_stories(struct history *h, struct err *err)
{
    int64_t n = 0;
    enum err_code e =
        db_query(h->db, "requests_count", "SELECT count(*) FROM requests", NULL, 0, take_count, &n, err);

    h->excess = n - (int64_t)h->stories_max;
    return e;
}

/* Oldest first; `limit` at most. Returns how many went. */
static int64_t delete_stories(struct history *h, int64_t before_us, int64_t limit, struct err *err)
{
    struct db_value p[] = {db_int(before_us), db_int(limit)};
    int64_t changed = 0;

    if (db_exec(
            h->db, "requests_delete",
            "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE at < $1 ORDER BY at LIMIT $2)",
            p, ARRAY_LEN(p), &changed, err))
        return -1;
    return changed;
}

static bool delete_old(struct history *h, struct wall now, struct err *err)
{
    int64_t n = TIDY_ROWS;

    for (int i = 0; i < TIDY_TURNS && n == TIDY_ROWS; i++) {
        n = delete_stories(h, now.us - h->stories_us, TIDY_ROWS, err);
        if (n > 0)
            h->excess -= n;
    }
    h->has_old = n == TIDY_ROWS;
    return n >= 0;
}

static bool delete_excess(struct history *h, struct err *err)
{
    int64_t n = TIDY_ROWS;

    for (int i = 0; i < TIDY_TURNS && h->excess > 0 && n > 0; i++) {
        n = delete_stories(h, INT64_MAX, h->excess < TIDY_ROWS ? h->excess : TIDY_ROWS, err);
        h->excess -= n > 0 ? n : h->excess;
    }
    return n >= 0;
}

static bool tidy(struct history *h, struct wall now, bool is_due, struct err *err)
{
    if (is_due && count_stories(h, err))
        return false;
    if ((is_due || h->has_old) && !delete_old(h, now, err))
        return false;
    return delete_excess(h, err);
}

void history_idle(void *self, struct wall now)
{
    struct history *h = self;
    struct err err = {0};
    bool is_due = now.us - h->tidied.us >= TIDY_US || now.us < h->tidied.us;

    if (is_due)
        h->tidied = now;
    if (!tidy(h, now, is_due, &err))
        log_warn("history: old stories stay: %s", err_text(&err));
}
