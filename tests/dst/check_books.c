/* SPDX-License-Identifier: Apache-2.0 */
/* Both stores against the journals: the sums that they must hold are made here anew, by code that the targets do not
 * share, from the records that the tap read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/store/db.h"
#include "libshared/store/kv_keys.h"
#include "libshared/store/measures.h"
#include "tests/dst/stores.h"
#include "tests/dst/sums.h"

struct want {
    struct sums *ledger, *hours, *windows, *stories;
};

/* ---- what the books should say ---- */

enum {
    V_COUNT,
    V_IN,
    V_CACHED,
    V_CWRITE,
    V_OUT,
    V_REASONING,
    V_IMAGES,
    V_SEARCHES,
    V_COST,
    V_UNPRICED,
    V_LATENCY,
    V_TTFT,
    V_TTFT_N
};

struct entry { /* of the ledger */
    const char *kind, *outcome;
    struct wall ended;
    label tenant, key, provider, model;
    const struct usage *usage;
    int64_t cost, latency, ttft;
    bool is_priced;
};

static int64_t n64(uint64_t v)
{
    return (int64_t)v;
}

static void want_ledger(struct sums *s, const struct entry *e)
{
    static const struct usage NONE;
    const struct usage *u = e->usage ? e->usage : &NONE;
    char key[800];
    int64_t *v;

    (void)snprintf(key, sizeof(key), "%s %" PRId64 " %s %s %s %s %s", e->kind, e->ended.us / 60000000 * 60,
                   label_text(e->tenant), label_text(e->key), label_text(e->provider), label_text(e->model),
                   e->outcome);
    v = sums_at(s, key);
    v[V_COUNT]++;
    v[V_IN] += n64(u->input);
    v[V_CACHED] += n64(u->cached);
    v[V_CWRITE] += n64(u->cache_write);
    v[V_OUT] += n64(u->output);
    v[V_REASONING] += n64(u->reasoning);
    v[V_IMAGES] += n64(u->images);
    v[V_SEARCHES] += n64(u->searches);
    v[V_COST] += e->cost;
    v[V_UNPRICED] += e->usage && u->source != USAGE_NONE && !e->is_priced;
    v[V_LATENCY] += e->latency;
    v[V_TTFT] += e->ttft >= 0 ? e->ttft : 0;
    v[V_TTFT_N] += e->ttft >= 0;
}

static int64_t *hour_of(struct sums *s, struct wall ended, label provider, label model)
{
    char key[KV_KEY_CAP];

    kv_key_hour(key, ended, label_text(provider), label_text(model));
    return sums_at(s, key);
}

static void want_attempt_hour(struct sums *s, const struct fact_context *c, const struct fact_attempt *a)
{
    int64_t *v = hour_of(s, fact_attempt_ended(c, a), a->provider, a->model);

    v[MEASURE_attempts]++;
    v[MEASURE_ok] += a->status == STATUS_SUCCESS;
    v[MEASURE_err] += a->status == STATUS_ERROR;
    v[MEASURE_tin] += n64(a->usage.input);
    v[MEASURE_tcached] += n64(a->usage.cached);
    v[MEASURE_tcwrite] += n64(a->usage.cache_write);
    v[MEASURE_tout] += n64(a->usage.output);
    v[MEASURE_treason] += n64(a->usage.reasoning);
    v[MEASURE_images] += n64(a->usage.images);
    v[MEASURE_searches] += n64(a->usage.searches);
    v[MEASURE_cost_nano] += a->cost_nanousd;
    v[MEASURE_unpriced] += a->usage.source != USAGE_NONE && !a->is_priced;
    v[MEASURE_lat_us] += a->duration_us;
    v[MEASURE_ttfb_us] += a->ttft_us >= 0 ? a->ttft_us : 0;
    v[MEASURE_ttfb_n] += a->ttft_us >= 0;
}

/* ---- budgets ---- */

static void want_window(struct sums *s, const char *account, enum period p, struct wall at, int64_t posted)
{
    char key[800], window[PERIOD_WINDOW_CAP];

    (void)period_window(p, at, window);
    (void)snprintf(key, sizeof(key), "%s %s %s", account, period_name(p), window);
    sums_at(s, key)[0] += posted; /* and held is 0 */
}

