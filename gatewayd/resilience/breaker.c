/* SPDX-License-Identifier: Apache-2.0 */
/* The machine of each breaker, and who asks it. Any thread. The table only grows: a breaker is found without a lock and lives
 * until the table's end. Its `word` tells the hot path in one load whether it is simply closed; all else is behind the
 * breaker's own lock, which is held for a few comparisons. The invariant: every change of state goes through breaker_move(),
 * which begins a new epoch, and a report only counts in the epoch of its ticket. */
#include "gatewayd/resilience/breaker_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/catalog/metrics.h"

#define JITTER 5 /* a pause is shortened by up to a fifth */

_Static_assert(METRIC_BUCKETS_MAX <= BREAKER_BUCKETS, "a view has room for the histogram");

/* ---- the table ------------------------------------------------------------------------------------------------------- */

static struct breaker *add(struct breakers *t, label provider, label model)
{
    struct breaker *b = calloc(1, sizeof(*b));
    unsigned i = breaker_slot(provider, model);

    if (!b)
        abort();
    b->provider = provider;
    b->model = model;
    b->listener = &t->listener;
    b->recovery_us = -1;
    (void)pthread_mutex_init(&b->lock, NULL);
    while (atomic_load(&t->slots[i]))
        i = (i + 1) & (BREAKER_SLOTS - 1);
    atomic_store_explicit(&t->slots[i], b, memory_order_release);
    atomic_fetch_add(&t->n, 1);
    return b;
}

struct breaker *breaker_make(struct breakers *t, label provider, label model)
{
    struct breaker *b;

    (void)pthread_mutex_lock(&t->lock);
    b = breaker_find(t, provider, model);
    if (!b && atomic_load(&t->n) < LIMIT_BREAKERS)
        b = add(t, provider, model);
    (void)pthread_mutex_unlock(&t->lock);
    return b;
}

struct breakers *breakers_new(uint64_t seed)
{
    struct breakers *t = calloc(1, sizeof(*t));

    if (!t)
        abort();
    (void)pthread_mutex_init(&t->lock, NULL);
    atomic_store(&t->random, seed);
    t->round = 1;
    return t;
}

void breakers_on_change(struct breakers *t, breaker_change_fn fn, void *user)
{
    t->listener = (struct listener){fn, user};
}

void breakers_free(struct breakers *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < BREAKER_SLOTS; i++) {
        struct breaker *b = atomic_load(&t->slots[i]);

        if (!b)
            continue;
        (void)pthread_mutex_destroy(&b->lock);
        free(b->probes);
        free(b);
    }
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

void breakers_ensure(struct breakers *t, label provider, label model)
{
    (void)breaker_get(t, provider, model);
}

/* ---- states, under the breaker's lock -------------------------------------------------------------------------------- */

