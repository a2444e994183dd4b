/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of one batch, within its transaction. Writer's thread. The batch itself is only read, since the transaction may have to
 * be made again.
 *
 * Tricky: sketches are merged in the store's row. What is stored is read, merged in a scratch sketch and written back; only
 * this instance writes its rows. Budget rows are shared by all instances: the database adds to them, in one order
 * everywhere, so that two nodes never wait for each other in a circle, and last, so that they are locked for a short
 * time. */
#include "gatewayd/journal/history_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/analytics/hour_lock.h"
#include "libshared/base/crash.h"
#include "libshared/base/log.h"

#define ROWS 128u /* of one INSERT's values at a time */

/* ---- the ledger ---- */

#define LEDGER_COLUMNS                                                                                       \
    "instance,seq,line,kind,minute,budget_hour,tenant,key,provider,model,endpoint,outcome,error,"            \
    "stream_end,usage_source,count,tokens_in,tokens_cached,tokens_cwrite,tokens_out,tokens_reasoning,"       \
    "images,searches,cost_nano,unpriced,latency_us,ttft_us,ttft_count"
#define LEDGER_TEXTS 15u
#define LEDGER_N     (LEDGER_TEXTS + FOLD_VALUES)

static struct db_value label_value(label l)
{
    return db_textz(label_text(l));
}

static void ledger_how(uint64_t how, struct db_value *c)
{
    static const char *const SOURCES[] = {"none", "reported", "estimated"};
    unsigned source = (unsigned)(how >> HOW_SOURCE & 0xf);
    enum fact_status status = (enum fact_status)(how >> HOW_STATUS & 0xf);
    enum stream_end end = (enum stream_end)(how >> HOW_END & 0xf);
    enum err_code error = (enum err_code)(how & 0xffff);

    c[3] = db_textz(fold_kind_name((enum fold_kind)(how >> HOW_KIND & 0xf)));
    c[11] = db_textz(status < STATUS_COUNT ? fact_status_name(status) : "");
    c[12] = db_textz(error != ERR_OK && error < ERR_COUNT ? err_row(error)->code : "");
    c[13] = db_textz(end < STREAM_END_COUNT ? stream_end_name(end) : "");
    c[14] = db_textz(source < ARRAY_LEN(SOURCES) ? SOURCES[source] : SOURCES[0]);
}

static void ledger_row(struct history *h, size_t i, uint64_t seq, struct db_value *c)
{
    const int64_t *k = fold_key(&h->lines, i), *v = fold_values(&h->lines, i);

    c[0] = db_textz(h->instance);
    c[1] = db_int((int64_t)seq);
    c[2] = db_int((int64_t)i);
    c[4] = db_int(k[KEY_MINUTE]);
    c[5] = db_int(k[KEY_HOUR]);
    c[6] = label_value(fold_high(k[KEY_WHO]));
    c[7] = label_value(fold_low(k[KEY_WHO]));
    c[8] = label_value(fold_high(k[KEY_WHAT]));
    c[9] = label_value(fold_low(k[KEY_WHAT]));
    c[10] = label_value((label)((uint64_t)k[KEY_HOW] >> 32));
    ledger_how((uint64_t)k[KEY_HOW] & 0xffffffffu, c);
    for (unsigned j = 0; j < FOLD_VALUES; j++)
        c[LEDGER_TEXTS + j] = db_int(v[j]);
}

static enum err_code write_ledger(struct history *h, uint64_t seq, struct err *err)
{
    struct db_value values[ROWS * LEDGER_N];
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < h->lines.n && e == ERR_OK; i += ROWS) {
        size_t n = h->lines.n - i < ROWS ? h->lines.n - i : ROWS;

        for (size_t j = 0; j < n; j++)
            ledger_row(h, i + j, seq, values + j * LEDGER_N);
        e = db_insert(h->db, "ledger_insert", "ledger", LEDGER_COLUMNS, values, LEDGER_N, n, "", err);
    }
    return e;
}

/* ---- sketches ---- */

static enum err_code encode_span(struct history *h, struct span_sketches *s, struct span latency,
                                 struct span ttft)
{
    const struct {
        const struct sketch *new;
        struct span stored;
        size_t *out_len;
    } both[] = {{&s->latency, latency, &s->latency_len}, {&s->ttft, ttft, &s->ttft_len}};
    enum err_code e = ERR_OK;