static void want_windows(struct sums *s, const struct fact_reservation *r, label tenant, label key,
                         int64_t posted)
{
    char account[300];

    want_window(s, "global", r->global_period, r->at, posted);
    (void)snprintf(account, sizeof(account), "tenant:%s", label_text(tenant));
    want_window(s, account, r->tenant_period, r->at, posted);
    (void)snprintf(account, sizeof(account), "key:%s/%s", label_text(tenant), label_text(key));
    want_window(s, account, r->key_period, r->at, posted);
}

/* Attempts are posted to their provider. */
static void want_provider(struct sums *s, label provider, enum period p, struct wall at, int64_t posted)
{
    char account[300];

    if (!provider || !posted)
        return;
    (void)snprintf(account, sizeof(account), "provider:%s", label_text(provider));
    want_window(s, account, p, at, posted);
}

/* Money that nothing was reserved for counts by the month. */
static struct fact_reservation by_month(struct wall at)
{
    return (struct fact_reservation){
        .at = at, .key_period = PERIOD_MONTH, .tenant_period = PERIOD_MONTH, .global_period = PERIOD_MONTH};
}

/* ---- record by record ---- */

static void want_settle(struct want *w, const struct fact_request *rq)
{
    char id[ID_TEXT_CAP];

    want_ledger(w->ledger, &(struct entry){.kind = "request",
                                           .outcome = fact_status_name(rq->status),
                                           .ended = fact_request_ended(rq),
                                           .tenant = rq->tenant,
                                           .key = rq->key,
                                           .provider = rq->provider,
                                           .model = rq->model,
                                           .usage = &rq->usage,
                                           .cost = rq->cost_nanousd,
                                           .latency = rq->duration_us,
                                           .ttft = rq->ttft_us,
                                           .is_priced = rq->is_priced});
    if (rq->provider) /* what reached none is in no hour */
        hour_of(w->hours, fact_request_ended(rq), rq->provider, rq->model)[MEASURE_req]++;
    struct fact_reservation r = rq->reservation.at.us ? rq->reservation : by_month(rq->arrived);
    want_windows(w->windows, &r, rq->tenant, rq->key, rq->cost_nanousd);
    id_format(&rq->id, id);
    sums_at(w->stories, id)[0]++;
}

static void want_record(struct want *w, const struct journal_record *r)
{
    const struct fact_context *c = &r->attempt.context;
    const struct fact_attempt *a = &r->attempt.a;
    struct fact_reservation month;

    if (r->type == JOURNAL_SETTLE) {
        want_settle(w, &r->settle.rq);
    } else if (r->type == JOURNAL_ATTEMPT) {
        want_ledger(w->ledger, &(struct entry){.kind = "attempt",
                                               .outcome = fact_status_name(a->status),
                                               .ended = fact_attempt_ended(c, a),
                                               .tenant = c->tenant,
                                               .key = c->key,
                                               .provider = a->provider,
                                               .model = a->model,
                                               .usage = &a->usage,
                                               .cost = a->cost_nanousd,
                                               .latency = a->duration_us,
                                               .ttft = a->ttft_us,
                                               .is_priced = a->is_priced});
        want_attempt_hour(w->hours, c, a);
        want_provider(w->windows, a->provider, a->cycle.period, c->arrived, a->cost_nanousd);
    } else if (r->type == JOURNAL_ADJUST) {
        const struct fact_adjust *d = &r->adjust;

        want_ledger(w->ledger, &(struct entry){.kind = "adjust",
                                               .outcome = "",
                                               .ended = d->at,
                                               .tenant = d->tenant,
                                               .key = d->key,
                                               .provider = d->provider,
                                               .model = d->model,
                                               .cost = d->amount_nanousd,
                                               .ttft = -1});
        hour_of(w->hours, d->at, d->provider, d->model)[MEASURE_cost_nano] += d->amount_nanousd;
        month = by_month(d->at);
        want_windows(w->windows, &month, d->tenant, d->key, d->amount_nanousd);
        want_provider(w->windows, d->provider, PERIOD_MONTH, d->at, d->amount_nanousd);
    }
}

/* ---- what the history store says ---- */

static bool ledger_row(void *user, const struct db_value *c, unsigned n)
{
    char key[800];
    int64_t *v;

    (void)snprintf(key, sizeof(key), "%.*s %" PRId64 " %.*s %.*s %.*s %.*s %.*s", (int)c[0].s.len, c[0].s.p,
                   c[1].i, (int)c[2].s.len, c[2].s.p, (int)c[3].s.len, c[3].s.p, (int)c[4].s.len, c[4].s.p,
                   (int)c[5].s.len, c[5].s.p, (int)c[6].s.len, c[6].s.p);
    v = sums_at(user, key);
    for (unsigned i = 7; i < n; i++)
        v[i - 7] += c[i].i;
    return true;
}

