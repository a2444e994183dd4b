/* SPDX-License-Identifier: Apache-2.0 */
/* A store thread of its own owns the handles and the hours: a ring for each provider by the number of the hour. Older hours are
 * read once, the last ones again every time, since late rows come. Others copy the findings under the lock. A finding of a
 * closed hour is stored by whoever is first, by a unique key, and told by that node alone; one of the hour that runs is told
 * unless its event is there already. */
#include "gatewayd/books/watcher.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/store_thread.h"
#include "gatewayd/books/income.h"
#include "libshared/analytics/hourly.h"
#include "libshared/base/log.h"

#define LOOK_US     30000000
#define RETRY_US    2000000
#define CLOSED_US   ((int64_t)130 * 1000000) /* after an hour's end its last batches are in */
#define HOUR_US     ((int64_t)3600 * 1000000)
#define FRESH       4 /* hours that are read again */
#define HOUR_S      ((int64_t)3600)
#define OVERLAP_S   60 /* clocks of nodes differ, and a roll-up takes its time */
#define SLICE       24 /* hours of one reading */
#define PROVIDERS   256u
#define TOLD_HOURS  24 /* older findings are neither stored nor told any more */
#define EVENT_HOURS 3
#define DEADLINE_US 5000000
#define CHORES_US   ((int64_t)600 * 1000000)
#define PAST_HOURS  ((int64_t)ANOMALY_HOURS)

struct subject {
    label provider;
    int64_t first;              /* number of the hour it was first seen in */
    struct anomaly_hour *hours; /* ANOMALY_HOURS, a ring */
};

struct watcher {
    struct watcher_options o;
    struct store_thread *thread;
    pthread_mutex_t lock; /* guards `found`, `n_found` and `looked` */
    struct watcher_finding found[WATCHER_FINDINGS];
    size_t n_found;
    struct wall looked;
    _Atomic bool is_over;
    /* the thread's */
    struct subject subjects[PROVIDERS];
    size_t n;
    struct watermark begun; /* what the journals had at the start */
    bool is_caught_up;
    int64_t read_at; /* second at which the hours were last read */
    int64_t newest;  /* number of the newest hour that the rings hold; 0: nothing was read */
    struct watcher_finding stored[WATCHER_FINDINGS], next[WATCHER_FINDINGS];
    size_t n_stored, n_next;
    struct mono chores;
    bool is_complaining;
};

/* ---- hours ----------------------------------------------------------------------------------------------------------- */

static struct subject *subject_of(struct watcher *w, const char *provider, int64_t hour)
{
    label l = intern_z(provider);
    struct subject *s;

    for (size_t i = 0; i < w->n; i++)
        if (w->subjects[i].provider == l)
            return &w->subjects[i];
    if (w->n == PROVIDERS)
        return NULL;
    s = &w->subjects[w->n++];
    *s = (struct subject){.provider = l, .first = hour, .hours = calloc(ANOMALY_HOURS, sizeof(*s->hours))};
    if (!s->hours)
        abort();
    return s;
}

static void take_sum(struct watcher *w, const struct hourly_sum *sum, int64_t hour)
{
    struct subject *s = subject_of(w, sum->provider, hour);
    const struct measures *m = &sum->m;

    if (!s)
        return;
    s->first = hour < s->first ? hour : s->first;
    s->hours[hour % PAST_HOURS] = (struct anomaly_hour){
        .is_known = true,
        .v = {[FIGURE_COST] = (double)m->v[MEASURE_cost_nano] / 1e9,
              [FIGURE_TOKENS] = (double)measures_tokens(m),
              [FIGURE_LATENCY] = sketch_quantile_us(&sum->sketch, 0.95) / 1000,
              [FIGURE_ERRORS] = measures_error_rate(m),
              [FIGURE_TRAFFIC] = (double)m->v[MEASURE_attempts]},
    };
}

/* An hour without rows had no traffic. */
static void forget_hour(struct watcher *w, int64_t hour)
{
    for (size_t i = 0; i < w->n; i++)
        w->subjects[i].hours[hour % PAST_HOURS] =
            (struct anomaly_hour){.is_known = true, .v = {[FIGURE_LATENCY] = NAN, [FIGURE_ERRORS] = NAN}};
}

static enum err_code read_hours(struct watcher *w, int64_t from, int64_t to, struct err *err)
{
    struct hourly_source s = {
        .db = w->o.reader, .kv = w->o.kv, .now = wall_now(), .retention_us = w->o.retention_us};
    struct hourly_ask ask = {
        .from = from * HOUR_S, .to = to * HOUR_S, .step_s = HOUR_S, .has_sketches = true};
    struct hourly h;
    struct hourly_sums sums;
    enum err_code e = hourly_read(&s, &ask, &h, err);

