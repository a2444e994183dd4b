/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the realtime store as docs/stores.md describes it: what changed since the last time, in one pipeline. Reader's thread; the
 * source owns its handle.
 *
 * Ten-second spans that are over are read once, the one that runs each time. plan() chooses what is read, most important first,
 * and stops at the number of keys that one reading may cost, so that a store with thousands of models is looked at in turns
 * and no tick costs more than another. The tricky part is that the plan's clock is the store's: ours may be wrong. */
#include <math.h>
#include <stdio.h>

#include "aigwtop/source/redis_priv.h"
#include "libshared/analytics/sketch.h"
#include "libshared/base/log.h"

#define SETTLE_S   3 /* after its end a span still gets what writers were about to send */
#define TURN_TENS  6 /* of models that are not in sight */
#define SIGHT_TENS 30
#define SOME_PAIRS 40u /* so few that all are in sight */
#define PAIRS_MAX  8192u

/* ---- pairs ----------------------------------------------------------------------------------------------------------- */

static struct known *find_pair(struct redis_source *s, const char *provider, const char *model)
{
    for (size_t i = 0; i < s->pairs.n; i++)
        if (strcmp(s->pairs.v[i].model, model) == 0 && strcmp(s->pairs.v[i].provider, provider) == 0)
            return &s->pairs.v[i];
    return NULL;
}

static struct known *know_pair(struct redis_source *s, const char *provider, const char *model)
{
    struct known *k = find_pair(s, provider, model);

    if (k || s->pairs.n >= PAIRS_MAX)
        return k;
    k = LIST_ADD(&s->pairs);
    (void)span_copy(k->provider, sizeof(k->provider), span_of(provider));
    (void)span_copy(k->model, sizeof(k->model), span_of(model));
    return k;
}

static void on_model(struct redis_source *s, struct span member, struct span score)
{
    struct span model = member, provider = span_split(&model, ' ');
    char p[TOP_NAME], m[TOP_NAME];
    struct known *k;

    if (!model.len || provider.len >= sizeof(p) || model.len >= sizeof(m)) {
        sample_surprise(s->out, KV_MODELS);
        return;
    }
    (void)span_copy(p, sizeof(p), provider);
    (void)span_copy(m, sizeof(m), model);
    (void)know_pair(s, p, "");
    k = know_pair(s, p, m);
    if (k) {
        k->used_s = redis_source_int(score);
        k = find_pair(s, p, ""); /* the list may have moved */
        if (k && k->used_s < s->pairs.v[s->pairs.n - 1].used_s)
            k->used_s = s->pairs.v[s->pairs.n - 1].used_s;
    }
}

/* ---- planning -------------------------------------------------------------------------------------------------------- */

static struct want *want(struct redis_source *s, enum want_kind kind, int what, int64_t a, int64_t b)
{
    struct want *w = LIST_ADD(&s->wants);

    w->kind = kind;
    w->what = what;
    w->a = a;
    w->b = b;
    return w;
}

static bool has_room(const struct redis_source *s)
{
    return s->wants.n < s->most;
}

static bool has_ten(const struct known *k, int64_t ten_s)
{
    return k->tens[(ten_s / 10) % KNOWN_TENS] == ten_s;
}

static bool is_wanted(const struct redis_source *s, const struct known *k, int64_t ten_s)
{
    return k->asked_in == s->reading && ten_s >= k->asked_from;
}

static void want_ten(struct redis_source *s, size_t pair, int64_t ten_s)
{
    struct known *k = &s->pairs.v[pair];
    struct want *w;

    if (!has_room(s) || has_ten(k, ten_s) || is_wanted(s, k, ten_s))
        return;
    w = want(s, WANT_TEN, KV_READ_HASH, 0, 0);
    w->pair = pair;
    w->ten_s = ten_s;
    if (k->model[0])
        kv_key_ten(w->key, (struct wall){ten_s * 1000000}, k->provider, k->model);
    else
        kv_key_provider(w->key, (struct wall){ten_s * 1000000}, k->provider);
}

