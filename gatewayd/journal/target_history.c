/* SPDX-License-Identifier: Apache-2.0 */
/* The history store's target: the ledger and all that is derived from it by the same transaction. Writer's thread; the
 * target owns its handle and the batch, whose memory it keeps from batch to batch.
 *
 * Invariant: rows of a batch and the watermark that says so commit together or not at all. Nothing in the batch changes
 * by applying it, so that it can be applied again when the fate of the first try is unknown.
 */
#include "gatewayd/journal/targets.h"

#include <inttypes.h>
#include <stdlib.h>

#include "gatewayd/journal/history_priv.h"
#include "gatewayd/telemetry/sink_log.h"
#include "libshared/base/crash.h"
#include "libshared/base/log.h"

#define MINUTE_S    60
#define LINES_MAX   4096u /* rows of a batch: a transaction stays well under a second */
#define STORIES_MAX 4096u
#define STORY_BYTES ((size_t)8 << 20)
#define SPANS_MAX   512u /* minutes times models, each with two sketches */
#define STORIES_US  ((int64_t)7 * 86400 * SECOND_US)
#define STORIES_N   1000000u

static struct wall clock_now(void *user)
{
    (void)user;
    return wall_now();
}

/* ---- taking ---- */

static int64_t floor_to(struct wall t, int64_t seconds)
{
    int64_t s = t.us / SECOND_US;

    return s - s % seconds;
}

static void line_key(const struct fold_line *l, int64_t key[LINE_KEY])
{
    uint64_t how = (uint64_t)l->kind << HOW_KIND | (uint64_t)l->status << HOW_STATUS |
                   (uint64_t)l->end << HOW_END | (uint64_t)l->source << HOW_SOURCE | (uint64_t)l->error;

    key[KEY_MINUTE] = floor_to(l->ended, MINUTE_S);
    key[KEY_HOUR] = floor_to(l->reserved, QUARTER_S);
    key[KEY_WHO] = fold_pair(l->tenant, l->key);
    key[KEY_WHAT] = fold_pair(l->provider, l->model);
    key[KEY_HOW] = (int64_t)((uint64_t)l->endpoint << 32 | how);
}

static struct span_sketches *sketches_at(struct history *h, int64_t minute, int64_t what)
{
    int64_t key[2] = {minute, what}, *v;
    size_t before = h->spans.n;

    v = fold_table_at(&h->spans, key);
    if (h->spans.n != before)
        v[0] = (int64_t)before;
    if (h->spans.n > h->n_sketches) {
        h->sketches = realloc(h->sketches, h->spans.n * sizeof(*h->sketches));
        if (!h->sketches)
            abort();
        h->sketches[h->n_sketches++] = (struct span_sketches){0};
    }
    return &h->sketches[v[0]];
}

static void take_line(struct history *h, const struct journal_record *rec)
{
    struct fold_line l;
    int64_t key[LINE_KEY], *v;

    if (!fold_line_of(rec, &l))
        return;
    line_key(&l, key);
    v = fold_table_at(&h->lines, key);
    for (unsigned i = 0; i < FOLD_VALUES; i++)
        fold_add(&v[i], l.v[i]);
    if (l.kind == FOLD_ATTEMPT) {
        struct span_sketches *s = sketches_at(h, key[KEY_MINUTE], key[KEY_WHAT]);

        if (sketch_add(&s->latency, l.v[FOLD_LATENCY]) ||
            (l.v[FOLD_TTFT_COUNT] && sketch_add(&s->ttft, l.v[FOLD_TTFT])))
            abort();
    }
}

static struct story *next_story(struct history *h)
{
    if (h->n_stories == h->cap_stories) {
        h->cap_stories = h->cap_stories ? 2 * h->cap_stories : 64;
        h->stories = realloc(h->stories, h->cap_stories * sizeof(*h->stories));
        if (!h->stories)
            abort();
    }
    return &h->stories[h->n_stories++];
}

/* By the time of the facts, so that catching up keeps no more than being in time. Refusals are bounded like successes: a flood of
 * them would push out all other stories, and is written faster than it can be stored. */
static bool is_worth_a_story(struct history *h, const struct fact_request *rq)
{
    int64_t second = fact_request_ended(rq).us / SECOND_US;
    size_t i = (uint64_t)second % STORY_SECONDS;
    bool is_refusal = rq->status == STATUS_REJECTED;

    if (!h->stories_per_second || (rq->status != STATUS_SUCCESS && !is_refusal))
        return true;
    if (h->seconds[i].second != second) {
        h->seconds[i].second = second;
        h->seconds[i].kept[0] = h->seconds[i].kept[1] = 0;
    }
    return h->seconds[i].kept[is_refusal]++ < h->stories_per_second;
}

