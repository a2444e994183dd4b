/* SPDX-License-Identifier: Apache-2.0 */
/* A thread of its own: a loop that ticks a few times a second and does in turn what is due.
 *
 *   every interval, at the same wall time on every node: tell what this node saw ──► a moment later: hear the others, add up,
 *   publish a board. Between: a board of the same attempts when a breaker moved or the configuration is another.
 *
 * It owns the store's handle, the prober and what it heard last; the board is handed out under a lock that is held for a
 * pointer copy. The invariant: every figure on a board comes from one addition of records, so nodes that heard the same
 * records show the same score. The store may block this thread for its deadline; requests never wait for it. */
#include "gatewayd/health/tracker.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gatewayd/telemetry/window.h"
#include "libshared/base/hash.h"
#include "libshared/base/log.h"

#define TICK_US    200000
#define HEAR_US    500000 /* behind the telling: clocks of nodes differ by less */
#define FIRST_PART 10     /* of the probe interval is the time over which first probes are spread */

struct job { /* a probe that an operator waits for */
    struct letter letter;
    struct tracker *t;
    struct job *next;
    char name[LIMIT_NAME_BYTES + 1];
    label provider;
    struct health_probed result;
    enum err_code code;
    bool is_done, is_abandoned;
};

struct tracker {
    struct tracker_options o;
    char node[64];
    pthread_t thread;
    pthread_mutex_t lock; /* board, jobs' ends */
    pthread_cond_t done;
    struct health_board *board;
    bool is_stopping, is_started; /* stopping: guarded by the lock */
    /* the thread's */
    struct loop *loop;
    struct mailbox *mailbox;
    struct prober *prober;
    struct timer tick;
    struct letter stop;
    struct job *jobs; /* under way */
    struct config *config;
    int64_t told_turn;   /* number of the interval that was told last */
    struct wall hear_at; /* 0: not due */
    bool is_down;
    struct facts_provider_window *seen; /* of this node, when it was told last */
    size_t n_seen;
    struct health_record *heard; /* of the others, when they were asked last */
    unsigned *nodes_of;
    size_t n_heard;
    struct said *said; /* of every provider that was ever on a board */
    size_t n_said;
};

/* ---- what this node saw ---------------------------------------------------------------------------------------------- */

static void forget_seen(struct tracker *t)
{
    for (size_t i = 0; i < t->n_seen; i++)
        sketch_release(&t->seen[i].sketch);
    t->n_seen = 0;
}

static void look_at_facts(struct tracker *t, struct wall now)
{
    struct facts *tables[TRACKER_FACTS_MAX];
    size_t n = t->o.facts(t->o.user, tables);
    unsigned slots = (unsigned)(t->config->health.window_us / WINDOW_SLOT_US);

    forget_seen(t);
    t->n_seen = facts_provider_windows(tables, n, now, slots ? slots : 1, t->seen, 4 * LIMIT_PROVIDERS);
}

static const struct facts_provider_window *seen_of(const struct tracker *t, label provider)
{
    for (size_t i = 0; i < t->n_seen; i++)
        if (t->seen[i].provider == provider)
            return &t->seen[i];
    return NULL;
}

/* The sketch is borrowed. */
static struct health_record own_record(const struct tracker *t, const struct config_provider *p)
{
    const struct facts_provider_window *w = seen_of(t, p->label);
    struct health_record r = {.provider = p->label, .probed = prober_last(t->prober, p->label)};

    if (w) {
        r.attempts = w->attempts;
        r.errors = w->errors;
        r.last_attempt = w->last;
        r.sketch = w->sketch;
    }
    return r;
}

static void note_store(struct tracker *t, enum err_code e, const struct err *err)
{
    if (e && !t->is_down)
        log_warn("health: the realtime store does not answer, so scores are of this node alone: %s",
                 err_text(err));
    if (!e && t->is_down)
        log_info("health: the realtime store answers again");
    t->is_down = e != ERR_OK;
}

