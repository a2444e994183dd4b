/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread. The table only grows: a breaker is found without a lock and lives until the table's end. Its `word` tells the hot
 * path in one load whether it is simply closed; all else is behind the breaker's own lock, which is held for a few
 * comparisons. The invariant: every change of state goes through move(), which begins a new epoch, and a report only counts in
 * the epoch of its ticket. The tricky part is `changed`: stamps of nodes are compared, so a stamp is never older than what
 * this node has seen. */
#include "gatewayd/resilience/breaker.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/catalog/metrics.h"

#define SLOTS  (2 * LIMIT_BREAKERS) /* a power of two, at most half full */
#define SLICES 10                   /* of the sliding window */
#define JITTER 5                    /* a pause is shortened by up to a fifth */

_Static_assert((SLOTS & (SLOTS - 1)) == 0, "slots are masked");
_Static_assert(METRIC_BUCKETS_MAX <= BREAKER_BUCKETS, "a view has room for the histogram");

struct slice {
    int64_t number; /* of the slice since the clock's beginning */
    uint32_t attempts, failures;
};
struct probe {
    uint32_t serial;
    struct mono until; /* 0: the place is free */
};

struct listener { /* of changes; NULL: nobody */
    breaker_change_fn fn;
    void *user;
};

struct breaker {
    label provider, model;
    const struct listener *listener; /* the table's */
    _Atomic uint64_t word;           /* epoch << 1 | is not simply closed */
    _Atomic uint32_t cuts;           /* times that it was forced open without patience */
    pthread_mutex_t lock;
    enum breaker_state state;
    unsigned failures, successes, laps;
    struct mono pause_end, opened; /* opened: when it was last closed until then */
    struct wall since, changed;
    struct slice slices[SLICES];
    struct probe *probes;
    unsigned n_probes;
    uint32_t serial;
    struct breaker_forced forced; /* BREAKER_AUTO with .at: it was forced once */
    char cause[BREAKER_TEXT];
    struct breaker_change history[BREAKER_HISTORY]; /* a ring */
    uint64_t n_history;
    uint64_t transitions[BREAKER_STATES], recoveries[BREAKER_BUCKETS + 1], recovery_sum_us;
    int64_t recovery_us;
    bool is_news;
    bool is_adopting; /* the change that is being recorded is another node's */
    uint64_t seen;    /* round in which another node, or this one through the store, was heard of it */
};

struct breakers {
    pthread_mutex_t lock; /* for additions, and round */
    struct breaker *_Atomic slots[SLOTS];
    _Atomic unsigned n;
    _Atomic uint64_t random;
    uint64_t round;
    struct listener listener;
};

/* ---- the table ------------------------------------------------------------------------------------------------------- */

static unsigned slot_of(label provider, label model)
{
    uint64_t h = ((uint64_t)provider << 32 | model) * 0x9e3779b97f4a7c15u;

    return (unsigned)(h >> 40) & (SLOTS - 1);
}

static struct breaker *find(struct breakers *t, label provider, label model)
{
    for (unsigned i = slot_of(provider, model);; i = (i + 1) & (SLOTS - 1)) {
        struct breaker *b = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (!b || (b->provider == provider && b->model == model))
            return b;
    }
}

static struct breaker *add(struct breakers *t, label provider, label model)
{
    struct breaker *b = calloc(1, sizeof(*b));
    unsigned i = slot_of(provider, model);

    if (!b)
        abort();
    b->provider = provider;
    b->model = model;
    b->listener = &t->listener;
    b->recovery_us = -1;
    (void)pthread_mutex_init(&b->lock, NULL);
    while (atomic_load(&t->slots[i]))
        i = (i + 1) & (SLOTS - 1);
    atomic_store_explicit(&t->slots[i], b, memory_order_release);
    atomic_fetch_add(&t->n, 1);
    return b;
}