static void take_story(struct history *h, const struct journal_record *rec)
{
    const struct fact_request *rq = &rec->settle.rq;
    struct recorded r = {.rq = rq,
                         .a = rec->settle.a,
                         .n = rq->attempts < FACT_ATTEMPTS ? rq->attempts : FACT_ATTEMPTS,
                         .is_recovered = rec->is_recovered};
    struct story *s = next_story(h);

    *s = (struct story){rq->id, rq->arrived.us, rq->tenant, rq->key, h->texts.len, 0};
    sink_log_format(&h->texts, &r);
    s->len = h->texts.len - s->offset;
}

static bool hex_word(const char *hex, int64_t *out)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef", *at = hex[i] ? strchr(digits, hex[i]) : NULL;

        if (!at)
            return false;
        v = v << 4 | (uint64_t)(at - digits);
    }
    *out = (int64_t)v;
    return true;
}

/* Of requests that were answered, on the day they came. */
static void take_user(struct history *h, const struct fact_request *rq)
{
    int64_t key[USER_KEY] = {rq->arrived.us / SECOND_US / DAY_S * DAY_S, rq->tenant};

    if (rq->user[0] && rq->tenant && rq->status == STATUS_SUCCESS && hex_word(rq->user, &key[2]) &&
        hex_word(rq->user + 16, &key[3]) && fold_table_find(&h->had_user, key) == h->had_user.n)
        (void)fold_table_at(&h->users, key);
}

static void history_take(void *self, const struct journal_record *rec)
{
    struct history *h = self;

    take_line(h, rec);
    fold_budgets(&h->budgets, rec);
    if (rec->type != JOURNAL_SETTLE)
        return;
    take_user(h, &rec->settle.rq);
    if (is_worth_a_story(h, &rec->settle.rq))
        take_story(h, rec);
    if (rec->settle.rq.status == STATUS_SUCCESS && rec->settle.rq.tenant)
        (void)fold_table_at(&h->answered, &(int64_t){rec->settle.rq.tenant});
}

static bool history_is_full(void *self)
{
    struct history *h = self;

    return h->lines.n >= LINES_MAX || h->n_stories >= STORIES_MAX || h->texts.len >= STORY_BYTES / 2 ||
           h->users.n >= LINES_MAX || h->spans.n >= SPANS_MAX || h->budgets.n >= LINES_MAX;
}

static void history_begin(void *self)
{
    struct history *h = self;

    fold_table_clear(&h->lines);
    fold_table_clear(&h->budgets);
    fold_table_clear(&h->answered);
    fold_table_clear(&h->users);
    for (size_t i = 0; i < h->spans.n; i++) {
        sketch_clear(&h->sketches[i].latency);
        sketch_clear(&h->sketches[i].ttft);
    }
    fold_table_clear(&h->spans);
    h->n_stories = 0;
    h->without_stories = false;
    buf_clear(&h->texts);
}

/* ---- the watermark ---- */

struct reading {
    struct watermark mark;
    bool found, is_bad;
};

static bool read_mark(void *user, const struct db_value *c, unsigned n)
{
    struct reading *r = user;

    r->found = true;
    r->is_bad = n != 3 || !watermark_parse_positions(&r->mark, c[2].s);
    r->mark.batch = (uint64_t)c[0].i;
    r->mark.token = (uint64_t)c[1].i;
    return false;
}

static enum err_code select_mark(struct history *h, bool is_locking, struct reading *out, struct err *err)
{
    struct db_value who = db_textz(h->instance);
    const char *sql =
        is_locking && db_dialect(h->db) == DB_POSTGRES
            ? "SELECT batch, token, positions FROM journal_watermarks WHERE instance = $1 FOR UPDATE"
            : "SELECT batch, token, positions FROM journal_watermarks WHERE instance = $1";
    enum err_code e;

    *out = (struct reading){0};
    e = db_query(h->db, "watermark_select", sql, &who, 1, read_mark, out, err);
    if (e == ERR_BAD_REQUEST)
        h->is_migrated = false; /* the table is gone: somebody made the database anew */
    if (e == ERR_OK && out->is_bad)
        e = err_set(err, ERR_IO, "the positions of '%s' in journal_watermarks make no sense", h->instance);
    return e;
}

static enum err_code make_schema(struct history *h, struct err *err)
{
    enum err_code e = h->is_migrated ? ERR_OK : db_migrate(h->db, err);

    h->is_migrated = e == ERR_OK;
    return e;
}

static enum err_code history_watermark(void *self, struct watermark *out, struct err *err)
{
    struct history *h = self;
    struct reading r;
    enum err_code e = make_schema(h, err);

    fold_table_clear(&h->had_answer); /* it may be another database than before */
    if (e == ERR_OK)
        e = select_mark(h, false, &r, err);
    if (e == ERR_OK)
        *out = r.mark;
    return e;
}

