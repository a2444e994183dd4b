/* SPDX-License-Identifier: Apache-2.0 */
/* The realtime store's target: sums of a batch by ten seconds and by the hour, errors, what tenants do now, budgets.
 * Writer's thread; the target owns its handles and the batch.
 *
 * Records are folded by ten seconds only; hours are sums of those, made when the batch is built. It is built once, on
 * the first try to apply it, and sent again as it is. */
#include "gatewayd/journal/targets.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gatewayd/journal/realtime_priv.h"
#include "libshared/analytics/sketch.h"
#include "libshared/base/crash.h"
#include "libshared/base/log.h"
#include "libshared/store/kv_keys.h"
#include "libshared/store/measures.h"

#define SPANS_MAX                                                                                            \
    512u /* each is two hashes, and few more for providers; the script that takes a batch stays under 100 ms */
#define BUCKETS_MAX 4096u
#define ROWS_MAX    2048u
#define ERRORS_MAX  1024u
#define ERRORS_TEXT ((size_t)2 << 20)
#define BEAT_US     (5 * SECOND_US)
#define RETENTION_H 4
#define TELL_US     (60 * SECOND_US) /* between two reports of refused keys */

static struct wall clock_now(void *user)
{
    (void)user;
    return wall_now();
}

static void sums_init(struct realtime_sums *s)
{
    fold_table_init(&s->spans, 2, MEASURE_COUNT);
    fold_table_init(&s->buckets, 3, 1);
    fold_table_init(&s->tenants, 2, TENANT_VALUES);
}

static void sums_release(struct realtime_sums *s)
{
    fold_table_release(&s->spans);
    fold_table_release(&s->buckets);
    fold_table_release(&s->tenants);
}

void realtime_sums_clear(struct realtime_sums *s)
{
    fold_table_clear(&s->spans);
    fold_table_clear(&s->buckets);
    fold_table_clear(&s->tenants);
}

/* ---- taking ---- */

static int64_t floor_to(int64_t s, int64_t step)
{
    return s - s % step;
}

/* Of its provider and model; a request that reached none is in the ledger and in nobody's hour. */
static void take_span(struct realtime *r, const struct fold_line *l, int64_t ten)
{
    int64_t key[3] = {ten, fold_pair(l->provider, l->model)};

    fold_measures(l->kind, l->status, l->v, fold_table_at(&r->tens.spans, key));
    if (l->kind == FOLD_ATTEMPT) {
        key[2] = sketch_bucket(l->v[FOLD_LATENCY] < 0 ? 0 : (uint64_t)l->v[FOLD_LATENCY]);
        fold_add(fold_table_at(&r->tens.buckets, key), 1);
    }
}

static void take_tenant(struct realtime *r, const struct fold_line *l, int64_t ten)
{
    int64_t key[2] = {floor_to(ten, HOUR_S), fold_pair(l->tenant, l->key)};
    int64_t *v = fold_table_at(&r->tens.tenants, key);

    fold_add(&v[TENANT_REQ], 1);
    fold_add(&v[TENANT_TOK], l->v[FOLD_IN]);
    fold_add(&v[TENANT_TOK], l->v[FOLD_OUT]);
    fold_add(&v[TENANT_COST], l->v[FOLD_COST]);
}

static void take_line(struct realtime *r, const struct journal_record *rec)
{
    struct fold_line l;
    int64_t ten;

    if (!fold_line_of(rec, &l) || l.kind == FOLD_RESET)
        return;
    ten = floor_to(l.ended.us / SECOND_US, TEN_S);
    if (l.provider)
        take_span(r, &l, ten);
    if (l.kind == FOLD_REQUEST && l.tenant)
        take_tenant(r, &l, ten);
}

static struct realtime_error *next_error(struct realtime *r)
{
    if (r->n == r->cap_errors) {
        r->cap_errors = r->cap_errors ? 2 * r->cap_errors : 64;
        r->errors = realloc(r->errors, r->cap_errors * sizeof(*r->errors));
        if (!r->errors)
            abort();
    }
    return &r->errors[r->n++];
}

