/* SPDX-License-Identifier: Apache-2.0 */
/* Lines and tables of a batch. Writer's thread; a table belongs to its target and grows to the largest batch, whose size
 * the target bounds by is_full.
 *
 * The trick is in the windows: a reservation carries the instant that it was made and the periods of its accounts then, and
 * its end finds the same windows by them. So what was held is given back where it was held, and posted there too, whatever
 * the clock or the configuration did meanwhile. */
#include "gatewayd/journal/fold.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/store/measures.h"

#define SECOND_US   ((int64_t)1000000)
#define SLOTS_FIRST 64u

/* ---- tables ---- */

void fold_table_init(struct fold_table *t, unsigned n_key, unsigned n_value)
{
    assert(n_key <= FOLD_KEY_MAX);
    *t = (struct fold_table){.n_key = n_key, .n_value = n_value};
}

void fold_table_release(struct fold_table *t)
{
    free(t->rows);
    free(t->slots);
    fold_table_init(t, t->n_key, t->n_value);
}

void fold_table_clear(struct fold_table *t)
{
    if (t->n)
        memset(t->slots, 0, t->n_slots * sizeof(*t->slots));
    t->n = 0;
}

static size_t hash_of(const struct fold_table *t, const int64_t *key)
{
    uint64_t h = 0x9e3779b97f4a7c15u;

    for (unsigned i = 0; i < t->n_key; i++) {
        h = (h ^ (uint64_t)key[i]) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return (size_t)h;
}

/* The slot of the key's row, or the empty one where it belongs. */
static size_t slot_of(const struct fold_table *t, const int64_t *key)
{
    size_t at = hash_of(t, key) & (t->n_slots - 1);

    while (t->slots[at] && memcmp(fold_key(t, t->slots[at] - 1), key, t->n_key * sizeof(*key)) != 0)
        at = (at + 1) & (t->n_slots - 1);
    return at;
}

static void grow(struct fold_table *t)
{
    size_t width = t->n_key + t->n_value;

    t->cap = t->cap ? t->cap * 2 : SLOTS_FIRST / 2;
    t->n_slots = t->cap * 2;
    t->rows = realloc(t->rows, t->cap * width * sizeof(*t->rows));
    free(t->slots);
    t->slots = calloc(t->n_slots, sizeof(*t->slots));
    if (!t->rows || !t->slots)
        abort();
    for (size_t i = 0; i < t->n; i++)
        t->slots[slot_of(t, fold_key(t, i))] = (uint32_t)(i + 1);
}

int64_t *fold_table_at(struct fold_table *t, const int64_t *key)
{
    size_t at;

    if (t->n == t->cap)
        grow(t);
    at = slot_of(t, key);
    if (!t->slots[at]) {
        int64_t *row = t->rows + t->n * (t->n_key + t->n_value);

        memcpy(row, key, t->n_key * sizeof(*key));
        memset(row + t->n_key, 0, t->n_value * sizeof(*row));
        t->slots[at] = (uint32_t)++t->n;
    }
    return fold_values(t, t->slots[at] - 1);
}

size_t fold_table_find(const struct fold_table *t, const int64_t *key)
{
    size_t at;

    if (!t->n)
        return 0;
    at = slot_of(t, key);
    return t->slots[at] ? t->slots[at] - 1 : t->n;
}

/* ---- lines ---- */

static const char *const KINDS[] = {"request", "attempt", "adjust", "reset"};

const char *fold_kind_name(enum fold_kind k)
{
    return KINDS[k];
}

bool fold_kind_parse(struct span name, enum fold_kind *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(KINDS); i++) {
        if (span_is(name, KINDS[i])) {
            *out = (enum fold_kind)i;
            return true;
        }
    }
    return false;
}

enum fact_status fold_status_parse(struct span name)
{
    unsigned i = 0;

    while (i < STATUS_COUNT && !span_is(name, fact_status_name((enum fact_status)i)))
        i++;
    return (enum fact_status)i;
}