    s->offset = h->blobs.len;
    for (unsigned i = 0; i < ARRAY_LEN(both) && e == ERR_OK; i++) {
        size_t before = h->blobs.len;

        sketch_clear(&h->merged);
        if (both[i].stored.len && sketch_decode(&h->merged, both[i].stored))
            log_error("history: a stored sketch of '%s' is damaged and begins anew", h->instance);
        e = sketch_merge(&h->merged, both[i].new);
        if (e == ERR_OK)
            e = sketch_encode(&h->merged, &h->blobs);
        *both[i].out_len = h->blobs.len - before;
    }
    return e;
}

struct merging {
    struct history *h;
    int64_t minute;
    enum err_code code;
};

static bool merge_stored(void *user, const struct db_value *c, unsigned n)
{
    struct merging *m = user;
    int64_t key[2] = {m->minute, fold_pair(intern(c[0].s), intern(c[1].s))};
    size_t row = fold_table_find(&m->h->spans, key);

    (void)n;
    if (row < m->h->spans.n)
        m->code = encode_span(m->h, &m->h->sketches[row], c[2].s, c[3].s);
    return m->code == ERR_OK;
}

static enum err_code merge_minute(struct history *h, int64_t minute, struct err *err)
{
    struct db_value p[] = {db_int(minute), db_textz(h->instance)};
    struct merging m = {.h = h, .minute = minute};
    enum err_code e = db_query(h->db, "sketches_select",
                               "SELECT provider, model, sketch, ttft FROM minute_sketches "
                               "WHERE minute = $1 AND instance = $2",
                               p, ARRAY_LEN(p), merge_stored, &m, err);

    return e ? e : m.code;
}

/* Each minute of the batch is asked for once. */
static enum err_code merge_all(struct history *h, struct err *err)
{
    enum err_code e = ERR_OK;

    buf_clear(&h->blobs);
    fold_table_clear(&h->hours);
    for (size_t i = 0; i < h->spans.n; i++)
        h->sketches[i].latency_len = 0;
    for (size_t i = 0; i < h->spans.n && e == ERR_OK; i++) {
        size_t before = h->hours.n;

        (void)fold_table_at(&h->hours, &(int64_t){fold_key(&h->spans, i)[0]});
        if (h->hours.n != before)
            e = merge_minute(h, fold_key(&h->spans, i)[0], err);
    }
    for (size_t i = 0; i < h->spans.n && e == ERR_OK; i++)
        if (!h->sketches[i].latency_len)
            e = encode_span(h, &h->sketches[i], SPAN_LIT(""), SPAN_LIT(""));
    return e;
}

static enum err_code write_sketches(struct history *h, struct err *err)
{
    struct db_value values[ROWS * 6];
    enum err_code e = merge_all(h, err);

    for (size_t i = 0; i < h->spans.n && e == ERR_OK; i += ROWS) {
        size_t n = h->spans.n - i < ROWS ? h->spans.n - i : ROWS;

        for (size_t j = 0; j < n; j++) {
            const int64_t *k = fold_key(&h->spans, i + j);
            const struct span_sketches *s = &h->sketches[i + j];
            struct db_value *c = values + j * 6;

            c[0] = db_textz(h->instance);
            c[1] = db_int(k[0]);
            c[2] = label_value(fold_high(k[1]));
            c[3] = label_value(fold_low(k[1]));
            c[4] = db_blob(span_make(h->blobs.p + s->offset, s->latency_len));
            c[5] = db_blob(span_make(h->blobs.p + s->offset + s->latency_len, s->ttft_len));
        }
        e = db_insert(h->db, "sketches_upsert", "minute_sketches",
                      "instance,minute,provider,model,sketch,ttft", values, 6, n,
                      "ON CONFLICT (minute, provider, model, instance) DO UPDATE SET "
                      "sketch = excluded.sketch, ttft = excluded.ttft",
                      err);
    }
    return e;
}

/* ---- hours to roll up again ---- */

static bool any_row(void *user, const struct db_value *c, unsigned n)
{
    (void)c;
    (void)n;
    *(bool *)user = true;
    return false;
}

static enum err_code mark_hour(struct history *h, int64_t hour, struct wall now, struct err *err)
{
    struct db_value row[] = {db_int(hour), db_int(now.us / SECOND_US)};
    bool is_late = hour + HOUR_S <= now.us / SECOND_US;
    enum err_code e = ERR_OK;