static void tell(struct tracker *t, struct wall now, const struct health_board *board)
{
    struct health_record *records = calloc(t->config->n_providers + 1, sizeof(*records));
    struct err err = {0};
    size_t n = 0;

    if (!records)
        abort();
    for (size_t i = 0; i < t->config->n_providers; i++) {
        struct health_record r = own_record(t, &t->config->providers[i]);

        r.until.us = now.us + 3 * t->config->health.interval_us;
        if (r.last_attempt.us || r.probed.at.us)
            records[n++] = r;
    }
    note_store(t, health_share_tell(t->o.kv, t->node, records, n, board, &err), &err);
    free(records);
}

/* ---- what others saw ------------------------------------------------------------------------------------------------- */

static void forget_heard(struct tracker *t)
{
    for (size_t i = 0; i < t->n_heard; i++)
        health_record_release(&t->heard[i]);
    free(t->heard);
    free(t->nodes_of);
    t->heard = NULL;
    t->nodes_of = NULL;
    t->n_heard = 0;
}

static void begin_hearing(struct tracker *t)
{
    forget_heard(t);
    t->n_heard = t->config->n_providers;
    t->heard = calloc(t->n_heard + 1, sizeof(*t->heard));
    t->nodes_of = calloc(t->n_heard + 1, sizeof(*t->nodes_of));
    if (!t->heard || !t->nodes_of)
        abort();
    for (size_t i = 0; i < t->n_heard; i++)
        t->heard[i].provider = t->config->providers[i].label;
}

static void hear(struct tracker *t, struct wall now)
{
    struct err err = {0};

    begin_hearing(t);
    if (t->o.is_shared && !t->is_down)
        note_store(t, health_share_hear(t->o.kv, t->node, now, t->heard, t->nodes_of, t->n_heard, &err),
                   &err);
}

/* Its index in `heard`, or n_heard; the configuration may be another than when it was heard. */
static size_t heard_at(const struct tracker *t, label provider)
{
    size_t i = 0;

    while (i < t->n_heard && t->heard[i].provider != provider)
        i++;
    return i;
}

/* ---- the board ------------------------------------------------------------------------------------------------------- */

struct shut { /* breakers of a provider */
    unsigned n, open, half_open;
};

static struct shut *look_at_breakers(struct tracker *t)
{
    const struct config *c = t->config;
    struct breaker_now now = breaker_now();
    size_t cap = breakers_list(t->o.breakers, &c->breaker, now, NULL, 0), n;
    struct breaker_view *all = calloc(cap + 1, sizeof(*all));
    struct shut *out = calloc(c->n_providers + 1, sizeof(*out));

    if (!all || !out)
        abort();
    n = breakers_list(t->o.breakers, &c->breaker, now, all, cap);
    for (size_t i = 0; i < n && i < cap; i++)
        for (size_t p = 0; p < c->n_providers; p++)
            if (c->providers[p].label == all[i].provider) {
                out[p].n++;
                out[p].open += all[i].state == BREAKER_OPEN;
                out[p].half_open += all[i].state == BREAKER_HALF_OPEN;
                break;
            }
    free(all);
    return out;
}

/* An old probe says nothing of now. */
static enum health_probe probe_of(const struct tracker *t, const struct health_probed *p, struct wall now)
{
    int64_t life_us = 2 * t->config->health.probe_interval_us;

    if (life_us < t->config->health.window_us)
        life_us = t->config->health.window_us;
    if (!p->at.us || p->is_unclear || now.us - p->at.us > life_us)
        return HEALTH_NOT_PROBED;
    return p->is_ok ? HEALTH_PROBE_OK : HEALTH_PROBE_FAILED;
}

static void fill_row(struct tracker *t, size_t i, const struct shut *s, struct wall now,
                     struct health_row *row)
{
    const struct config_provider *p = &t->config->providers[i];
    struct health_record own = own_record(t, p), sum = {.provider = p->label};
    size_t at = heard_at(t, p->label);