static void put_member(struct buf *b, const char *name, const char *text)
{
    buf_addf(b, ",\"%s\":", name);
    if (text && *text)
        buf_add_json(b, span_of(text));
    else
        buf_addz(b, "null");
}

/* What the caller was told belongs to the last attempt. */
static void take_error(struct realtime *r, const struct fact_request *rq, const struct fact_attempt *a,
                       bool is_last)
{
    struct wall at = {rq->arrived.us + a->started_us + a->duration_us};
    struct realtime_error *e = next_error(r);
    char when[WALL_TEXT_CAP], id[ID_TEXT_CAP];
    struct buf *b = &r->texts;

    *e = (struct realtime_error){a->provider, b->len, 0};
    id_format(&rq->id, id);
    (void)wall_format(at, when, sizeof(when));
    buf_addf(b, "{\"at\":\"%s\"", when);
    put_member(b, "model", label_text(a->model));
    put_member(b, "error", err_row(a->error)->code);
    buf_addf(b, ",\"http_status\":%u,\"latency_ms\":%.3f", a->http_status, (double)a->duration_us / 1000);
    buf_addf(b, ",\"latency_ms\":%" PRId64, a->duration_us / 1000);
    put_member(b, "request", id);
    put_member(b, "tenant", label_text(rq->tenant));
    put_member(b, "key", label_text(rq->key));
    put_member(b, "detail", is_last ? rq->detail : NULL);
    buf_addc(b, '}');
    e->len = b->len - e->offset;
    fold_add(fold_table_at(&r->n_errors, &(int64_t){a->provider}), 1);
}

static void take_errors(struct realtime *r, const struct journal_record *rec)
{
    const struct fact_request *rq = &rec->settle.rq;
    unsigned n = rq->attempts < FACT_ATTEMPTS ? rq->attempts : FACT_ATTEMPTS;

    for (unsigned i = 0; i < n; i++)
        if (rec->settle.a[i].status == STATUS_ERROR)
            take_error(r, rq, &rec->settle.a[i], i + 1 == n);
}

static void realtime_take(void *self, const struct journal_record *rec)
{
    struct realtime *r = self;

    take_line(r, rec);
    fold_budgets(&r->budgets, rec);
    if (rec->type == JOURNAL_SETTLE)
        take_errors(r, rec);
}

static bool realtime_is_full(void *self)
{
    struct realtime *r = self;

    return r->tens.spans.n >= SPANS_MAX || r->tens.buckets.n >= BUCKETS_MAX ||
           r->tens.tenants.n >= ROWS_MAX || r->budgets.n >= ROWS_MAX || r->n >= ERRORS_MAX;
}

static void realtime_begin(void *self)
{
    struct realtime *r = self;

    realtime_sums_clear(&r->tens);
    fold_table_clear(&r->budgets);
    fold_table_clear(&r->n_errors);
    r->n = 0;
    buf_clear(&r->texts);
    r->is_built = false;
}

/* ---- building ---- */

/* Fields that came to nothing are left out, so that an hour looks the same however it came about. */
static void put_measures(struct kv_batch *b, const char *key, const int64_t *m)
{
    for (unsigned i = 0; i < MEASURE_COUNT; i++)
        if (m[i])
            kv_batch_add(b, key, measure_name((enum measure)i), m[i]);
}

static void put_bucket(struct kv_batch *b, const char *key, int64_t bucket, int64_t n)
{
    char field[16];

    (void)snprintf(field, sizeof(field), "b%" PRId64, bucket);
    kv_batch_add(b, key, field, n);
}

typedef void key_fn(char dst[KV_KEY_CAP], struct wall t, const char *provider, const char *model);

static void key_of(const int64_t *k, key_fn *fn, char dst[KV_KEY_CAP])
{
    fn(dst, (struct wall){k[0] * SECOND_US}, label_text(fold_high(k[1])), label_text(fold_low(k[1])));
}