    if (!is_late) /* by our clock and for now; the roll-up may begin before we commit */
        e = hour_lock_shared(h->db, hour, err);
    if (!is_late && e == ERR_OK)
        e = db_query(h->db, "aggregated_select", "SELECT 1 FROM aggregated_hours WHERE hour = $1", row, 1,
                     any_row, &is_late, err);
    if (e || !is_late)
        return e;
    /* It changes even when it is there: a roll-up that has read the hour just now must notice. */
    return db_insert(h->db, "dirty_upsert", "dirty_hours", "hour,since", row, ARRAY_LEN(row), 1,
                     "ON CONFLICT (hour) DO UPDATE SET since = CASE WHEN excluded.since > dirty_hours.since "
                     "THEN excluded.since ELSE dirty_hours.since + 1 END",
                     err);
}

static enum err_code mark_hours(struct history *h, struct err *err)
{
    struct wall now = h->now(h->user);
    enum err_code e = ERR_OK;

    fold_table_clear(&h->hours);
    for (size_t i = 0; i < h->lines.n && e == ERR_OK; i++) {
        int64_t minute = fold_key(&h->lines, i)[KEY_MINUTE], hour = minute - minute % HOUR_S;
        size_t before = h->hours.n;

        (void)fold_table_at(&h->hours, &hour);
        if (h->hours.n != before)
            e = mark_hour(h, hour, now, err);
    }
    return e;
}

/* ---- stories, first answers ---- */

static enum err_code write_stories(struct history *h, struct err *err)
{
    struct db_value values[ROWS * 5];
    char ids[ROWS][ID_TEXT_CAP];
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < h->n_stories && e == ERR_OK && !h->without_stories; i += ROWS) {
        size_t n = h->n_stories - i < ROWS ? h->n_stories - i : ROWS;

        for (size_t j = 0; j < n; j++) {
            const struct story *s = &h->stories[i + j];
            struct db_value *c = values + j * 5;

            id_format(&s->id, ids[j]);
            c[0] = db_textz(ids[j]);
            c[1] = db_int(s->at_us);
            c[2] = label_value(s->tenant);
            c[3] = label_value(s->key);
            c[4] = db_text(span_make(h->texts.p + s->offset, s->len));
        }
        e = db_insert(h->db, "requests_insert", "requests", "id,at,tenant,key,story", values, 5, n,
                      "ON CONFLICT (id) DO NOTHING", err);
    }
    /* A story that the store does not understand must not hold up the money for ever. */
    if (e == ERR_BAD_REQUEST) {
        log_error("history: %s; %zu stories are left out", err_text(err), h->n_stories);
        h->without_stories = true;
    }
    return e;
}

static enum err_code write_first_answer(struct history *h, label tenant, struct err *err)
{
    struct db_value row[] = {db_int(h->now(h->user).us / SECOND_US), label_value(tenant),
                             db_textz("first_answer"), db_textz("{}")};
    bool is_known = false;
    enum err_code e =
        db_query(h->db, "first_answer_select",
                 "SELECT 1 FROM tenant_events WHERE tenant = $1 AND kind = 'first_answer' LIMIT 1", row + 1,
                 1, any_row, &is_known, err);

    if (e == ERR_OK && !is_known)
        e = db_insert(h->db, "first_answer_insert", "tenant_events", "at,tenant,kind,detail", row,
                      ARRAY_LEN(row), 1, "", err);
    return e;
}

static enum err_code write_first_answers(struct history *h, struct err *err)
{
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < h->answered.n && e == ERR_OK; i++) {
        const int64_t *tenant = fold_key(&h->answered, i);

        if (fold_table_find(&h->had_answer, tenant) == h->had_answer.n)
            e = write_first_answer(h, (label)*tenant, err);
    }
    return e;
}

/* A row that is there already stays. */
static enum err_code write_users(struct history *h, struct err *err)
{
    struct db_value values[ROWS * 3];
    char hashes[ROWS][USER_HASH_CAP];
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < h->users.n && e == ERR_OK; i += ROWS) {
        size_t n = h->users.n - i < ROWS ? h->users.n - i : ROWS;

        for (size_t j = 0; j < n; j++) {
            const int64_t *k = fold_key(&h->users, i + j);

            (void)snprintf(hashes[j], sizeof(hashes[j]), "%016" PRIx64 "%016" PRIx64, (uint64_t)k[2],
                           (uint64_t)k[3]);
            values[3 * j] = db_int(k[0]);
            values[3 * j + 1] = label_value((label)k[1]);
            values[3 * j + 2] = db_textz(hashes[j]);
        }
        e = db_insert(h->db, "active_users_insert", "active_users", "day,tenant,user_hash", values, 3, n,
                      "ON CONFLICT (day, tenant, user_hash) DO NOTHING", err);
    }
    return e;
}