static void take_usage(struct fold_line *l, const struct usage *u, bool is_priced)
{
    l->source = u->source;
    l->v[FOLD_COUNT] = 1;
    l->v[FOLD_IN] = (int64_t)u->input;
    l->v[FOLD_CACHED] = (int64_t)u->cached;
    l->v[FOLD_CWRITE] = (int64_t)u->cache_write;
    l->v[FOLD_OUT] = (int64_t)u->output;
    l->v[FOLD_REASONING] = (int64_t)u->reasoning;
    l->v[FOLD_IMAGES] = (int64_t)u->images;
    l->v[FOLD_SEARCHES] = (int64_t)u->searches;
    l->v[FOLD_UNPRICED] = u->source != USAGE_NONE && !is_priced;
}

static void take_times(struct fold_line *l, int64_t duration_us, int64_t ttft_us)
{
    l->v[FOLD_LATENCY] = duration_us;
    l->v[FOLD_TTFT] = ttft_us >= 0 ? ttft_us : 0;
    l->v[FOLD_TTFT_COUNT] = ttft_us >= 0;
}

static void line_of_request(struct fold_line *l, const struct fact_request *rq)
{
    *l = (struct fold_line){.kind = FOLD_REQUEST,
                            .ended = fact_request_ended(rq),
                            .reserved = rq->arrived,
                            .tenant = rq->tenant,
                            .key = rq->key,
                            .provider = rq->provider,
                            .model = rq->model,
                            .endpoint = rq->endpoint,
                            .outcome = fact_status_name(rq->status),
                            .status = rq->status,
                            .error = rq->error,
                            .end = rq->end};
    take_usage(l, &rq->usage, rq->is_priced);
    take_times(l, rq->duration_us, rq->ttft_us);
    l->v[FOLD_COST] = rq->cost_nanousd;
}

static label endpoint_of(enum operation op)
{
    static _Atomic label paths[OP_COUNT]; /* interning takes a lock, and there is one record a time */

    if (op >= OP_COUNT)
        return 0;
    if (!paths[op])
        paths[op] = intern_z(operation_row(op)->path);
    return paths[op];
}

static void line_of_attempt(struct fold_line *l, const struct fact_context *c, const struct fact_attempt *a)
{
    *l = (struct fold_line){.kind = FOLD_ATTEMPT,
                            .ended = fact_attempt_ended(c, a),
                            .reserved = c->arrived,
                            .tenant = c->tenant,
                            .key = c->key,
                            .provider = a->provider,
                            .model = a->model,
                            .endpoint = endpoint_of(c->op),
                            .outcome = fact_status_name(a->status),
                            .status = a->status,
                            .error = a->error,
                            .end = a->end};
    take_usage(l, &a->usage, a->is_priced);
    take_times(l, a->duration_us, a->ttft_us);
    l->v[FOLD_COST] = a->cost_nanousd;
}

static void line_of_adjust(struct fold_line *l, const struct fact_adjust *a)
{
    *l = (struct fold_line){.kind = a->is_reset ? FOLD_RESET : FOLD_ADJUST,
                            .ended = a->at,
                            .reserved = a->at,
                            .tenant = a->tenant,
                            .key = a->key,
                            .provider = a->provider,
                            .model = a->model,
                            .outcome = "",
                            .status = STATUS_COUNT,
                            .end = STREAM_END_COUNT};
    l->v[FOLD_COUNT] = 1;
    l->v[FOLD_COST] = a->amount_nanousd;
}

bool fold_line_of(const struct journal_record *rec, struct fold_line *out)
{
    switch (rec->type) {
    case JOURNAL_SETTLE:
        line_of_request(out, &rec->settle.rq);
        return true;
    case JOURNAL_ATTEMPT:
        line_of_attempt(out, &rec->attempt.context, &rec->attempt.a);
        return true;
    case JOURNAL_ADJUST:
        line_of_adjust(out, &rec->adjust);
        return true;
    default:
        return false;
    }
}