/* What was last used before a span began is not in it. */
static bool may_be_in(const struct known *k, int64_t ten_s)
{
    return k->used_s + 2 * SETTLE_S >= ten_s;
}

/* Newest first over all providers, so that the latest minutes are whole before older ones are. */
static void plan_providers(struct redis_source *s, int64_t now_ten)
{
    for (int64_t back = 0; back < KNOWN_TENS - 1 && has_room(s); back++)
        for (size_t i = 0; i < s->pairs.n; i++)
            if (!s->pairs.v[i].model[0] && (back > 0 || may_be_in(&s->pairs.v[i], now_ten)))
                want_ten(s, i, now_ten - back * 10);
}

static void plan_pair(struct redis_source *s, size_t i, int64_t now_ten, int64_t tens)
{
    int64_t back = 1;

    if (may_be_in(&s->pairs.v[i], now_ten))
        want_ten(s, i, now_ten);
    for (; back <= tens && has_room(s); back++)
        want_ten(s, i, now_ten - back * 10);
    /* Everything back to here is asked for, or known. */
    s->pairs.v[i].asked_in = s->reading;
    s->pairs.v[i].asked_from = now_ten - (back - 1) * 10;
}

static bool is_asked(const struct ask *ask, const struct known *k)
{
    return k->model[0] && (!ask->provider[0] || strcmp(ask->provider, k->provider) == 0);
}

static void plan_sight(struct redis_source *s, const struct ask *ask, int64_t now_ten, int64_t tens)
{
    for (size_t i = 0; i < ask->n_pairs; i++) {
        struct known *k = find_pair(s, ask->pairs[i].provider, ask->pairs[i].model);

        if (k && k->model[0])
            plan_pair(s, (size_t)(k - s->pairs.v), now_ten, tens);
    }
}

/* The last minute of what is in sight, some of what is not, in turns, and the minutes before of what is in sight. */
static void plan_models(struct redis_source *s, const struct ask *ask, int64_t now_ten)
{
    size_t n = 0, left = s->pairs.n, most = s->most;

    for (size_t i = 0; i < s->pairs.n; i++)
        n += is_asked(ask, &s->pairs.v[i]);
    plan_sight(s, ask, now_ten, TURN_TENS);
    s->most = s->wants.n + (most > s->wants.n ? (most - s->wants.n) / 2 : 0);
    if (n <= SOME_PAIRS)
        s->most = most;
    for (; left && has_room(s); left--) {
        size_t i = s->turn++ % s->pairs.n;

        if (is_asked(ask, &s->pairs.v[i]))
            plan_pair(s, i, now_ten, n <= SOME_PAIRS ? SIGHT_TENS : TURN_TENS);
    }
    s->most = most;
    plan_sight(s, ask, now_ten, SIGHT_TENS);
}

static void want_key(struct redis_source *s, enum want_kind kind, int what, const char *key, int64_t a,
                     int64_t b)
{
    struct want *w = want(s, kind, what, a, b);

    (void)snprintf(w->key, sizeof(w->key), "%s", key);
}

static void plan_errors(struct redis_source *s, const struct ask *ask)
{
    for (size_t i = 0; i < s->pairs.n; i++) {
        const struct known *k = &s->pairs.v[i];

        if (k->model[0] || (ask->provider[0] && strcmp(ask->provider, k->provider) != 0))
            continue;
        want(s, WANT_ERRORS, KV_READ_LIST, KV_ERRORS_KEPT, 0)->pair = i;
        kv_key_errors(s->wants.v[s->wants.n - 1].key, k->provider);
    }
}