/* Hashes of `s`, whose spans live for `ttl_s` from their start. */
static void put_spans(const struct realtime_sums *s, struct kv_batch *b, key_fn *fn, int64_t ttl_s,
                      int64_t now_s)
{
    char key[KV_KEY_CAP];

    for (size_t i = 0; i < s->spans.n; i++) {
        const int64_t *k = fold_key(&s->spans, i);

        if (k[0] + ttl_s <= now_s)
            continue;
        key_of(k, fn, key);
        put_measures(b, key, fold_values(&s->spans, i));
        kv_batch_expire(b, key, k[0] + ttl_s - now_s, false);
    }
    for (size_t i = 0; i < s->buckets.n; i++) {
        const int64_t *k = fold_key(&s->buckets, i);

        if (k[0] + ttl_s <= now_s)
            continue;
        key_of(k, fn, key);
        put_bucket(b, key, k[2], *fold_values(&s->buckets, i));
    }
}

static void put_indexes(const struct realtime_sums *s, struct kv_batch *b, int64_t keep_s, int64_t now_s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->spans.n; i++) {
        const int64_t *k = fold_key(&s->spans, i);
        char hour[KV_HOUR_CAP], model[2 * 128 + 8];

        if (k[0] + keep_s <= now_s)
            continue;
        kv_hour_text((struct wall){k[0] * SECOND_US}, hour);
        kv_batch_index(b, KV_HOURS, hour, k[0]);
        (void)snprintf(model, sizeof(model), "%s %s", label_text(fold_high(k[1])),
                       label_text(fold_low(k[1])));
        kv_batch_index(b, KV_MODELS, model, now_s);
        n++;
    }
    if (!n)
        return;
    kv_batch_expire(b, KV_HOURS, keep_s + HOUR_S, false);
    kv_batch_expire(b, KV_MODELS, keep_s + HOUR_S, false);
}

void realtime_put_hours(const struct realtime *r, const struct realtime_sums *s, struct kv_batch *b,
                        struct wall now)
{
    int64_t keep_s = HOUR_S + r->retention_us / SECOND_US, now_s = now.us / SECOND_US;

    put_spans(s, b, kv_key_hour, keep_s, now_s);
    put_indexes(s, b, keep_s, now_s);
}

void realtime_put_tenants(const struct realtime_sums *s, struct kv_batch *b)
{
    static const char *const NAMES[TENANT_VALUES] = {"req", "tok", "cost"};

    for (size_t i = 0; i < s->tenants.n; i++) {
        const int64_t *k = fold_key(&s->tenants, i), *v = fold_values(&s->tenants, i);
        char key[KV_KEY_CAP], field[2 * 128 + 16];

        kv_key_tenants(key, (struct wall){k[0] * SECOND_US});
        for (unsigned j = 0; j < TENANT_VALUES; j++) {
            (void)snprintf(field, sizeof(field), "%s/%s %s", label_text(fold_high(k[1])),
                           label_text(fold_low(k[1])), NAMES[j]);
            if (v[j])
                kv_batch_add(b, key, field, v[j]);
        }
        kv_batch_expire(b, key, KV_TTL_LIVE_S, false);
    }
}

/* Live views ask for providers: without these, each would read every model of it. */
static void sum_providers(struct realtime *r)
{
    realtime_sums_clear(&r->hours);
    for (size_t i = 0; i < r->tens.spans.n; i++) {
        const int64_t *k = fold_key(&r->tens.spans, i), *from = fold_values(&r->tens.spans, i);
        int64_t key[2] = {k[0], fold_pair(fold_high(k[1]), 0)}, *v = fold_table_at(&r->hours.spans, key);

        for (unsigned m = 0; m < MEASURE_COUNT; m++)
            fold_add(&v[m], from[m]);
    }
    for (size_t i = 0; i < r->tens.buckets.n; i++) {
        const int64_t *k = fold_key(&r->tens.buckets, i);
        int64_t key[3] = {k[0], fold_pair(fold_high(k[1]), 0), k[2]};

        fold_add(fold_table_at(&r->hours.buckets, key), *fold_values(&r->tens.buckets, i));
    }
}

static void key_provider(char dst[KV_KEY_CAP], struct wall t, const char *provider, const char *model)
{
    (void)model;
    kv_key_provider(dst, t, provider);
}