static bool window_row(void *user, const struct db_value *c, unsigned n)
{
    char key[800];
    int64_t *v;

    (void)n;
    (void)snprintf(key, sizeof(key), "%.*s %.*s %.*s", (int)c[0].s.len, c[0].s.p, (int)c[1].s.len, c[1].s.p,
                   (int)c[2].s.len, c[2].s.p);
    v = sums_at(user, key);
    v[0] += c[3].i;
    v[1] += c[4].i;
    return true;
}

static bool story_row(void *user, const struct db_value *c, unsigned n)
{
    char key[ID_TEXT_CAP];

    (void)n;
    (void)span_copy(key, sizeof(key), c[0].s);
    sums_at(user, key)[0]++;
    return true;
}

static struct sums *history(struct life *l, const char *name, const char *sql, db_row_fn fn)
{
    struct sums *s = sums_new(name);
    struct err err = {0};

    if (db_query(l->db, name, sql, NULL, 0, fn, s, &err))
        world_fail("%s: %s", name, err_text(&err));
    return s;
}

static void check_history(struct life *l, const struct want *w)
{
    struct sums *ledger =
        history(l, "the ledger",
                "SELECT kind, minute, tenant, key, provider, model, outcome, count, tokens_in, "
                "tokens_cached, tokens_cwrite, tokens_out, tokens_reasoning, images, searches, "
                "cost_nano, unpriced, latency_us, ttft_us, ttft_count FROM ledger",
                ledger_row);
    struct sums *windows =
        history(l, "budget_windows",
                "SELECT account, period, window_id, posted_nano, held_nano FROM budget_windows", window_row);
    struct sums *stories = history(l, "requests", "SELECT id FROM requests", story_row);

    sums_must_equal(w->ledger, ledger);
    sums_must_equal(w->windows, windows);
    sums_must_equal(w->stories, stories);
    sums_free(ledger);
    sums_free(windows);
    sums_free(stories);
}

/* ---- what the realtime store says ---- */

struct hash {
    struct sums *sums;
    const char *key;
};

static void hour_field(void *user, struct span field, struct span value)
{
    struct hash *h = user;
    char text[32];

    (void)span_copy(text, sizeof(text), value);
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        if (span_is(field, measure_name((enum measure)m)))
            sums_at(h->sums, h->key)[m] += strtoll(text, NULL, 10);
}

struct keys {
    char name[1200][KV_KEY_CAP];
    size_t n;
};

static void one_key(void *user, struct span key, struct span ttl)
{
    struct keys *k = user;

    (void)ttl;
    if (k->n == sizeof(k->name) / sizeof(k->name[0]))
        world_fail("more keys than expected in the realtime store");
    (void)span_copy(k->name[k->n++], KV_KEY_CAP, key);
}

static void check_realtime(struct life *l, const struct want *w)
{
    struct keys *keys = calloc(1, sizeof(*keys));
    struct sums *hours = sums_new("the realtime store");
    struct err err = {0};

    if (!keys)
        abort();
    if (kv_scan(l->kv, "{gw}:h:", one_key, keys, &err))
        world_fail("kv_scan: %s", err_text(&err));
    for (size_t i = 0; i < keys->n; i++) {
        struct hash h = {hours, keys->name[i]};

        if (kv_hash(l->kv, keys->name[i], hour_field, &h, &err))
            world_fail("kv_hash: %s", err_text(&err));
    }
    if (world->kv_is_short)
        sums_must_not_exceed(w->hours, hours, 1u << MEASURE_req | 1u << MEASURE_attempts);
    else
        sums_must_equal(w->hours, hours);
    sums_free(hours);
    free(keys);
}

void check_books(struct life *l)
{
    struct want w = {sums_new("the journal (ledger)"), sums_new("the journal (hours)"),
                     sums_new("the journal (budgets)"), sums_new("the journal (requests)")};

    for (size_t i = 0; i < world->n_records; i++)
        want_record(&w, &world->records[i]);
    check_history(l, &w);
    check_realtime(l, &w);
    world_trace("books agree: %zu ledger groups, %zu hours, %zu windows, %zu requests", sums_count(w.ledger),
                sums_count(w.hours), sums_count(w.windows), sums_count(w.stories));
    sums_free(w.ledger);
    sums_free(w.hours);
    sums_free(w.windows);
    sums_free(w.stories);
}