static void measures_of_attempts(enum fact_status status, const int64_t *v, int64_t *m)
{
    static const unsigned char FROM[][2] = {
        {MEASURE_attempts, FOLD_COUNT},    {MEASURE_tin, FOLD_IN},
        {MEASURE_tcached, FOLD_CACHED},    {MEASURE_tcwrite, FOLD_CWRITE},
        {MEASURE_tout, FOLD_OUT},          {MEASURE_treason, FOLD_REASONING},
        {MEASURE_images, FOLD_IMAGES},     {MEASURE_searches, FOLD_SEARCHES},
        {MEASURE_cost_nano, FOLD_COST},    {MEASURE_unpriced, FOLD_UNPRICED},
        {MEASURE_lat_us, FOLD_LATENCY},    {MEASURE_ttfb_us, FOLD_TTFT},
        {MEASURE_ttfb_n, FOLD_TTFT_COUNT},
    };
    /* req is of requests; ok and err are by the outcome */
    _Static_assert(ARRAY_LEN(FROM) == MEASURE_COUNT - 3, "every measure has a source");

    for (unsigned i = 0; i < ARRAY_LEN(FROM); i++)
        fold_add(&m[FROM[i][0]], v[FROM[i][1]]);
    if (status == STATUS_SUCCESS)
        fold_add(&m[MEASURE_ok], v[FOLD_COUNT]);
    if (status == STATUS_ERROR)
        fold_add(&m[MEASURE_err], v[FOLD_COUNT]);
}

void fold_measures(enum fold_kind kind, enum fact_status status, const int64_t v[FOLD_VALUES], int64_t *m)
{
    switch (kind) {
    case FOLD_REQUEST:
        fold_add(&m[MEASURE_req], v[FOLD_COUNT]);
        break;
    case FOLD_ATTEMPT:
        measures_of_attempts(status, v, m);
        break;
    case FOLD_ADJUST:
        fold_add(&m[MEASURE_cost_nano], v[FOLD_COST]);
        break;
    case FOLD_RESET: /* of a budget alone: what things cost stays */
        break;
    }
}

/* ---- budgets ---- */

enum account { ACCOUNT_GLOBAL, ACCOUNT_TENANT, ACCOUNT_KEY, ACCOUNT_PROVIDER };

static void post(struct fold_table *t, enum account kind, struct cycle c, int64_t who, struct wall at,
                 const int64_t amounts[FOLD_BUDGET_VALUES])
{
    int64_t key[FOLD_BUDGET_KEY] = {(int64_t)zone_label(c.zone) << 16 | (int64_t)kind << 8 |
                                        (int64_t)c.period,
                                    who, cycle_window(c, at).start_us / SECOND_US};
    int64_t *v = fold_table_at(t, key);

    for (unsigned i = 0; i < FOLD_BUDGET_VALUES; i++)
        fold_add(&v[i], amounts[i]);
}

static void post_all(struct fold_table *t, const struct fact_reservation *r, label tenant, label key,
                     int64_t posted, int64_t held, bool is_end)
{
    const int64_t amounts[FOLD_BUDGET_VALUES] = {posted, held, is_end ? posted : 0};

    if (!posted && !held)
        return;
    post(t, ACCOUNT_GLOBAL, (struct cycle){r->global_period, r->global_zone}, 0, r->at, amounts);
    if (tenant)
        post(t, ACCOUNT_TENANT, (struct cycle){r->tenant_period, r->tenant_zone}, fold_pair(tenant, 0), r->at,
             amounts);
    if (tenant && key)
        post(t, ACCOUNT_KEY, (struct cycle){r->key_period, r->key_zone}, fold_pair(tenant, key), r->at,
             amounts);
}

/* What an attempt costs is its provider's, whose window is that of the request's arrival like all others. Nothing is held in
 * the books: an attempt that was under way when the process died is ended by the next start. */
static void post_provider(struct fold_table *t, label provider, struct cycle c, struct wall at,
                          int64_t amount, bool is_end)
{
    const int64_t amounts[FOLD_BUDGET_VALUES] = {amount, 0, is_end ? amount : 0};

    if (provider && amount)
        post(t, ACCOUNT_PROVIDER, c, fold_pair(provider, 0), at, amounts);
}