static void sum_hours(struct realtime *r)
{
    realtime_sums_clear(&r->hours);
    for (size_t i = 0; i < r->tens.spans.n; i++) {
        const int64_t *k = fold_key(&r->tens.spans, i), *from = fold_values(&r->tens.spans, i);
        int64_t key[2] = {floor_to(k[0], HOUR_S), k[1]}, *v = fold_table_at(&r->hours.spans, key);

        for (unsigned m = 0; m < MEASURE_COUNT; m++)
            fold_add(&v[m], from[m]);
    }
    for (size_t i = 0; i < r->tens.buckets.n; i++) {
        const int64_t *k = fold_key(&r->tens.buckets, i);
        int64_t key[3] = {floor_to(k[0], HOUR_S), k[1], k[2]};

        fold_add(fold_table_at(&r->hours.buckets, key), *fold_values(&r->tens.buckets, i));
    }
}

/* The newest come last; of each provider only as many as the list keeps. */
static void put_errors(struct realtime *r, struct kv_batch *b)
{
    char key[KV_KEY_CAP];

    for (size_t i = 0; i < r->n; i++) {
        int64_t *left = fold_table_at(&r->n_errors, &(int64_t){r->errors[i].provider});

        if ((*left)-- > (int64_t)KV_ERRORS_KEPT)
            continue;
        kv_key_errors(key, label_text(r->errors[i].provider));
        kv_batch_push(b, key, span_make(r->texts.p + r->errors[i].offset, r->errors[i].len), KV_ERRORS_KEPT);
        kv_batch_expire(b, key, KV_TTL_ERRORS_S, false);
    }
}

/* A window that is long over is not written again: nothing enforces it. */
static void put_budgets(const struct realtime *r, struct kv_batch *b, int64_t now_s)
{
    struct fold_window w;
    char key[KV_KEY_CAP], lease[INSTANCE_CAP + 4];

    (void)snprintf(lease, sizeof(lease), "l:%s", r->instance);
    for (size_t i = 0; i < r->budgets.n; i++) {
        if (!fold_window_of(&r->budgets, i, &w))
            continue;
        if (w.ends_s && w.ends_s + KV_TTL_BUDGET_S <= now_s)
            continue;
        kv_key_budget(key, w.account, w.window);
        if (w.posted_nano)
            kv_batch_add(b, key, "posted", w.posted_nano);
        if (w.held_nano)
            kv_batch_add(b, key, "held", w.held_nano);
        if (w.settled_nano > 0) /* what this node had leased for it: see kv_lease.h */
            kv_batch_drain(b, key, lease, "leased", w.settled_nano);
        kv_batch_expire(b, key, w.ends_s ? w.ends_s - now_s + KV_TTL_BUDGET_S : KV_TTL_TOTAL_S, false);
    }
}

static void build(struct realtime *r)
{
    struct wall now = r->now(r->user);
    int64_t now_s = now.us / SECOND_US;

    kv_batch_clear(r->batch);
    put_spans(&r->tens, r->batch, kv_key_ten, KV_TTL_TEN_S, now_s);
    sum_providers(r);
    put_spans(&r->hours, r->batch, key_provider, KV_TTL_TEN_S, now_s);
    sum_hours(r);
    realtime_put_hours(r, &r->hours, r->batch, now);
    realtime_put_tenants(&r->tens, r->batch);
    put_errors(r, r->batch);
    put_budgets(r, r->batch, now_s);
    r->is_built = true;
}

/* A key of another type, or a sum that Redis cannot hold, would be refused for ever, and the journal would keep everything
 * behind it until nothing fits any more. This store is a copy: it lacks that key, and the comparison of the books shows it. */
bool realtime_leave_out(struct realtime *r, struct kv_batch *b, const struct err *err)
{
    struct wall now = r->now(r->user);
    bool is_due = now.us < r->refused_told.us || now.us - r->refused_told.us >= TELL_US;

    if (err->code != ERR_CONFLICT || !kv_batch_leave_out(b, kv_batch_refused(b)))
        return false;
    r->refused++;
    if (!is_due)
        return true;
    log_error("realtime store: %s; what belongs there is left out, the history store has it (%" PRIu64
              " keys since this was last told)",
              err_text(err), r->refused);
    r->refused_told = now;
    r->refused = 0;
    return true;
}