    (void)!health_record_add(&sum, &own); /* without memory its percentile is missing */
    if (at < t->n_heard)
        (void)!health_record_add(&sum, &t->heard[at]);
    row->provider = p->label;
    row->nodes = (own.attempts > 0) + (at < t->n_heard ? t->nodes_of[at] : 0);
    row->facts = (struct health_facts){.attempts = sum.attempts,
                                       .errors = sum.errors,
                                       .p95_s = sketch_quantile_us(&sum.sketch, 0.95) / 1e6,
                                       .breakers = s->n,
                                       .breakers_open = s->open,
                                       .breakers_half_open = s->half_open,
                                       .p95_target_s = (double)p->p95_target_us / 1e6,
                                       .probe = probe_of(t, &sum.probed, now),
                                       .is_stopped = !p->is_enabled ||
                                                     config_provider_state(t->config, p->label, now.us)};
    row->p50_s = sketch_quantile_us(&sum.sketch, 0.5) / 1e6;
    row->health = health_of(&row->facts);
    row->last_attempt = sum.last_attempt;
    row->probed = sum.probed.at;
    row->probe_us = sum.probed.us;
    memcpy(row->probe_text, sum.probed.text, sizeof(row->probe_text));
    health_record_release(&sum);
}

static int by_name(const void *a, const void *b)
{
    const struct health_row *x = a, *y = b;

    return strcmp(label_text(x->provider), label_text(y->provider));
}

static struct health_board *make_board(struct tracker *t, const struct shut *shut, struct wall now)
{
    struct health_board *b = health_board_new(t->config->n_providers);

    b->at = now;
    b->window_us = t->config->health.window_us;
    b->interval_us = t->config->health.interval_us;
    b->is_shared = t->o.is_shared && !t->is_down;
    for (size_t i = 0; i < b->n; i++)
        fill_row(t, i, &shut[i], now, &b->rows[i]);
    qsort(b->rows, b->n, sizeof(*b->rows), by_name);
    return b;
}

/* ---- events ---------------------------------------------------------------------------------------------------------- */

struct said { /* the health that was known last */
    label provider;
    struct health health;
};
static const struct health HEALTHY = {.is_known = true, .score = 100};

static struct said *said_of(struct tracker *t, label provider)
{
    for (size_t i = 0; i < t->n_said; i++)
        if (t->said[i].provider == provider)
            return &t->said[i];
    if (t->n_said == 4 * LIMIT_PROVIDERS)
        return NULL;
    t->said[t->n_said] = (struct said){.provider = provider};
    return &t->said[t->n_said++];
}

static enum event_severity severity_of(const struct health *h)
{
    double shown = health_rounded(h->score);

    if (shown >= HEALTH_HEALTHY)
        return EVENT_INFO;
    return shown >= HEALTH_DEGRADED ? EVENT_WARNING : EVENT_CRITICAL;
}

static void tell_change(struct tracker *t, const struct health_row *row, const struct health *was)
{
    const char *name = label_text(row->provider);
    struct event ev;

    event_make(&ev, EVENT_HEALTH, severity_of(&row->health), name, "went from %.1f (%s) to %.1f (%s)",
               health_rounded(was->score), health_name(was), health_rounded(row->health.score),
               health_name(&row->health));
    event_add_number(&ev, "old", health_rounded(was->score));
    event_add_number(&ev, "new", health_rounded(row->health.score));
    event_add_text(&ev, "status", health_name(&row->health));
    events_tell_mt(t->o.events, &ev);
}

/* Compared with the last that was known: a provider that nobody uses for a while has not become healthier. */
static void tell_changes(struct tracker *t, const struct health_board *b)
{
    for (size_t i = 0; i < b->n; i++) {
        const struct health_row *row = &b->rows[i];
        struct said *s = said_of(t, row->provider);
        bool was_known = s && s->health.is_known;

        if (!s || !row->health.is_known)
            continue;
        if (was_known ? strcmp(health_name(&s->health), health_name(&row->health)) != 0
                      : health_rounded(row->health.score) < HEALTH_HEALTHY)
            tell_change(t, row, was_known ? &s->health : &HEALTHY);
        s->health = row->health;
    }
}