static void plan(struct redis_source *s, const struct ask *ask, struct wall now)
{
    int64_t now_s = now.us / 1000000, now_ten = now_s - now_s % 10;
    char key[KV_KEY_CAP];

    s->wants.n = 0;
    s->reading++;
    s->started_us = 0;
    s->most = ask->most ? ask->most : 100000;
    if (now_s - s->indexed_s >= 10 || now_s < s->indexed_s) {
        s->indexed_s = now_s;
        want_key(s, WANT_MODELS, KV_READ_INDEX, KV_MODELS, 0, INT64_MAX / 2000000);
    }
    want_key(s, WANT_HEALTH, KV_READ_HASH, KV_HEALTH, 0, 0);
    if ((ask->wants & HAS_BREAKERS) || now_s - s->breakers_s >= s->breakers_every_s || now_s < s->breakers_s)
        want_key(s, WANT_BREAKERS, KV_READ_HASH, KV_BREAKERS, 0, 0);
    want_key(s, WANT_EVENTS, KV_READ_EVENTS, KV_EVENTS, 60, 0);
    for (size_t i = 0; i < s->instances.n; i++)
        want(s, WANT_INSTANCE, KV_READ_HASH, 0, 0)->pair = i;
    for (size_t i = 0; i < s->wants.n; i++)
        if (s->wants.v[i].kind == WANT_INSTANCE)
            (void)snprintf(s->wants.v[i].key, KV_KEY_CAP, "%s", s->instances.v[s->wants.v[i].pair].key);
    if (ask->wants & HAS_TENANTS) {
        kv_key_tenants(key, now);
        want_key(s, WANT_TENANTS, KV_READ_HASH, key, 0, 0);
    }
    if (ask->wants & HAS_ERRORS)
        plan_errors(s, ask);
    if (ask->wants & HAS_BUDGETS)
        for (size_t i = 0; i < s->budgets.n && has_room(s); i++) {
            want(s, WANT_BUDGET, KV_READ_HASH, 0, 0)->pair = i;
            (void)snprintf(s->wants.v[s->wants.n - 1].key, KV_KEY_CAP, "%s", s->budgets.v[i].key);
        }
    plan_providers(s, now_ten);
    if (ask->wants_models && s->pairs.n)
        plan_models(s, ask, now_ten);
}

/* ---- what comes of it ------------------------------------------------------------------------------------------------ */

static void on_field_of_ten(struct redis_source *s, struct slice *t, struct span field, struct span value)
{
    uint64_t bucket;

    if (field.len > 1 && field.p[0] == 'b' && span_to_u64(span_make(field.p + 1, field.len - 1), &bucket)) {
        int64_t n = redis_source_int(value);

        if (bucket < SKETCH_BUCKETS && n > 0)
            *LIST_ADD(&t->parts) = (struct part){(unsigned)bucket, (uint64_t)n};
        else
            sample_surprise(s->out, "a bucket");
        return;
    }
    for (unsigned i = 0; i < MEASURE_COUNT; i++)
        if (span_is(field, measure_name((enum measure)i))) {
            t->m[i] = redis_source_int(value);
            return;
        }
}

static void on_field(void *user, size_t i, struct span field, struct span value)
{
    struct redis_source *s = user;
    struct want *w = &s->wants.v[i];

    switch (w->kind) {
    case WANT_MODELS:
        on_model(s, field, value);
        return;
    case WANT_TEN:
        on_field_of_ten(s, &w->got, field, value);
        return;
    default:
        w->fields++;
        redis_source_field(s, w, field, value);
    }
}

/* A span that is over is known from now on. */
static void keep_ten(struct redis_source *s, struct want *w, struct wall now)
{
    struct known *k = &s->pairs.v[w->pair];
    int64_t end_us = (w->ten_s + 10) * 1000000, start_us = w->ten_s * 1000000;
    struct slice *t = LIST_ADD(&sample_row_of(s->out, k->provider, k->model)->slices);

    *t = w->got;
    w->got = (struct slice){0};
    t->start_us = start_us;
    t->is_whole = now.us >= end_us + SETTLE_S * INT64_C(1000000);
    /* What happened in the last second is still on its way. */
    t->span_us = now.us - 1000000 >= end_us    ? 10000000
                 : now.us - 1000000 > start_us ? now.us - 1000000 - start_us
                                               : 0;
    /* Nobody could have written before the gateways started: that is no silence. */
    if (s->started_us > start_us && !t->m[MEASURE_attempts])
        t->span_us = s->started_us < start_us + t->span_us ? start_us + t->span_us - s->started_us : 0;
    if (t->is_whole)
        k->tens[(w->ten_s / 10) % KNOWN_TENS] = w->ten_s;
}