static enum store_result realtime_apply(void *self, const struct watermark *from,
                                        const struct watermark *next, struct err *err)
{
    struct realtime *r = self;
    enum store_result result;

    if (!r->is_built)
        build(r);
    CRASH_POINT(realtime_built);
    do
        result = kv_apply(r->kv, r->instance, from, next, r->batch, err);
    while (result == STORE_FAILED && realtime_leave_out(r, r->batch, err));
    CRASH_POINT(realtime_applied);
    return result;
}

static enum err_code realtime_watermark(void *self, struct watermark *out, struct err *err)
{
    struct realtime *r = self;
    bool found = false;
    enum err_code e = kv_watermark(r->kv, r->instance, out, &found, err);

    if (e == ERR_OK && !found) {
        *out = (struct watermark){0};
        e = realtime_refill(r, out, err);
    }
    return e;
}

/* ---- heartbeats ---- */

static void set_number(struct kv_batch *b, const char *key, const char *field, int64_t v)
{
    char text[24];

    kv_batch_set(b, key, field, span_make(text, (size_t)snprintf(text, sizeof(text), "%" PRId64, v)));
}

static void realtime_idle(void *self, struct wall now)
{
    struct realtime *r = self;
    char key[KV_KEY_CAP], mark[KV_KEY_CAP];
    struct err err = {0};

    if (now.us - r->beat.us < BEAT_US && now.us >= r->beat.us)
        return;
    r->beat = now;
    kv_key_instance(key, r->instance);
    kv_batch_clear(r->other);
    kv_batch_set(r->other, key, "name", span_of(r->name ? r->name : ""));
    kv_batch_set(r->other, key, "version", SPAN_LIT(GATEWAYD_VERSION));
    set_number(r->other, key, "pid", getpid());
    set_number(r->other, key, "started", r->started.us / SECOND_US);
    set_number(r->other, key, "seen", now.us / SECOND_US);
    kv_batch_expire(r->other, key, KV_TTL_INST_S, false);
    /* Who only has nothing to write is not taken for one that the store never heard of. */
    kv_key_watermark(mark, r->instance);
    kv_batch_expire(r->other, mark, KV_TTL_WATERMARK_S, false);
    kv_batch_expire(r->other, KV_BOOKS, KV_TTL_WATERMARK_S, false);
    if (kv_write(r->kv, r->other, &err))
        log_debug("realtime: heartbeat: %s", err_text(&err));
}

/* ---- life ---- */

static void realtime_free(void *self)
{
    struct realtime *r = self;

    kv_free(r->kv);
    db_free(r->refill);
    sums_release(&r->tens);
    sums_release(&r->hours);
    fold_table_release(&r->budgets);
    fold_table_release(&r->n_errors);
    kv_batch_free(r->batch);
    kv_batch_free(r->other);
    buf_release(&r->texts);
    free(r->errors);
    free(r);
}

void *target_realtime_new(const struct realtime_options *o, struct err *err)
{
    struct realtime *r = calloc(1, sizeof(*r));

    (void)err;
    if (!r)
        abort();
    r->kv = o->kv;
    r->refill = o->refill;
    r->instance = o->instance;
    r->name = o->name;
    r->retention_us = o->retention_us > 0 ? o->retention_us : RETENTION_H * HOUR_S * SECOND_US;
    r->now = o->now ? o->now : clock_now;
    r->user = o->user;
    r->started = r->now(r->user);
    sums_init(&r->tens);
    sums_init(&r->hours);
    fold_table_init(&r->budgets, FOLD_BUDGET_KEY, FOLD_BUDGET_VALUES);
    fold_table_init(&r->n_errors, 1, 1);
    r->batch = kv_batch_new();
    r->other = kv_batch_new();
    buf_init(&r->texts, ERRORS_TEXT);
    return r;
}

const struct target_ops TARGET_REALTIME = {
    .name = "realtime",
    .types = 1u << JOURNAL_RESERVE | 1u << JOURNAL_ATTEMPT | 1u << JOURNAL_SETTLE | 1u << JOURNAL_ADJUST,
    .watermark = realtime_watermark,
    .begin = realtime_begin,
    .take = realtime_take,
    .is_full = realtime_is_full,
    .apply = realtime_apply,
    .idle = realtime_idle,
    .free = realtime_free,
};