/* ---- publishing ------------------------------------------------------------------------------------------------------ */

static void publish(struct tracker *t, const struct shut *shut, struct wall now)
{
    struct health_board *b = make_board(t, shut, now), *old;

    (void)pthread_mutex_lock(&t->lock);
    old = t->board;
    t->board = b;
    (void)pthread_mutex_unlock(&t->lock);
    health_board_unref(old);
    tell_changes(t, b); /* nobody else lets go of it */
}

struct health_board *tracker_board_mt(struct tracker *t)
{
    struct health_board *b;

    (void)pthread_mutex_lock(&t->lock);
    b = health_board_ref(t->board);
    (void)pthread_mutex_unlock(&t->lock);
    return b;
}

/* Only the tracker replaces the board, so it may look at it without the lock. */
static bool have_breakers_moved(const struct tracker *t, const struct shut *shut)
{
    for (size_t i = 0; i < t->config->n_providers; i++) {
        const struct health_row *row = health_board_find(t->board, t->config->providers[i].label);

        if (!row || row->facts.breakers != shut[i].n || row->facts.breakers_open != shut[i].open ||
            row->facts.breakers_half_open != shut[i].half_open)
            return true;
    }
    return false;
}

/* ---- probes ---------------------------------------------------------------------------------------------------------- */

static void end_job(struct job *j, enum err_code code)
{
    struct tracker *t = j->t;

    (void)pthread_mutex_lock(&t->lock);
    j->code = code;
    j->is_done = true;
    if (j->is_abandoned)
        free(j);
    else
        (void)pthread_cond_broadcast(&t->done);
    (void)pthread_mutex_unlock(&t->lock);
}

/* True when a probe ended that somebody waited for. */
static bool end_jobs(struct tracker *t)
{
    struct job **at = &t->jobs, *j;
    bool any = false;

    while ((j = *at)) {
        if (prober_is_busy(t->prober, j->provider)) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        j->result = prober_last(t->prober, j->provider);
        any = true;
        end_job(j, ERR_OK);
    }
    return any;
}

static const struct config_provider *provider_of(const struct tracker *t, const char *name)
{
    return config_find_provider(t->config, span_of(name));
}

static bool is_stopping(struct tracker *t)
{
    bool is;

    (void)pthread_mutex_lock(&t->lock);
    is = t->is_stopping;
    (void)pthread_mutex_unlock(&t->lock);
    return is;
}

static void on_job(struct letter *l)
{
    struct job *j = CONTAINER_OF(l, struct job, letter);
    struct tracker *t = j->t;
    const struct config_provider *p = provider_of(t, j->name);

    if (!p || is_stopping(t)) {
        end_job(j, p ? ERR_UNAVAILABLE : ERR_NOT_FOUND);
        return;
    }
    j->provider = p->label;
    if (!prober_start(t->prober, p, t->config->health.probe_timeout_us)) {
        end_job(j, ERR_UNSUPPORTED);
        return;
    }
    j->next = t->jobs;
    t->jobs = j;
}

/* Under the lock. Lets go of the job, or leaves it to the thread. */
static enum err_code await(struct tracker *t, struct job *j, int64_t wait_us, struct health_probed *out)
{
    struct timespec end;
    enum err_code e;

    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += wait_us / 1000000 + 1;
    while (!j->is_done && pthread_cond_timedwait(&t->done, &t->lock, &end) != ETIMEDOUT)
        ;
    j->is_abandoned = !j->is_done;
    if (j->is_abandoned)
        return ERR_TIMEOUT;
    e = j->code;
    *out = j->result;
    free(j);
    return e;
}