    if (!e && h.is_partial)
        e = err_set(err, ERR_UNAVAILABLE, "%s", h.missing);
    for (size_t i = 0; i < h.n && !e; i++) {
        forget_hour(w, from + (int64_t)i);
        e = hourly_sum(&h, HOURLY_PROVIDER, i, i + 1, &sums);
        for (size_t j = 0; !e && j < sums.n; j++)
            take_sum(w, &sums.v[j], from + (int64_t)i);
        if (!e)
            hourly_sums_release(&sums);
    }
    hourly_release(&h);
    return e;
}

static bool take_int(void *user, const struct db_value *c, unsigned n)
{
    if (n && c[0].type == DB_INT)
        *(int64_t *)user = c[0].i;
    return false;
}

/* The oldest hour that was rolled up since the last look: rows may have come late, from a node that was away. */
static enum err_code find_changed(struct watcher *w, int64_t *from, struct err *err)
{
    struct db_value since = db_int(w->read_at - OVERLAP_S);
    int64_t hour = *from * HOUR_S;
    enum err_code e = db_query(w->o.reader, "watcher_changed",
                               "SELECT min(hour) FROM aggregated_hours WHERE aggregated_at >= $1", &since, 1,
                               take_int, &hour, err);

    if (!e && hour / HOUR_S < *from)
        *from = hour / HOUR_S;
    return e;
}

static enum err_code read_all(struct watcher *w, int64_t hour, struct err *err)
{
    int64_t oldest = hour + 1 - PAST_HOURS, from = oldest, now_s = wall_now().us / 1000000;
    enum err_code e = ERR_OK;

    if (w->newest && hour >= w->newest && hour - w->newest < SLICE) {
        from = w->newest + 1 - FRESH;
        e = find_changed(w, &from, err);
        from = from < oldest ? oldest : from;
    }
    for (; from <= hour && !e; from += SLICE) {
        e = read_hours(w, from, from + SLICE <= hour ? from + SLICE : hour + 1, err);
        if (atomic_load(&w->is_over))
            return err_set(err, ERR_UNAVAILABLE, "the gateway stops");
    }
    w->newest = e ? 0 : hour;
    w->read_at = now_s;
    return e;
}

/* ---- findings -------------------------------------------------------------------------------------------------------- */

struct judging {
    struct watcher *w;
    const struct subject *s;
    const struct anomaly_input *in;
    int64_t first; /* number of the input's first hour */
};

static void take_finding(void *user, const struct anomaly *a)
{
    const struct judging *j = user;
    struct watcher *w = j->w;
    int64_t hour = j->first + (int64_t)a->at;

    if (hour + TOLD_HOURS < j->first + (int64_t)j->in->n || w->n_next == WATCHER_FINDINGS)
        return;
    w->next[w->n_next++] = (struct watcher_finding){.provider = j->s->provider,
                                                    .hour = hour * HOUR_S,
                                                    .is_active = anomaly_is_active(j->in, a->at),
                                                    .a = *a};
}

static void judge(struct watcher *w, const struct subject *s, int64_t hour, double running)
{
    struct anomaly_hour *line = malloc(ANOMALY_HOURS * sizeof(*line));
    struct anomaly_input in = {.hours = line, .n = ANOMALY_HOURS, .running = running};
    struct judging j = {.w = w, .s = s, .in = &in, .first = hour + 1 - PAST_HOURS};

    if (!line)
        abort();
    for (int64_t i = 0; i < PAST_HOURS; i++) {
        line[i] = s->hours[(j.first + i) % PAST_HOURS];
        line[i].is_known = line[i].is_known && j.first + i >= s->first;
    }
    anomalies_find(&in, take_finding, &j);
    free(line);
}

static int newest_first(const void *a, const void *b)
{
    const struct watcher_finding *x = a, *y = b;

    if (x->hour != y->hour)
        return x->hour < y->hour ? 1 : -1;
    return x->provider != y->provider ? strcmp(label_text(x->provider), label_text(y->provider))
                                      : (int)x->a.kind - (int)y->a.kind;
}

static void hour_name(int64_t hour, char dst[WALL_TEXT_CAP])
{
    char text[WALL_TEXT_CAP];

    (void)wall_format((struct wall){hour * 1000000}, text, sizeof(text));
    (void)snprintf(dst, WALL_TEXT_CAP, "%.10s:%.2s", text, text + 11);
}