/* Of the first two batches of an instance none finds a row to lock; the later one must not pass for the next. */
static enum err_code upsert_mark(struct history *h, const struct watermark *from,
                                 const struct watermark *next, struct err *err)
{
    struct buf text AUTO(buf_release) = {0};
    int64_t changed = 0;
    enum err_code e;

    watermark_format_positions(next, &text);
    struct db_value v[] = {
        db_textz(h->instance),       db_int((int64_t)next->batch),           db_int((int64_t)next->token),
        db_text(buf_span(&text)),    db_int(h->now(h->user).us / SECOND_US), db_int((int64_t)from->batch),
        db_int((int64_t)from->token)};
    e = db_exec(h->db, "watermark_upsert",
                "INSERT INTO journal_watermarks (instance, batch, token, positions, updated_at) "
                "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (instance) DO UPDATE SET batch = excluded.batch, "
                "token = excluded.token, positions = excluded.positions, updated_at = excluded.updated_at "
                "WHERE journal_watermarks.batch = $6 AND journal_watermarks.token = $7",
                v, ARRAY_LEN(v), &changed, err);
    return e || changed == 1 ? e : err_set(err, ERR_CONFLICT, "another batch came in between");
}

/* ---- the transaction ---- */

static enum err_code write_all(struct history *h, const struct watermark *from, const struct watermark *next,
                               struct err *err)
{
    enum err_code e = history_write(h, next->batch, err);

    if (e == ERR_OK)
        e = upsert_mark(h, from, next, err);
    CRASH_POINT(history_before_commit);
    return e;
}

static enum store_result compare(const struct reading *r, const struct watermark *from,
                                 const struct watermark *next)
{
    if (r->mark.batch == next->batch && r->mark.token == next->token)
        return STORE_DUPLICATE;
    return r->mark.batch == from->batch && r->mark.token == from->token ? STORE_APPLIED : STORE_MISMATCH;
}

static enum store_result apply_in_transaction(struct history *h, const struct watermark *from,
                                              const struct watermark *next, struct err *err)
{
    struct reading r;
    enum store_result result;

    if (select_mark(h, true, &r, err))
        return STORE_FAILED;
    result = compare(&r, from, next);
    if (result == STORE_APPLIED && (write_all(h, from, next, err) || db_commit(h->db, err)))
        result = STORE_FAILED;
    return result;
}

static enum store_result history_apply(void *self, const struct watermark *from, const struct watermark *next,
                                       struct err *err)
{
    struct history *h = self;
    enum store_result result;

    CRASH_POINT(history_before_begin);
    if (make_schema(h, err) || db_begin(h->db, err))
        return STORE_FAILED;
    result = apply_in_transaction(h, from, next, err);
    if (db_in_transaction(h->db))
        db_rollback(h->db);
    if (result == STORE_APPLIED) {
        CRASH_POINT(history_after_commit);
        history_wrote(h);
    }
    return result;
}

/* ---- life ---- */

static void history_free(void *self)
{
    struct history *h = self;

    db_free(h->db);
    fold_table_release(&h->lines);
    fold_table_release(&h->budgets);
    fold_table_release(&h->spans);
    fold_table_release(&h->answered);
    fold_table_release(&h->users);
    fold_table_release(&h->had_user);
    fold_table_release(&h->hours);
    fold_table_release(&h->had_answer);
    for (size_t i = 0; i < h->n_sketches; i++) {
        sketch_release(&h->sketches[i].latency);
        sketch_release(&h->sketches[i].ttft);
    }
    sketch_release(&h->merged);
    buf_release(&h->texts);
    buf_release(&h->blobs);
    free(h->sketches);
    free(h->stories);
    free(h->windows);
    free(h);
}

void *target_history_new(const struct history_options *o, struct err *err)
{
    struct history *h = calloc(1, sizeof(*h));

    (void)err;
    if (!h)
        abort();
    h->db = o->db;
    h->instance = o->instance;
    h->stories_per_second = o->stories_per_second;
    h->stories_max = o->stories_max ? o->stories_max : STORIES_N;
    h->stories_us = o->stories_us ? o->stories_us : STORIES_US;
    h->now = o->now ? o->now : clock_now;
    h->user = o->user;
    fold_table_init(&h->lines, LINE_KEY, FOLD_VALUES);
    fold_table_init(&h->budgets, FOLD_BUDGET_KEY, FOLD_BUDGET_VALUES);
    fold_table_init(&h->spans, 2, 1);
    fold_table_init(&h->answered, 1, 0);
    fold_table_init(&h->users, USER_KEY, 0);
    fold_table_init(&h->had_user, USER_KEY, 0);
    fold_table_init(&h->hours, 1, 0);
    fold_table_init(&h->had_answer, 1, 0);
    buf_init(&h->texts, STORY_BYTES);
    return h;
}

const struct target_ops TARGET_HISTORY = {
    .name = "history",
    .types = 1u << JOURNAL_RESERVE | 1u << JOURNAL_ATTEMPT | 1u << JOURNAL_SETTLE | 1u << JOURNAL_ADJUST,
    .watermark = history_watermark,
    .begin = history_begin,
    .take = history_take,
    .is_full = history_is_full,
    .apply = history_apply,
    .idle = history_idle,
    .free = history_free,
};