static enum err_code refusal(enum err_code e, const char *provider, struct err *err)
{
    if (e == ERR_NOT_FOUND)
        return err_set(err, e, "no provider is named '%.64s'", provider);
    if (e == ERR_UNSUPPORTED)
        return err_set(err, e, "provider '%.64s' is off, has no usable key, or its kind has no free endpoint",
                       provider);
    return err_set(err, e, "provider '%.64s' could not be probed: %s", provider, err_row(e)->text);
}

enum err_code tracker_probe_mt(struct tracker *t, const char *provider, int64_t wait_us,
                               struct health_probed *out, struct err *err)
{
    struct job *j = calloc(1, sizeof(*j));
    enum err_code e = ERR_UNAVAILABLE;

    if (!j)
        abort();
    j->letter.fn = on_job;
    j->t = t;
    (void)span_copy(j->name, sizeof(j->name), span_of(provider));
    (void)pthread_mutex_lock(&t->lock);
    if (t->is_stopping || !t->is_started) {
        free(j);
    } else {
        mailbox_post_mt(t->mailbox, &j->letter);
        e = await(t, j, wait_us, out);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return e ? refusal(e, provider, err) : ERR_OK;
}

/* The same for one node and one silence, and different from node to node: the first that asks spares it the others. */
static int64_t jitter_us(const struct tracker *t, int64_t idle_since_us, int64_t most_us)
{
    uint64_t h = hash_bytes(span_of(t->node)) + (uint64_t)idle_since_us * 0x9e3779b97f4a7c15u;

    h = (h ^ h >> 31) * 0x94d049bb133111ebu;
    return (int64_t)((h ^ h >> 29) % (uint64_t)(most_us + 1));
}

/* Nobody used it and no node asked it for an interval, give or take a tenth. */
static bool is_due(struct tracker *t, const struct config_provider *p, const struct health_row *row,
                   struct wall now)
{
    int64_t interval = t->config->health.probe_interval_us, idle_since;
    struct wall first = prober_first(t->prober, p->label, now, interval / FIRST_PART);