static void text_of(char *dst, size_t cap, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void text_of(char *dst, size_t cap, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(dst, cap, fmt, ap);
    va_end(ap);
}

static uint64_t draw(struct breakers *t)
{
    uint64_t z = atomic_fetch_add(&t->random, 0x9e3779b97f4a7c15u) + 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void breaker_new_epoch(struct breaker *b)
{
    uint64_t epoch = (atomic_load(&b->word) >> 1) + 1;
    bool is_simple = b->state == BREAKER_CLOSED && b->forced.force == BREAKER_AUTO;

    atomic_store_explicit(&b->word, epoch << 1 | !is_simple, memory_order_release);
}

void breaker_note(struct breaker *b, enum breaker_state from, struct breaker_now now, const char *cause)
{
    struct breaker_change *c = &b->history[b->n_history++ % BREAKER_HISTORY];

    *c = (struct breaker_change){.at = now.wall, .from = from, .to = breaker_in_effect(b)};
    text_of(c->cause, sizeof(c->cause), "%s", cause);
    text_of(b->cause, sizeof(b->cause), "%s", cause);
    b->since = now.wall;
    if (c->from != c->to)
        b->transitions[c->to]++;
    if (b->listener->fn && !b->is_adopting)
        b->listener->fn(b->listener->user, b->provider, b->model, c);
}

static void count_recovery(struct breaker *b, struct breaker_now now)
{
    const struct metric_bounds *bounds = metric_bounds(METRIC_BUCKETS_recovery_seconds);
    int64_t us = mono_diff_us(now.mono, b->opened);
    unsigned i = 0;

    while (i < bounds->n && us > bounds->us[i])
        i++;
    b->recoveries[i]++;
    b->recovery_sum_us += (uint64_t)us;
    b->recovery_us = us;
}

static void forget_counts(struct breaker *b)
{
    b->failures = b->successes = 0;
    memset(b->slices, 0, sizeof(b->slices));
    if (b->probes)
        memset(b->probes, 0, b->n_probes * sizeof(*b->probes));
}

void breaker_move(struct breaker *b, enum breaker_state to, struct breaker_now now, const char *cause)
{
    enum breaker_state shown = breaker_in_effect(b), was = b->state;
    unsigned failures = b->failures;

    b->state = to;
    forget_counts(b);
    if (to == BREAKER_OPEN)
        b->failures = failures; /* it says how many it took */
    if (was == BREAKER_CLOSED && to != BREAKER_CLOSED)
        b->opened = now.mono;
    if (was != BREAKER_CLOSED && to == BREAKER_CLOSED)
        count_recovery(b, now);
    if (to == BREAKER_CLOSED)
        b->laps = 0;
    breaker_new_epoch(b);
    breaker_note(b, shown, now, cause);
}

void breaker_tell(struct breaker *b, struct breaker_now now)
{
    b->changed = breaker_newer(now.wall, b->changed);
    b->is_news = true;
}

static void trip(struct breakers *t, struct breaker *b, const struct config_breaker *rules,
                 struct breaker_now now, const char *cause)
{
    int64_t pause = rules->open_for_us;

    for (unsigned i = 0; i < b->laps && pause < rules->max_open_for_us; i++)
        pause *= 2;
    if (pause > rules->max_open_for_us)
        pause = rules->max_open_for_us;
    pause -= (int64_t)(draw(t) % (uint64_t)(pause / JITTER + 1));
    b->pause_end = mono_add_us(now.mono, pause);
    breaker_move(b, BREAKER_OPEN, now, cause);
    b->laps++;
    breaker_tell(b, now);
}

void breaker_due(struct breaker *b, struct breaker_now now)
{
    if (b->forced.force != BREAKER_AUTO && b->forced.until.us && b->forced.until.us <= now.wall.us) {
        enum breaker_state was = breaker_in_effect(b);

        b->forced = (struct breaker_forced){.at = breaker_end_of(&b->forced)};
        breaker_new_epoch(b);
        breaker_note(b, was, now, "the forced state has ended");
        b->is_news = true;
    }
    if (b->forced.force == BREAKER_AUTO && b->state == BREAKER_OPEN && b->pause_end.us <= now.mono.us) {
        breaker_move(b, BREAKER_HALF_OPEN, now, "the pause is over");
        breaker_tell(b, now);
    }
}

/* ---- probes ---------------------------------------------------------------------------------------------------------- */

static bool is_probe_out(const struct probe *p, struct breaker_now now)
{
    return p->until.us && p->until.us > now.mono.us;
}

static unsigned probes_out(const struct breaker *b, struct breaker_now now)
{
    unsigned n = 0;

    for (unsigned i = 0; i < b->n_probes; i++)
        n += is_probe_out(&b->probes[i], now);
    return n;
}

static bool has_place(const struct breaker *b, const struct config_breaker *rules, struct breaker_now now)
{
    return probes_out(b, now) < rules->probes;
}

static void make_places(struct breaker *b, unsigned n)
{
    if (b->n_probes >= n)
        return;
    b->probes = realloc(b->probes, n * sizeof(*b->probes));
    if (!b->probes)
        abort();
    memset(b->probes + b->n_probes, 0, (n - b->n_probes) * sizeof(*b->probes));
    b->n_probes = n;
}

static bool take_probe(struct breaker *b, const struct config_breaker *rules, struct breaker_now now,
                       struct breaker_ticket *out)
{
    unsigned i = 0;

    make_places(b, rules->probes);
    if (!has_place(b, rules, now))
        return false;
    while (is_probe_out(&b->probes[i], now))
        i++;
    b->probes[i] = (struct probe){++b->serial, mono_add_us(now.mono, BREAKER_PROBE_US)};
    out->probe = i + 1;
    out->serial = b->serial;
    return true;
}

/* Gives its place back; false when it was given up before. */
static bool end_probe(struct breaker *b, const struct breaker_ticket *ticket)
{
    struct probe *p = &b->probes[ticket->probe - 1];

    if (p->serial != ticket->serial || !p->until.us)
        return false;
    p->until.us = 0;
    return true;
}

/* ---- attempts -------------------------------------------------------------------------------------------------------- */

static bool admit_slowly(struct breaker *b, const struct config_breaker *rules, struct breaker_now now,
                         struct breaker_ticket *out)
{
    bool ok;

    (void)pthread_mutex_lock(&b->lock);
    breaker_due(b, now);
    out->epoch = atomic_load(&b->word) >> 1;
    switch (breaker_in_effect(b)) {
    case BREAKER_CLOSED:
        ok = true;
        break;
    case BREAKER_HALF_OPEN:
        ok = take_probe(b, rules, now, out);
        break;
    default:
        ok = false;
    }
    (void)pthread_mutex_unlock(&b->lock);
    return ok;
}

bool breaker_admit(struct breakers *t, label provider, label model, const struct config_breaker *rules,
                   struct breaker_now now, struct breaker_ticket *out)
{
    struct breaker *b = breaker_get(t, provider, model);
    uint64_t word;

    *out = (struct breaker_ticket){.of = b};
    if (!b)
        return true;
    out->cuts = atomic_load_explicit(&b->cuts, memory_order_acquire);
    word = atomic_load_explicit(&b->word, memory_order_acquire);
    if (!(word & 1)) {
        out->epoch = word >> 1;
        return true;
    }
    if (admit_slowly(b, rules, now, out))
        return true;
    *out = (struct breaker_ticket){0};
    return false;
}

static struct slice *slice_at(struct breaker *b, const struct config_breaker *rules, struct breaker_now now)
{
    int64_t number = now.mono.us / (rules->window_us / BREAKER_SLICES + 1);
    struct slice *s = &b->slices[number % BREAKER_SLICES];

    if (s->number != number)
        *s = (struct slice){.number = number};
    return s;
}

static void sum_window(const struct breaker *b, const struct config_breaker *rules, struct breaker_now now,
                       uint64_t *attempts, uint64_t *failures)
{
    int64_t number = now.mono.us / (rules->window_us / BREAKER_SLICES + 1);

    *attempts = *failures = 0;
    for (unsigned i = 0; i < BREAKER_SLICES; i++) {
        if (b->slices[i].number <= number - BREAKER_SLICES)
            continue;
        *attempts += b->slices[i].attempts;
        *failures += b->slices[i].failures;
    }
}

static void fail_closed(struct breakers *t, struct breaker *b, const char *cause,
                        const struct config_breaker *rules, struct breaker_now now)
{
    uint64_t attempts, failures;
    char text[BREAKER_TEXT];

    b->failures++;
    sum_window(b, rules, now, &attempts, &failures);
    if (rules->failures && b->failures >= rules->failures) {
        text_of(text, sizeof(text), "%u failure%s in a row: %s", b->failures, b->failures == 1 ? "" : "s",
                cause);
        trip(t, b, rules, now, text);
    } else if (rules->error_rate > 0 && attempts >= rules->min_requests &&
               (double)failures >= rules->error_rate * (double)attempts) {
        text_of(text, sizeof(text), "%llu of %llu attempts failed: %s", (unsigned long long)failures,
                (unsigned long long)attempts, cause);
        trip(t, b, rules, now, text);
    }
}

static void report_closed(struct breakers *t, struct breaker *b, enum breaker_outcome outcome,
                          const char *cause, const struct config_breaker *rules, struct breaker_now now)
{
    struct slice *s = slice_at(b, rules, now);

    s->attempts++;
    if (outcome == BREAKER_FAILURE) {
        s->failures++;
        fail_closed(t, b, cause, rules, now);
    } else {
        b->failures = 0;
    }
}

static void report_probe(struct breakers *t, struct breaker *b, enum breaker_outcome outcome,
                         const char *cause, const struct config_breaker *rules, struct breaker_now now)
{
    char text[BREAKER_TEXT];

    if (outcome == BREAKER_FAILURE) {
        text_of(text, sizeof(text), "a probe failed: %s", cause);
        b->failures++;
        trip(t, b, rules, now, text);
    } else if (outcome == BREAKER_SUCCESS && ++b->successes >= rules->close_after) {
        text_of(text, sizeof(text), "%u probe%s succeeded", b->successes, b->successes == 1 ? "" : "s");
        breaker_move(b, BREAKER_CLOSED, now, text);
        breaker_tell(b, now);
    }
}

void breaker_report(struct breakers *t, struct breaker_ticket *ticket, enum breaker_outcome outcome,
                    const char *cause, const struct config_breaker *rules, struct breaker_now now)
{
    struct breaker *b = ticket->of;
    struct breaker_ticket mine = *ticket;
    bool is_out;

    *ticket = (struct breaker_ticket){0};
    if (!b || (outcome == BREAKER_NEITHER && !mine.probe))
        return;
    (void)pthread_mutex_lock(&b->lock);
    is_out = mine.probe && end_probe(b, &mine); /* also when a forced state came and went meanwhile */
    if (mine.epoch == atomic_load(&b->word) >> 1 && b->forced.force == BREAKER_AUTO) {
        if (is_out && b->state == BREAKER_HALF_OPEN)
            report_probe(t, b, outcome, cause, rules, now);
        else if (!mine.probe && b->state == BREAKER_CLOSED)
            report_closed(t, b, outcome, cause, rules, now);
    }
    (void)pthread_mutex_unlock(&b->lock);
}

bool breaker_is_cut(const struct breaker_ticket *ticket)
{
    return ticket->of && atomic_load_explicit(&ticket->of->cuts, memory_order_acquire) != ticket->cuts;
}

/* ---- looking --------------------------------------------------------------------------------------------------------- */

static void fill(struct breaker *b, const struct config_breaker *rules, struct breaker_now now,
                 struct breaker_view *out)
{
    (void)pthread_mutex_lock(&b->lock);
    breaker_due(b, now);
    *out = (struct breaker_view){.provider = b->provider,
                                 .model = b->model,
                                 .state = breaker_in_effect(b),
                                 .force = b->forced.force,
                                 .is_drain = b->forced.is_drain,
                                 .failures = b->failures,
                                 .successes = b->successes,
                                 .probes = probes_out(b, now),
                                 .since = b->since,
                                 .updated = b->changed.us > b->since.us ? b->changed : b->since,
                                 .forced_at = b->forced.at,
                                 .recovery_sum_us = b->recovery_sum_us,
                                 .recovery_us = b->recovery_us};
    if (b->forced.force != BREAKER_AUTO)
        out->until = b->forced.until;
    else if (b->state == BREAKER_OPEN)
        out->until = breaker_wall_of(b->pause_end, now);
    out->is_available =
        out->state == BREAKER_CLOSED || (out->state == BREAKER_HALF_OPEN && has_place(b, rules, now));
    sum_window(b, rules, now, &out->window_attempts, &out->window_failures);
    memcpy(out->cause, b->cause, sizeof(out->cause));
    memcpy(out->reason, b->forced.reason, sizeof(out->reason));
    memcpy(out->actor, b->forced.actor, sizeof(out->actor));
    memcpy(out->transitions, b->transitions, sizeof(out->transitions));
    memcpy(out->recoveries, b->recoveries, sizeof(out->recoveries));
    (void)pthread_mutex_unlock(&b->lock);
}

bool breaker_look(struct breakers *t, label provider, label model, const struct config_breaker *rules,
                  struct breaker_now now, struct breaker_view *out)
{
    struct breaker *b = breaker_find(t, provider, model);

    if (b)
        fill(b, rules, now, out);
    return b != NULL;
}

size_t breakers_list(struct breakers *t, const struct config_breaker *rules, struct breaker_now now,
                     struct breaker_view *out, size_t cap)
{
    size_t n = 0;

    for (unsigned i = 0; i < BREAKER_SLOTS; i++) {
        struct breaker *b = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (b && n++ < cap)
            fill(b, rules, now, &out[n - 1]);
    }
    return n;
}

size_t breakers_names(struct breakers *t, struct breaker_name *out, size_t cap)
{
    size_t n = 0;

    for (unsigned i = 0; i < BREAKER_SLOTS; i++) {
        struct breaker *b = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (b && n++ < cap)
            out[n - 1] = (struct breaker_name){b->provider, b->model};
    }
    return n;
}

size_t breaker_history(struct breakers *t, label provider, label model,
                       struct breaker_change out[BREAKER_HISTORY])
{
    struct breaker *b = breaker_find(t, provider, model);
    size_t n;

    if (!b)
        return 0;
    (void)pthread_mutex_lock(&b->lock);
    n = b->n_history < BREAKER_HISTORY ? (size_t)b->n_history : BREAKER_HISTORY;
    for (size_t i = 0; i < n; i++)
        out[i] = b->history[(b->n_history - 1 - i) % BREAKER_HISTORY];
    (void)pthread_mutex_unlock(&b->lock);
    return n;
}

const char *breaker_state_name(enum breaker_state s)
{
    static const char *const NAMES[] = {"CLOSED", "HALF_OPEN", "OPEN"};

    return NAMES[s];
}