static void tell(struct watcher *w, const struct watcher_finding *f)
{
    const char *kind = anomaly_kind_name(f->a.kind), *provider = label_text(f->provider);
    char hour[WALL_TEXT_CAP], of[EVENT_FACT_CAP];
    struct event ev;

    hour_name(f->hour, hour);
    (void)snprintf(of, sizeof(of), "%s %s", kind, hour);
    if (events_has_mt(w->o.events, EVENT_ANOMALY, provider, "of", of))
        return;
    event_make(&ev, EVENT_ANOMALY, f->a.is_critical ? EVENT_CRITICAL : EVENT_WARNING, provider,
               "%s in the hour %s: %.6g %s, where %.6g was expected", kind, hour, f->a.value,
               anomaly_unit(f->a.kind), f->a.expected);
    event_add_text(&ev, "of", of);
    event_add_text(&ev, "type", kind);
    event_add_number(&ev, "value", f->a.value);
    event_add_number(&ev, "expected", f->a.expected);
    event_add_number(&ev, "score", f->a.score);
    event_add_text(&ev, "method", anomaly_method_name(f->a.method));
    events_tell_mt(w->o.events, &ev);
}

/* Infinity has no JSON. */
static void put_number(struct buf *b, const char *name, double v)
{
    if (isfinite(v))
        buf_addf(b, ",\"%s\":%.15g", name, v);
    else
        buf_addf(b, ",\"%s\":null", name);
}

static enum err_code store(struct watcher *w, const struct watcher_finding *f, bool *out_new, struct err *err)
{
    struct buf b AUTO(buf_release) = {.max = 1024};
    int64_t changed = 0;
    enum err_code e;

    buf_addf(&b, "{\"method\":\"%s\",\"samples\":%u", anomaly_method_name(f->a.method), f->a.samples);
    put_number(&b, "value", f->a.value);
    put_number(&b, "expected", f->a.expected);
    put_number(&b, "scale", f->a.scale);
    put_number(&b, "score", f->a.score);
    put_number(&b, "ratio", f->a.ratio);
    buf_addc(&b, '}');
    e = db_exec(
        w->o.db, "anomaly_insert",
        "INSERT INTO anomalies (at, kind, provider, model, severity, detail, hour) VALUES ($1, $2, $3, '', "
        "$4, $5, $6) ON CONFLICT (hour, kind, provider, model) DO NOTHING",
        (struct db_value[]){db_int(wall_now().us / 1000000), db_textz(anomaly_kind_name(f->a.kind)),
                            db_textz(label_text(f->provider)),
                            db_textz(f->a.is_critical ? "critical" : "warning"), db_text(buf_span(&b)),
                            db_int(f->hour)},
        6, &changed, err);
    *out_new = changed > 0;
    return e;
}

static bool is_among(const struct watcher_finding *v, size_t n, const struct watcher_finding *f)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].hour == f->hour && v[i].provider == f->provider && v[i].a.kind == f->a.kind)
            return true;
    return false;
}

/* Late rows may show that an hour was none. */
static enum err_code withdraw(struct watcher *w, int64_t hour, struct err *err)
{
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < w->n_stored && !e; i++) {
        const struct watcher_finding *f = &w->stored[i];

        if (f->hour > (hour - TOLD_HOURS) * HOUR_S && !is_among(w->next, w->n_next, f))
            e = db_exec(
                w->o.db, "anomaly_delete",
                "DELETE FROM anomalies WHERE hour = $1 AND kind = $2 AND provider = $3 AND model = ''",
                (struct db_value[]){db_int(f->hour), db_textz(anomaly_kind_name(f->a.kind)),
                                    db_textz(label_text(f->provider))},
                3, NULL, err);
    }
    return e;
}

static enum err_code store_and_tell(struct watcher *w, int64_t hour, struct err *err)
{
    struct watcher_finding done[WATCHER_FINDINGS];
    size_t n = 0;
    enum err_code e = withdraw(w, hour, err);

    for (size_t i = 0; i < w->n_next && !e; i++) {
        const struct watcher_finding *f = &w->next[i];
        bool is_new = f->a.is_running;

        if (!f->a.is_running && !is_among(w->stored, w->n_stored, f))
            e = store(w, f, &is_new, err);
        if (!e && is_new && f->hour >= (hour - EVENT_HOURS) * HOUR_S)
            tell(w, f);
        if (!e && !f->a.is_running)
            done[n++] = *f;
    }
    if (e)
        return e;
    memcpy(w->stored, done, n * sizeof(*done));
    w->n_stored = n;
    return ERR_OK;
}