/* A store that was away is caught up with: what was read of the minutes before may have grown. */
static void forget_tens(struct redis_source *s)
{
    for (size_t i = 0; i < s->pairs.n; i++)
        memset(s->pairs.v[i].tens, 0, sizeof(s->pairs.v[i].tens));
}

static void finish(struct redis_source *s, const bool *bad, struct wall now)
{
    for (size_t i = 0; i < s->wants.n; i++) {
        struct want *w = &s->wants.v[i];

        if (bad[i])
            sample_surprise(s->out, w->key);
        else if (w->kind == WANT_TEN)
            keep_ten(s, w, now);
        else if (w->kind == WANT_BREAKERS) {
            s->out->has |= HAS_BREAKERS;
            s->breakers_s = now.us / 1000000;
            s->breakers_every_s = w->fields > 200 ? 10 : 0;
        } else if (w->kind == WANT_INSTANCE && !w->fields)
            s->instances.v[w->pair].key[0] = '\0';
        LIST_RELEASE(&w->got.parts);
    }
    for (size_t i = 0; i < s->instances.n;)
        if (!s->instances.v[i].key[0])
            s->instances.v[i] = s->instances.v[--s->instances.n];
        else
            i++;
}

/* A model that was not read yet is there all the same. */
static void list_pairs(struct redis_source *s)
{
    for (size_t i = 0; i < s->pairs.n; i++) {
        struct known *k = &s->pairs.v[i];

        if (!k->is_listed)
            (void)sample_row_of(s->out, k->provider, k->model);
        k->is_listed = true;
    }
}

/* ---- discovery ------------------------------------------------------------------------------------------------------- */

static void on_instance(void *user, struct span key, struct span ttl)
{
    struct redis_source *s = user;

    (void)ttl;
    if (s->instances.n < 256 && key.len < KV_KEY_CAP)
        (void)span_copy(LIST_ADD(&s->instances)->key, KV_KEY_CAP, key);
}

static void on_budget(void *user, struct span key, struct span ttl)
{
    struct redis_source *s = user;

    (void)ttl;
    if (s->budgets.n < 4096 && key.len < KV_KEY_CAP)
        (void)span_copy(LIST_ADD(&s->budgets)->key, KV_KEY_CAP, key);
}

static enum err_code discover(struct redis_source *s, const struct ask *ask, struct err *err)
{
    struct mono now = mono_now();
    enum err_code e = ERR_OK;

    if (!s->scanned.us || mono_diff_us(now, s->scanned) >= SCAN_EVERY_US) {
        s->instances.n = 0;
        e = kv_scan(s->kv, KV_INST ":", on_instance, s, err);
        s->scanned = e ? (struct mono){0} : now;
    }
    if (!e && (ask->wants & HAS_BUDGETS) &&
        (!s->budgets_scanned.us || mono_diff_us(now, s->budgets_scanned) >= SCAN_EVERY_US)) {
        s->budgets.n = 0;
        e = kv_scan(s->kv, "{gw}:bud:", on_budget, s, err);
        s->budgets_scanned = e ? (struct mono){0} : now;
    }
    return e;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

/* A fresh handle has no memory of failures, so that asking again asks again. */
static enum err_code failed(struct redis_source *s, enum err_code e, struct err *err)
{
    struct kv *fresh = kv_share(s->kv);