void history_wrote(struct history *h)
{
    if (h->had_user.n > USERS_KNOWN)
        fold_table_clear(&h->had_user);
    for (size_t i = 0; i < h->users.n; i++)
        (void)fold_table_at(&h->had_user, fold_key(&h->users, i));
    for (size_t i = 0; i < h->answered.n; i++)
        (void)fold_table_at(&h->had_answer, fold_key(&h->answered, i));
}

/* ---- budgets ---- */

static int by_account(const void *a, const void *b)
{
    const struct fold_window *x = a, *y = b;
    int c = strcmp(x->account, y->account);

    if (!c)
        c = strcmp(x->period, y->period);
    return c ? c : strcmp(x->window, y->window);
}

/* Names are joined by '/', so two keys may have one account; one statement must not meet a row twice. */
static size_t join_windows(struct fold_window *w, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        if (kept && by_account(&w[kept - 1], &w[i]) == 0) {
            fold_add(&w[kept - 1].posted_nano, w[i].posted_nano);
            fold_add(&w[kept - 1].held_nano, w[i].held_nano);
        } else {
            w[kept++] = w[i];
        }
    }
    return kept;
}

static size_t gather_windows(struct history *h)
{
    size_t n = 0;

    if (h->budgets.n > h->cap_windows) {
        h->windows = realloc(h->windows, h->budgets.n * sizeof(*h->windows));
        if (!h->windows)
            abort();
        h->cap_windows = h->budgets.n;
    }
    for (size_t i = 0; i < h->budgets.n; i++)
        n += fold_window_of(&h->budgets, i, &h->windows[n]);
    if (n)
        qsort(h->windows, n, sizeof(*h->windows), by_account);
    return join_windows(h->windows, n);
}

static enum err_code write_budgets(struct history *h, struct err *err)
{
    struct db_value values[ROWS * 8];
    int64_t now_s = h->now(h->user).us / SECOND_US;
    size_t n_windows = gather_windows(h);
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < n_windows && e == ERR_OK; i += ROWS) {
        size_t n = n_windows - i < ROWS ? n_windows - i : ROWS;

        for (size_t j = 0; j < n; j++) {
            const struct fold_window *b = &h->windows[i + j];
            struct db_value *c = values + j * 8;

            c[0] = db_textz(b->account);
            c[1] = db_textz(b->period);
            c[2] = db_textz(b->window);
            c[3] = db_int(b->posted_nano);
            c[4] = db_int(b->held_nano);
            c[5] = b->ends_s ? db_int(b->ends_s) : db_null();
            c[6] = db_int(now_s);
            c[7] = db_int(b->starts_s);
        }
        e = db_insert(h->db, "budgets_upsert", "budget_windows",
                      "account,period,window_id,posted_nano,held_nano,ends_at,updated_at,starts_at", values,
                      8, n,
                      "ON CONFLICT (account, period, window_id) DO UPDATE SET "
                      "posted_nano = budget_windows.posted_nano + excluded.posted_nano, "
                      "held_nano = budget_windows.held_nano + excluded.held_nano, "
                      "ends_at = excluded.ends_at, starts_at = excluded.starts_at, "
                      "updated_at = excluded.updated_at",
                      err);
    }
    return e;
}

/* ---- all of it ---- */

enum err_code history_write(struct history *h, uint64_t seq, struct err *err)
{
    enum err_code e = write_ledger(h, seq, err);

    CRASH_POINT(history_after_ledger);
    if (e == ERR_OK)
        e = write_sketches(h, err);
    CRASH_POINT(history_after_sketches);
    if (e == ERR_OK)
        e = mark_hours(h, err);
    if (e == ERR_OK)
        e = write_stories(h, err);
    if (e == ERR_OK)
        e = write_first_answers(h, err);
    if (e == ERR_OK)
        e = write_users(h, err);
    CRASH_POINT(history_after_stories);
    if (e == ERR_OK)
        e = write_budgets(h, err);
    CRASH_POINT(history_after_budgets);
    return e;
}