/* NULL when the table is full: what has no breaker is never refused. */
static struct breaker *find_or_add(struct breakers *t, label provider, label model)
{
    struct breaker *b = find(t, provider, model);

    if (b)
        return b;
    (void)pthread_mutex_lock(&t->lock);
    b = find(t, provider, model);
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
    for (unsigned i = 0; i < SLOTS; i++) {
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
    (void)find_or_add(t, provider, model);
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

static enum breaker_state in_effect(const struct breaker *b)
{
    switch (b->forced.force) {
    case BREAKER_FORCED_OPEN:
        return BREAKER_OPEN;
    case BREAKER_FORCED_CLOSED:
        return BREAKER_CLOSED;
    case BREAKER_AUTO:
        break;
    }
    return b->state;
}

static void new_epoch(struct breaker *b)
{
    uint64_t epoch = (atomic_load(&b->word) >> 1) + 1;
    bool is_simple = b->state == BREAKER_CLOSED && b->forced.force == BREAKER_AUTO;

    atomic_store_explicit(&b->word, epoch << 1 | !is_simple, memory_order_release);
}

static struct wall newer(struct wall now, struct wall seen)
{
    return (struct wall){now.us > seen.us ? now.us : seen.us + 1};
}

static void record(struct breaker *b, enum breaker_state from, struct breaker_now now, const char *cause)
{
    struct breaker_change *c = &b->history[b->n_history++ % BREAKER_HISTORY];

    *c = (struct breaker_change){.at = now.wall, .from = from, .to = in_effect(b)};
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

static void move(struct breaker *b, enum breaker_state to, struct breaker_now now, const char *cause)
{
    enum breaker_state shown = in_effect(b), was = b->state;
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
    new_epoch(b);
    record(b, shown, now, cause);
}

static void tell(struct breaker *b, struct breaker_now now)
{
    b->changed = newer(now.wall, b->changed);
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
    move(b, BREAKER_OPEN, now, cause);
    b->laps++;
    tell(b, now);
}

/* The stamp of a forced state's end: newer than its beginning and older than whatever was said after that, here or elsewhere,
 * though nobody may have heard it yet. */
static struct wall end_of(const struct breaker_forced *f)
{
    return (struct wall){f->at.us + 1};
}

/* What time alone changes. */
static void due(struct breaker *b, struct breaker_now now)
{
    if (b->forced.force != BREAKER_AUTO && b->forced.until.us && b->forced.until.us <= now.wall.us) {
        enum breaker_state was = in_effect(b);

        b->forced = (struct breaker_forced){.at = end_of(&b->forced)};
        new_epoch(b);
        record(b, was, now, "the forced state has ended");
        b->is_news = true;
    }
    if (b->forced.force == BREAKER_AUTO && b->state == BREAKER_OPEN && b->pause_end.us <= now.mono.us) {
        move(b, BREAKER_HALF_OPEN, now, "the pause is over");
        tell(b, now);
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
    due(b, now);
    out->epoch = atomic_load(&b->word) >> 1;
    switch (in_effect(b)) {
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
    struct breaker *b = find_or_add(t, provider, model);
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
    int64_t number = now.mono.us / (rules->window_us / SLICES + 1);
    struct slice *s = &b->slices[number % SLICES];

    if (s->number != number)
        *s = (struct slice){.number = number};
    return s;
}

static void sum_window(const struct breaker *b, const struct config_breaker *rules, struct breaker_now now,
                       uint64_t *attempts, uint64_t *failures)
{
    int64_t number = now.mono.us / (rules->window_us / SLICES + 1);

    *attempts = *failures = 0;
    for (unsigned i = 0; i < SLICES; i++) {
        if (b->slices[i].number <= number - SLICES)
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
        move(b, BREAKER_CLOSED, now, text);
        tell(b, now);
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

static struct wall wall_of(struct mono t, struct breaker_now now)
{
    return (struct wall){now.wall.us + mono_diff_us(t, now.mono)};
}

static void fill(struct breaker *b, const struct config_breaker *rules, struct breaker_now now,
                 struct breaker_view *out)
{
    (void)pthread_mutex_lock(&b->lock);
    due(b, now);
    *out = (struct breaker_view){.provider = b->provider,
                                 .model = b->model,
                                 .state = in_effect(b),
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
        out->until = wall_of(b->pause_end, now);
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
    struct breaker *b = find(t, provider, model);

    if (b)
        fill(b, rules, now, out);
    return b != NULL;
}

size_t breakers_list(struct breakers *t, const struct config_breaker *rules, struct breaker_now now,
                     struct breaker_view *out, size_t cap)
{
    size_t n = 0;

    for (unsigned i = 0; i < SLOTS; i++) {
        struct breaker *b = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (b && n++ < cap)
            fill(b, rules, now, &out[n - 1]);
    }
    return n;
}

size_t breakers_names(struct breakers *t, struct breaker_name *out, size_t cap)
{
    size_t n = 0;

    for (unsigned i = 0; i < SLOTS; i++) {
        struct breaker *b = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (b && n++ < cap)
            out[n - 1] = (struct breaker_name){b->provider, b->model};
    }
    return n;
}

size_t breaker_history(struct breakers *t, label provider, label model,
                       struct breaker_change out[BREAKER_HISTORY])
{
    struct breaker *b = find(t, provider, model);
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

/* ---- operators ------------------------------------------------------------------------------------------------------- */

static void use_forced(struct breaker *b, const struct breaker_forced *f, struct breaker_now now)
{
    enum breaker_state was = in_effect(b);
    bool is_repeated = f->force == BREAKER_AUTO && b->forced.force == BREAKER_AUTO;
    char text[2 * BREAKER_TEXT];

    b->forced = *f;
    if (f->force == BREAKER_FORCED_OPEN && !f->is_drain)
        atomic_fetch_add(&b->cuts, 1);
    if (is_repeated)
        return;
    new_epoch(b);
    text_of(text, sizeof(text), "%s by %s%s%s",
            f->force == BREAKER_FORCED_OPEN     ? "forced open"
            : f->force == BREAKER_FORCED_CLOSED ? "forced closed"
                                                : "given back to itself",
            f->actor[0] ? f->actor : "an operator", f->reason[0] ? ": " : "", f->reason);
    record(b, was, now, text);
}

void breaker_force(struct breakers *t, label provider, label model, const struct breaker_forced *f,
                   struct breaker_now now)
{
    struct breaker *b = find_or_add(t, provider, model);
    struct breaker_forced mine = *f;

    if (!b)
        return;
    (void)pthread_mutex_lock(&b->lock);
    due(b, now);
    mine.at = newer(mine.at.us ? mine.at : now.wall, end_of(&b->forced));
    use_forced(b, &mine, now);
    b->is_news = true;
    (void)pthread_mutex_unlock(&b->lock);
}

void breaker_restore(struct breakers *t, label provider, label model, const struct breaker_forced *f,
                     struct breaker_now now)
{
    struct breaker *b = find_or_add(t, provider, model);

    if (!b)
        return;
    (void)pthread_mutex_lock(&b->lock);
    if (f->at.us > b->forced.at.us) {
        use_forced(b, f, now);
        b->is_news = true;
    }
    (void)pthread_mutex_unlock(&b->lock);
}

void breaker_reset(struct breakers *t, label provider, label model, const char *actor, struct breaker_now now)
{
    struct breaker *b = find_or_add(t, provider, model);
    char text[BREAKER_TEXT];

    if (!b)
        return;
    text_of(text, sizeof(text), "reset by %s", actor);
    (void)pthread_mutex_lock(&b->lock);
    due(b, now);
    if (b->forced.force != BREAKER_AUTO) {
        struct breaker_forced none = {.at = newer(now.wall, b->forced.at)};

        (void)snprintf(none.actor, sizeof(none.actor), "%s", actor);
        use_forced(b, &none, now);
    }
    move(b, BREAKER_CLOSED, now, text);
    tell(b, now);
    (void)pthread_mutex_unlock(&b->lock);
}

/* ---- other nodes ----------------------------------------------------------------------------------------------------- */

static void take(struct breaker *b, struct breaker_now now, struct breaker_record *out)
{
    *out = (struct breaker_record){.provider = b->provider,
                                   .model = b->model,
                                   .state = b->state,
                                   .at = b->changed,
                                   .laps = b->laps,
                                   .forced = b->forced};
    if (b->state == BREAKER_OPEN)
        out->until = wall_of(b->pause_end, now);
    memcpy(out->cause, b->cause, sizeof(out->cause));
    b->is_news = false;
}

size_t breakers_take_news(struct breakers *t, struct breaker_now now, struct breaker_record *out, size_t cap)
{
    size_t n = 0;

    for (unsigned i = 0; i < SLOTS && n < cap; i++) {
        struct breaker *b = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (!b)
            continue;
        (void)pthread_mutex_lock(&b->lock);
        due(b, now);
        if (b->is_news)
            take(b, now, &out[n++]);
        (void)pthread_mutex_unlock(&b->lock);
    }
    return n;
}

void breaker_is_news(struct breakers *t, label provider, label model)
{
    struct breaker *b = find(t, provider, model);

    if (!b)
        return;
    (void)pthread_mutex_lock(&b->lock);
    b->is_news = true;
    (void)pthread_mutex_unlock(&b->lock);
}

void breakers_forgotten_are_news(struct breakers *t)
{
    uint64_t round;

    (void)pthread_mutex_lock(&t->lock);
    round = t->round++;
    (void)pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct breaker *b = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (!b)
            continue;
        (void)pthread_mutex_lock(&b->lock);
        if (b->seen < round && (b->state != BREAKER_CLOSED || b->forced.force != BREAKER_AUTO))
            b->is_news = true;
        (void)pthread_mutex_unlock(&b->lock);
    }
}

static void adopt_state(struct breaker *b, const struct breaker_record *r, struct breaker_now now)
{
    char text[BREAKER_TEXT + 32];

    text_of(text, sizeof(text), "another node: %s", r->cause);
    if (r->state == BREAKER_OPEN) {
        b->pause_end = mono_add_us(now.mono, r->until.us - now.wall.us);
        b->laps = r->laps;
    }
    if (r->state != b->state)
        move(b, r->state, now, text);
    b->changed = r->at;
    b->is_news = false;
}

/* Nodes whose clocks are behind a third one's may stamp two changes alike: then all must take the same one of them. */
static bool is_above(struct wall at, unsigned rank, struct wall other_at, unsigned other_rank)
{
    return at.us != other_at.us ? at.us > other_at.us : rank > other_rank;
}

void breaker_adopt(struct breakers *t, const struct breaker_record *r, struct breaker_now now)
{
    struct breaker *b = find_or_add(t, r->provider, r->model);
    uint64_t round;

    if (!b)
        return;
    (void)pthread_mutex_lock(&t->lock);
    round = t->round;
    (void)pthread_mutex_unlock(&t->lock);
    (void)pthread_mutex_lock(&b->lock);
    b->seen = round;
    b->is_adopting = true;
    if (is_above(r->at, r->state, b->changed, b->state))
        adopt_state(b, r, now);
    if (is_above(r->forced.at, r->forced.force, b->forced.at, b->forced.force))
        use_forced(b, &r->forced, now);
    b->is_adopting = false;
    if (is_above(b->changed, b->state, r->at, r->state) ||
        is_above(b->forced.at, b->forced.force, r->forced.at, r->forced.force))
        b->is_news = true; /* an older record was written over ours */
    due(b, now);
    (void)pthread_mutex_unlock(&b->lock);
}