static void publish(struct watcher *w, struct wall now)
{
    (void)pthread_mutex_lock(&w->lock);
    memcpy(w->found, w->next, w->n_next * sizeof(*w->next));
    w->n_found = w->n_next;
    w->looked = now;
    (void)pthread_mutex_unlock(&w->lock);
}

static enum err_code look(struct watcher *w, struct wall now, struct err *err)
{
    int64_t hour = now.us / HOUR_US;
    double running = (double)(now.us % HOUR_US) / (double)HOUR_US;
    enum err_code e = read_all(w, hour, err);

    if (e)
        return e;
    w->n_next = 0;
    for (size_t i = 0; i < w->n; i++)
        judge(w, &w->subjects[i], hour, running);
    if (w->n_next)
        qsort(w->next, w->n_next, sizeof(*w->next), newest_first);
    publish(w, now);
    return store_and_tell(w, hour, err);
}

/* ---- chores ---------------------------------------------------------------------------------------------------------- */

static enum err_code do_chores(struct watcher *w, struct wall now, struct err *err)
{
    struct config *c = w->o.config(w->o.user);
    enum err_code e = income_of_plans(w->o.db, c, now, err);

    config_unref(c);
    return e ? e : income_forget(w->o.db, now, err);
}

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

static bool has_schema(struct watcher *w)
{
    unsigned version = 0;

    return db_schema_version(w->o.db, &version, NULL) == ERR_OK && version == db_schema_latest();
}

static void complain(struct watcher *w, const struct err *err)
{
    if (!w->is_complaining && !atomic_load(&w->is_over))
        log_info("anomalies: the hours cannot be read, so nothing is said of them: %s", err_text(err));
    w->is_complaining = true;
}

/* While the last hour's batches come in, it is neither closed nor does it run. */
static int64_t tick(void *user)
{
    struct watcher *w = user;
    struct wall now = wall_now();
    struct mono mono = mono_now();
    struct err err = {0};
    enum err_code e = ERR_OK;

    w->is_caught_up = w->is_caught_up || w->o.has(w->o.user, &w->begun) == 1;
    if (!w->is_caught_up || (!w->newest && !has_schema(w)))
        return RETRY_US;
    if (now.us % HOUR_US >= CLOSED_US || !w->newest)
        e = look(w, now, &err);
    if (!e && mono_diff_us(w->chores, mono) <= 0) {
        e = do_chores(w, now, &err);
        if (!e)
            w->chores = mono_add_us(mono, CHORES_US);
    }
    if (e) {
        complain(w, &err);
        return RETRY_US;
    }
    w->is_complaining = false;
    return LOOK_US;
}

struct watcher *watcher_start(const struct watcher_options *o, struct err *err)
{
    struct watcher *w = calloc(1, sizeof(*w));

    if (!w)
        abort();
    w->o = *o;
    db_set_deadline(w->o.db, DEADLINE_US);
    db_set_deadline(w->o.reader, DEADLINE_US);
    (void)pthread_mutex_init(&w->lock, NULL);
    w->chores = mono_now();
    w->o.end(w->o.user, &w->begun);
    w->thread = store_thread_start(
        &(struct store_thread_options){.name = "watcher", .tick = tick, .user = w, .max_queued = 1}, err);
    if (w->thread)
        return w;
    watcher_stop(w);
    return NULL;
}

void watcher_stop(struct watcher *w)
{
    if (!w)
        return;
    atomic_store(&w->is_over, true);
    store_thread_stop(w->thread);
    db_free(w->o.db);
    db_free(w->o.reader);
    kv_free(w->o.kv);
    for (size_t i = 0; i < w->n; i++)
        free(w->subjects[i].hours);
    (void)pthread_mutex_destroy(&w->lock);
    free(w);
}

size_t watcher_findings_mt(struct watcher *w, struct watcher_finding *out, size_t cap)
{
    size_t n;

    (void)pthread_mutex_lock(&w->lock);
    n = w->n_found < cap ? w->n_found : cap;
    memcpy(out, w->found, n * sizeof(*out));
    (void)pthread_mutex_unlock(&w->lock);
    return n;
}

struct wall watcher_looked_mt(struct watcher *w)
{
    struct wall t;

    (void)pthread_mutex_lock(&w->lock);
    t = w->looked;
    (void)pthread_mutex_unlock(&w->lock);
    return t;
}