    if (now.us < first.us)
        return false;
    idle_since = row->last_attempt.us > row->probed.us ? row->last_attempt.us : row->probed.us;
    if (!idle_since)
        return true;
    return now.us - idle_since > interval - interval / 10 + jitter_us(t, idle_since, interval / 5);
}

static void start_probes(struct tracker *t, struct wall now)
{
    const struct config *c = t->config;

    for (size_t i = 0; c->health.probe_interval_us && i < c->n_providers; i++) {
        const struct config_provider *p = &c->providers[i];
        const struct health_row *row = health_board_find(t->board, p->label);
        struct wall last = prober_last(t->prober, p->label).at;

        if (!p->is_probed || !row || config_provider_state(c, p->label, now.us) || !prober_can(p) ||
            prober_is_busy(t->prober, p->label) ||
            (last.us && now.us - last.us < c->health.probe_interval_us / 2) || !is_due(t, p, row, now))
            continue;
        (void)prober_start(t->prober, p, c->health.probe_timeout_us);
    }
}

uint64_t tracker_probes_mt(const struct tracker *t, label provider, enum probe_outcome o)
{
    return prober_count_mt(t->prober, provider, o);
}

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

static bool take_config(struct tracker *t)
{
    struct config *c = t->o.config(t->o.user);
    bool is_new = c != t->config;

    config_unref(t->config);
    t->config = c;
    return is_new;
}

static void turn(struct tracker *t)
{
    bool is_news = take_config(t);
    struct wall now = wall_now();
    int64_t interval = t->config->health.interval_us, number = now.us / interval;
    struct shut *shut;

    is_news |= end_jobs(t);
    if (number != t->told_turn) {
        t->told_turn = number;
        look_at_facts(t, now);
        tell(t, now, t->board);
        t->hear_at.us = now.us + (!t->o.is_shared ? 0 : interval > 4 * HEAR_US ? HEAR_US : interval / 4);
    }
    if (t->hear_at.us && now.us >= t->hear_at.us) {
        t->hear_at.us = 0;
        hear(t, now);
        is_news = true;
    }
    shut = look_at_breakers(t);
    if (!is_news && have_breakers_moved(t, shut)) {
        look_at_facts(t, now);
        is_news = true;
    }
    if (is_news)
        publish(t, shut, now);
    free(shut);
    start_probes(t, now);
}

static void on_tick(struct timer *timer)
{
    struct tracker *t = CONTAINER_OF(timer, struct tracker, tick);
    int64_t wait = t->config->health.interval_us / 2;

    turn(t);
    loop_timer(t->loop, &t->tick, wait < TICK_US ? wait : TICK_US);
}

static void on_stop(struct letter *l)
{
    loop_stop(CONTAINER_OF(l, struct tracker, stop)->loop);
}

static void *run(void *arg)
{
    struct tracker *t = arg;

    (void)pthread_setname_np(pthread_self(), "health");
    on_tick(&t->tick);
    loop_run(t->loop);
    return NULL;
}

void tracker_free(struct tracker *t)
{
    if (!t)
        return;
    if (t->loop)
        loop_timer_cancel(t->loop, &t->tick);
    prober_free(t->prober);
    mailbox_free(t->mailbox);
    loop_free(t->loop);
    forget_seen(t);
    free(t->seen);
    free(t->said);
    forget_heard(t);
    kv_free(t->o.kv);
    config_unref(t->config);
    health_board_unref(t->board);
    (void)pthread_cond_destroy(&t->done);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

static bool make_parts(struct tracker *t, struct err *err)
{
    t->loop = loop_new(err);
    t->mailbox = t->loop ? mailbox_new(t->loop, err) : NULL;
    t->prober = t->mailbox ? prober_new(t->loop, t->mailbox, t->config->upstream_ca_file, err) : NULL;
    return t->prober != NULL;
}

static void make_lock(struct tracker *t)
{
    pthread_condattr_t attr;

    (void)pthread_mutex_init(&t->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&t->done, &attr);
    (void)pthread_condattr_destroy(&attr);
}

struct tracker *tracker_new(const struct tracker_options *o, struct err *err)
{
    struct tracker *t = calloc(1, sizeof(*t));
    struct shut *shut;

    if (!t)
        abort();
    t->o = *o;
    t->seen = calloc(4 * LIMIT_PROVIDERS, sizeof(*t->seen));
    t->said = calloc(4 * LIMIT_PROVIDERS, sizeof(*t->said));
    if (!t->seen || !t->said)
        abort();
    (void)snprintf(t->node, sizeof(t->node), "%s", o->node);
    t->tick.fn = on_tick;
    t->stop.fn = on_stop;
    make_lock(t);
    (void)take_config(t);
    if (!make_parts(t, err)) {
        tracker_free(t);
        return NULL;
    }
    shut = look_at_breakers(t);
    publish(t, shut, wall_now());
    free(shut);
    return t;
}

enum err_code tracker_start(struct tracker *t, struct err *err)
{
    if (pthread_create(&t->thread, NULL, run, t) != 0)
        return err_set(err, ERR_NO_MEMORY, "no thread for health");
    t->is_started = true;
    return ERR_OK;
}

void tracker_stop(struct tracker *t)
{
    if (!t)
        return;
    (void)pthread_mutex_lock(&t->lock);
    t->is_stopping = true;
    (void)pthread_mutex_unlock(&t->lock);
    if (!t->is_started)
        return;
    mailbox_post_mt(t->mailbox, &t->stop);
    (void)pthread_join(t->thread, NULL);
    t->is_started = false;
    loop_turn(t->loop, 0); /* what came behind the stop is refused */
    while (t->jobs) {
        struct job *j = t->jobs;

        t->jobs = j->next;
        end_job(j, ERR_UNAVAILABLE);
    }
}