static void post_reset(struct fold_table *t, const struct fact_adjust *a)
{
    const int64_t amounts[FOLD_BUDGET_VALUES] = {a->amount_nanousd, 0};

    if (a->provider)
        post_provider(t, a->provider, a->cycle, a->at, a->amount_nanousd, false);
    else if (a->key)
        post(t, ACCOUNT_KEY, a->cycle, fold_pair(a->tenant, a->key), a->at, amounts);
    else if (a->tenant)
        post(t, ACCOUNT_TENANT, a->cycle, fold_pair(a->tenant, 0), a->at, amounts);
    else
        post(t, ACCOUNT_GLOBAL, a->cycle, 0, a->at, amounts);
}

/* What nothing was reserved for counts by the month. */
static struct fact_reservation by_month(struct wall at)
{
    return (struct fact_reservation){
        .at = at, .key_period = PERIOD_MONTH, .tenant_period = PERIOD_MONTH, .global_period = PERIOD_MONTH};
}

void fold_budgets(struct fold_table *t, const struct journal_record *rec)
{
    struct fact_reservation r;

    switch (rec->type) {
    case JOURNAL_RESERVE:
        r = rec->open.reservation;
        post_all(t, &r, rec->open.context.tenant, rec->open.context.key, 0, r.amount_nanousd, false);
        break;
    case JOURNAL_SETTLE:
        r = rec->settle.rq.reservation;
        if (r.at.us == 0)
            r = by_month(rec->settle.rq.arrived);
        post_all(t, &r, rec->settle.rq.tenant, rec->settle.rq.key, rec->settle.rq.cost_nanousd,
                 -r.amount_nanousd, true);
        break;
    case JOURNAL_ATTEMPT:
        post_provider(t, rec->attempt.a.provider, rec->attempt.a.cycle, rec->attempt.context.arrived,
                      rec->attempt.a.cost_nanousd, true);
        break;
    case JOURNAL_ADJUST:
        if (rec->adjust.is_reset) {
            post_reset(t, &rec->adjust);
            break;
        }
        r = by_month(rec->adjust.at);
        post_all(t, &r, rec->adjust.tenant, rec->adjust.key, rec->adjust.amount_nanousd, 0, false);
        post_provider(t, rec->adjust.provider, (struct cycle){PERIOD_MONTH, NULL}, r.at,
                      rec->adjust.amount_nanousd, false);
        break;
    default:
        break;
    }
}

bool fold_window_of(const struct fold_table *t, size_t row, struct fold_window *out)
{
    const int64_t *key = fold_key(t, row), *v = fold_values(t, row);
    enum account kind = (enum account)(key[0] >> 8 & 0xff);
    struct cycle c = {(enum period)(key[0] & 0xff), zone_of_label_mt((label)(key[0] >> 16))};
    struct wall start = {key[2] * SECOND_US};
    int64_t end_us = cycle_window(c, start).end_us;

    if (!v[0] && !v[1])
        return false;
    if (kind == ACCOUNT_GLOBAL)
        (void)snprintf(out->account, sizeof(out->account), "global");
    else if (kind == ACCOUNT_TENANT)
        (void)snprintf(out->account, sizeof(out->account), "tenant:%s", label_text(fold_high(key[1])));
    else if (kind == ACCOUNT_PROVIDER)
        (void)snprintf(out->account, sizeof(out->account), "provider:%s", label_text(fold_high(key[1])));
    else
        (void)snprintf(out->account, sizeof(out->account), "key:%s/%s", label_text(fold_high(key[1])),
                       label_text(fold_low(key[1])));
    out->period = period_name(c.period);
    (void)cycle_name(c, start, out->window);
    out->starts_s = start.us / SECOND_US;
    out->ends_s = c.period == PERIOD_TOTAL ? 0 : end_us / SECOND_US;
    out->posted_nano = v[0];
    out->held_nano = v[1];
    out->settled_nano = v[2];
    return true;
}