    s->has_failed = true;
    s->scanned = s->budgets_scanned = s->clock_at = (struct mono){0};
    s->indexed_s = 0;
    if (fresh) {
        kv_free(s->kv);
        s->kv = fresh;
    }
    if (strstr(err->text, "refuses the login") || strstr(err->text, "NOAUTH") ||
        strstr(err->text, "WRONGPASS"))
        return err_set(err, ERR_FORBIDDEN, "the login is refused: see --redis, GATEWAYD_REDIS_URL");
    return e;
}

/* Our guess of the store's clock when the answer will be made. */
static struct wall store_now(const struct redis_source *s)
{
    return (struct wall){s->clock.us + mono_diff_us(mono_now(), s->clock_at)};
}

static enum err_code read_planned(struct redis_source *s, struct wall *now, struct err *err)
{
    size_t n = s->wants.n;
    struct kv_ask *asks = calloc(n + 1, sizeof(*asks));
    bool *bad = calloc(n + 1, sizeof(*bad));
    enum err_code e;

    if (!asks || !bad)
        abort();
    for (size_t i = 0; i < n; i++)
        asks[i] = (struct kv_ask){s->wants.v[i].what, s->wants.v[i].key, s->wants.v[i].a, s->wants.v[i].b};
    e = kv_read_many(s->kv, asks, n, on_field, s, bad, now, err);
    if (!e && !now->us)
        *now = wall_now();
    if (!e)
        finish(s, bad, *now);
    else
        for (size_t i = 0; i < n; i++)
            LIST_RELEASE(&s->wants.v[i].got.parts);
    free(asks);
    free(bad);
    return e;
}

static enum err_code learn_clock(struct redis_source *s, struct err *err)
{
    enum err_code e;

    s->wants.n = 0;
    want_key(s, WANT_MODELS, KV_READ_INDEX, KV_MODELS, 0, INT64_MAX / 2000000);
    e = read_planned(s, &s->clock, err);
    s->clock_at = mono_now();
    s->indexed_s = s->clock.us / 1000000;
    return e;
}

static enum err_code redis_source_read(void *self, const struct ask *ask, struct sample *out, struct err *err)
{
    struct redis_source *s = self;
    struct mono began = mono_now();
    struct wall now = {0};
    enum err_code e = ERR_OK;

    s->out = out;
    (void)snprintf(out->source, sizeof(out->source), "redis");
    (void)snprintf(out->where, sizeof(out->where), "%.199s", kv_where(s->kv));
    if (!s->clock_at.us)
        e = learn_clock(s, err);
    if (!e)
        e = discover(s, ask, err);
    if (e)
        return failed(s, e, err);
    if (s->has_failed)
        forget_tens(s);
    s->has_failed = false;
    plan(s, ask, store_now(s));
    began = mono_now();
    e = read_planned(s, &now, err);
    if (e)
        return failed(s, e, err);
    s->clock = now;
    s->clock_at = mono_now();
    out->now = now;
    out->rtt_us = mono_diff_us(s->clock_at, began);
    out->instances = (int64_t)s->instances.n;
    out->has |= HAS_ROWS | HAS_EVENTS | (ask->wants & (HAS_TENANTS | HAS_BUDGETS | HAS_ERRORS));
    list_pairs(s);
    if (!s->pairs.n && !s->instances.n && !out->events.n)
        out->state = SOURCE_EMPTY;
    return ERR_OK;
}

static void redis_source_free(void *self)
{
    struct redis_source *s = self;

    kv_free(s->kv);
    LIST_RELEASE(&s->pairs);
    LIST_RELEASE(&s->wants);
    LIST_RELEASE(&s->instances);
    LIST_RELEASE(&s->budgets);
    free(s);
}

static const struct source_ops REDIS_SOURCE = {
    .name = "redis", .free = redis_source_free, .read = redis_source_read};

struct source source_redis(const struct source_options *o, struct err *err)
{
    struct redis_source *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->kv = kv_new(&(struct kv_options){.url = o->redis_url, .deadline_us = o->deadline_us}, err);
    if (s->kv)
        return (struct source){&REDIS_SOURCE, s};
    free(s);
    return (struct source){0};
}
