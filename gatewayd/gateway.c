/* SPDX-License-Identifier: Apache-2.0 */
/* The current snapshot is guarded by one mutex that is held for a pointer copy only. Order of life: journals, recorder and
 * books, api thread, workers; and back. */
#include "gatewayd/gateway_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/api/front.h"
#include "gatewayd/directory/directory.h"
#include "gatewayd/http/listen.h"
#include "gatewayd/resilience/breaker.h"
#include "gatewayd/resilience/load.h"
#include "gatewayd/resilience/overload.h"
#include "gatewayd/resilience/queue.h"
#include "gatewayd/telemetry/events.h"
#include "gatewayd/telemetry/sink_log.h"
#include "libshared/base/log.h"
#include "libshared/catalog/metrics.h"

#define READING_DEADLINE_US 3000000 /* of what an operator asks for; the directory waits meanwhile */
#define MONITOR_DEADLINE_US 5000000 /* of the monitoring API; its thread does nothing else */
#define AGGREGATION_DEADLINE_US                                                                              \
    20000000                    /* of one statement, which may read a whole hour; a stop waits for it */
#define LEASES_WAIT_US  2000000 /* that a start waits for the first answer of the realtime store */
#define BUDGETS_WAIT_US 5000000 /* that a start waits for what was spent before it */
#define CATCH_UP_NAP_NS 5000000

/* ---- snapshot ------------------------------------------------------------------------------------------------------ */

struct config *gateway_config_ref_mt(struct gateway *gw)
{
    struct config *c;

    (void)pthread_mutex_lock(&gw->lock);
    c = config_ref(gw->config);
    (void)pthread_mutex_unlock(&gw->lock);
    return c;
}

/* All that can be named in the configuration is listed from the start. */
static void list_breakers(struct gateway *gw, const struct config *c)
{
    for (size_t m = 0; m < c->n_models; m++)
        for (size_t t = 0; t < c->models[m].n_targets; t++)
            breakers_ensure(gw->breakers, c->models[m].targets[t].provider->label,
                            c->models[m].targets[t].model_label);
}

static void swap_config(struct gateway *gw, struct config *next)
{
    struct config *old;

    list_breakers(gw, next);
    limits_bind(gw->limits, next);
    queues_bind(gw->queues, next, mono_now());
    if (gw->follow)
        limits_follow_wake_mt(gw->follow);
    (void)pthread_mutex_lock(&gw->lock);
    old = gw->config;
    gw->config = next;
    (void)pthread_mutex_unlock(&gw->lock);
    for (unsigned i = 0; i < gw->n_workers; i++)
        worker_set_config_mt(gw->workers[i], next);
    config_unref(old);
}

/* What the database says of tenants and keys has changed. On the directory's thread. */
static void on_directory(void *user)
{
    struct gateway *gw = user;

    (void)pthread_mutex_lock(&gw->reload_lock);
    swap_config(gw, directory_config_mt(gw->directory));
    (void)pthread_mutex_unlock(&gw->reload_lock);
}

static void set_log_level(const struct config *c)
{
    static const char *const NAMES[] = {"error", "warn", "info", "debug"};

    for (unsigned i = 0; i < ARRAY_LEN(NAMES); i++)
        if (strcmp(c->log_level, NAMES[i]) == 0)
            log_set_level((enum log_level)i);
}

static void say_what_waits(struct gateway *gw, const struct config *next)
{
    struct buf names AUTO(buf_release) = {0};

    config_restart_needed(gw->booted, next, &names);
    if (names.len)
        log_warn("configuration: changed, but in effect only after a restart: %s", names.p);
}

/* `next` NULL: it was refused. */
static void tell_reload(struct gateway *gw, const struct config *next, const struct err *err)
{
    struct event ev;

    if (next)
        event_make(&ev, EVENT_CONFIG, EVENT_INFO, "configuration", "version %llu is in use",
                   (unsigned long long)next->version);
    else
        event_make(&ev, EVENT_CONFIG, EVENT_WARNING, "configuration",
                   "a reload was refused, the one in use stays: %.180s", err ? err_text(err) : "");
    events_tell_mt(gw->events, &ev);
}

static void note_reload(struct gateway *gw, const struct config *next, const char *actor, const char *reason)
{
    json_t *detail = json_pack("{s:I, s:s*, s:s*}", "version", (json_int_t)next->version, "path", next->path,
                               "reason", reason);

    directory_note_mt(gw->directory, actor, "config.reload", "configuration", detail);
}

enum err_code gateway_reload_mt(struct gateway *gw, const char *actor, const char *reason, struct err *err)
{
    struct config_options o = gw->o.config;
    struct config *next;

    (void)pthread_mutex_lock(&gw->reload_lock);
    o.version = gw->config->version + 1;
    next = config_load(&o, err);
    if (next) {
        directory_set_file_mt(gw->directory, next);
        config_unref(next);
        next = directory_config_mt(gw->directory);
        set_log_level(next);
        facts_limit_series(next->metrics.max_series);
        facts_show(metric_profiles(next->metrics.profiles, next->metrics.n_profiles));
        swap_config(gw, next);
        atomic_fetch_add(&gw->reloads_ok, 1);
        log_info("configuration version %llu is in use", (unsigned long long)next->version);
        say_what_waits(gw, next);
        note_reload(gw, next, actor, reason);
    } else {
        atomic_fetch_add(&gw->reloads_failed, 1);
    }
    tell_reload(gw, next, err);
    (void)pthread_mutex_unlock(&gw->reload_lock);
    return next ? ERR_OK : ERR_CONFIG;
}

void gateway_reload(struct gateway *gw)
{
    struct err err = {0};

    if (gateway_reload_mt(gw, "signal", NULL, &err) != ERR_OK)
        log_error("reload refused, the configuration in use stays: %s", err_text(&err));
}

void gateway_reopen_logs(struct gateway *gw)
{
    recorder_reopen_mt(gw->recorder);
}

/* ---- what is running ----------------------------------------------------------------------------------------------- */

size_t gateway_facts_mt(struct gateway *gw, struct facts *out[GATEWAY_FACTS_MAX])
{
    size_t n = 0;

    for (unsigned i = 0; i < gw->n_workers; i++)
        out[n++] = worker_facts_mt(gw->workers[i]);
    out[n++] = api_front_facts_mt(gw->api);
    return n;
}

struct limits *gateway_limits_mt(struct gateway *gw)
{
    return gw->limits;
}
struct db *gateway_reading_db(struct gateway *gw)
{
    return gw->reading_db;
}
struct directory *gateway_directory(struct gateway *gw)
{
    return gw->directory;
}

struct watcher *gateway_watcher_mt(struct gateway *gw)
{
    return gw->watcher;
}
const struct monitor_stores *gateway_monitor_stores(struct gateway *gw)
{
    return &gw->monitor;
}

bool gateway_is_draining_mt(struct gateway *gw)
{
    return atomic_load(&gw->is_draining);
}
struct aggregator *gateway_aggregator_mt(struct gateway *gw)
{
    return gw->aggregator;
}

struct breakers *gateway_breakers_mt(struct gateway *gw)
{
    return gw->breakers;
}

bool gateway_forecast_mt(struct gateway *gw, const char *account, struct forecast *out)
{
    return gw->forecaster && forecaster_look_mt(gw->forecaster, account, out);
}

struct events *gateway_events_mt(struct gateway *gw)
{
    return gw->events;
}

struct loads *gateway_loads_mt(struct gateway *gw)
{
    return gw->loads;
}

struct tracker *gateway_tracker_mt(struct gateway *gw)
{
    return gw->tracker;
}

enum err_code gateway_adjust_mt(struct gateway *gw, const struct fact_adjust *a, struct err *err)
{
    return worker_adjust_mt(gw->workers[0], a, err);
}
struct queues *gateway_queues_mt(struct gateway *gw)
{
    return gw->queues;
}
uint16_t gateway_port_mt(struct gateway *gw)
{
    return gw->port;
}

const char *gateway_simulator_mt(struct gateway *gw)
{
    return gw->o.simulator;
}

/* ---- stopping ------------------------------------------------------------------------------------------------------ */

static void on_worker_stopped(struct letter *l)
{
    struct gateway *gw = CONTAINER_OF(l, struct worker_end, letter)->gw;

    if (--gw->n_running == 0)
        loop_stop(gw->o.loop);
}

static void on_deadline(struct timer *t)
{
    struct gateway *gw = CONTAINER_OF(t, struct gateway, deadline);

    log_warn("drain: the deadline has passed, open streams are cut");
    gateway_cut(gw);
}

void gateway_drain(struct gateway *gw)
{
    struct config *c = gateway_config_ref_mt(gw);

    if (atomic_exchange(&gw->is_draining, true)) {
        config_unref(c);
        return;
    }
    log_info("drain: no new connections; open requests finish within %lld s",
             (long long)(c->drain_timeout_us / 1000000));
    gw->deadline.fn = on_deadline;
    loop_timer(gw->o.loop, &gw->deadline, c->drain_timeout_us);
    for (unsigned i = 0; i < gw->n_workers; i++)
        worker_drain_mt(gw->workers[i]);
    config_unref(c);
}

void gateway_cut(struct gateway *gw)
{
    atomic_store(&gw->is_draining, true);
    for (unsigned i = 0; i < gw->n_workers; i++)
        worker_cut_mt(gw->workers[i]);
}

/* ---- starting ------------------------------------------------------------------------------------------------------ */

/* Journals of workers that an earlier run had and this one has not are read out and go away. */
static enum err_code open_journals(struct gateway *gw, const struct config *c, struct err *err)
{
    char dir[4200];
    unsigned on_disk;
    size_t ended = 0, n = 0;

    (void)snprintf(dir, sizeof(dir), "%s/journal", c->state_dir);
    if (journal_instance(dir, gw->instance, err) != ERR_OK)
        return ERR_IO;
    on_disk = journal_workers_on_disk(dir);
    gw->n_journals = on_disk > c->workers ? on_disk : c->workers;
    if (gw->n_journals > LIMIT_WORKERS)
        gw->n_journals = LIMIT_WORKERS;
    for (unsigned i = 0; i < gw->n_journals; i++) {
        gw->journals[i] = journal_open(dir, i, i < c->workers ? c->journal_max_bytes / c->workers : 0, err);
        if (!gw->journals[i] || journal_recover(gw->journals[i], &n, err) != ERR_OK)
            return ERR_IO;
        ended += n;
    }
    if (ended)
        log_warn("journal: %zu request%s of an earlier run had not ended; %s ended now, by what is on record",
                 ended, ended == 1 ? "" : "s", ended == 1 ? "it is" : "they are");
    gw->recorder = recorder_new(gw->journals, gw->n_journals, err);
    if (!gw->recorder)
        return ERR_IO;
    if (c->access_log[0]) {
        void *log = sink_log_new(c->access_log, err);

        if (!log)
            return ERR_IO;
        recorder_add_sink(gw->recorder, &SINK_LOG, log);
    }
    return ERR_OK;
}

/* Under the breaker's lock. */
static void on_breaker(void *user, label provider, label model, const struct breaker_change *c)
{
    struct gateway *gw = user;
    struct event ev;
    char subject[EVENT_SUBJECT_CAP];

    (void)snprintf(subject, sizeof(subject), "%.80s/%.100s", label_text(provider), label_text(model));
    event_make(&ev, EVENT_BREAKER, c->to == BREAKER_OPEN ? EVENT_WARNING : EVENT_INFO, subject, "%s: %s",
               breaker_state_name(c->to), c->cause);
    event_add_text(&ev, "old", breaker_state_name(c->from));
    event_add_text(&ev, "new", breaker_state_name(c->to));
    ev.at = c->at;
    events_tell_mt(gw->events, &ev);
}

/* From here on everything may tell. */
static void open_events(struct gateway *gw)
{
    gw->events = events_new(gw->instance);
    limits_tell_to(gw->limits, gw->events);
    breakers_on_change(gw->breakers, on_breaker, gw);
}

/* All consumers take their places in the journals before the first of them reads. */
static enum err_code open_books(struct gateway *gw, const struct config *c, struct err *err)
{
    struct books_options o = {.config = c, .journals = gw->journals, .instance = gw->instance};
    enum err_code e = open_journals(gw, c, err);

    if (e)
        return e;
    open_events(gw);
    o.events = gw->events;
    o.n_journals = gw->n_journals;
    gw->books = books_new(&o, err);
    if (!gw->books)
        return ERR_IO;
    e = recorder_start(gw->recorder, err);
    return e ? e : books_start(gw->books, err);
}

static void open_directory(struct gateway *gw)
{
    struct config *file = gw->config;
    struct directory_options o = {.db = books_db_share(gw->books),
                                  .kv = file->redis[0] ? books_kv_share(gw->books) : NULL,
                                  .state_dir = file->state_dir,
                                  .max_age_us = file->directory_max_age_us,
                                  .on_change = on_directory,
                                  .user = gw};

    gw->reading_db = books_db_share(gw->books);
    db_set_deadline(gw->reading_db, READING_DEADLINE_US);
    gw->directory = directory_new(&o, file);
    swap_config(gw, directory_config_mt(gw->directory)); /* no worker is there yet */
}

static enum err_code open_aggregator(struct gateway *gw, struct err *err)
{
    const struct config_aggregation *c = &gw->config->aggregation;
    struct aggregator_options o = {.db = books_db_share(gw->books),
                                   .kv = books_kv_share(gw->books),
                                   .is_enabled = c->is_enabled,
                                   .interval_us = c->interval_us,
                                   .retention_us = c->retention_us};

    db_set_deadline(o.db, AGGREGATION_DEADLINE_US);
    gw->aggregator = aggregator_start(&o, err);
    return gw->aggregator ? ERR_OK : ERR_IO;
}

static enum err_code open_breakers(struct gateway *gw, struct err *err)
{
    struct breaker_share_options o = {.breakers = gw->breakers,
                                      .db = books_db_share(gw->books),
                                      .kv = books_kv_share(gw->books),
                                      .node = books_instance(gw->books),
                                      .events = gw->events,
                                      .is_informed = !gw->config->lacks_keys};

    gw->breaker_share = breaker_share_start(&o, err);
    return gw->breaker_share ? ERR_OK : ERR_NO_MEMORY;
}

static struct config *config_of(void *user)
{
    return gateway_config_ref_mt(user);
}

static size_t facts_of(void *user, struct facts **out)
{
    return gateway_facts_mt(user, out);
}

static enum err_code open_tracker(struct gateway *gw, struct err *err)
{
    struct tracker_options o = {.kv = books_kv_share(gw->books),
                                .node = books_instance(gw->books),
                                .is_shared = gw->config->redis[0] != '\0',
                                .breakers = gw->breakers,
                                .events = gw->events,
                                .config = config_of,
                                .facts = facts_of,
                                .user = gw};

    gw->tracker = tracker_new(&o, err);
    return gw->tracker ? ERR_OK : ERR_NO_MEMORY;
}

static void journals_end(void *user, struct watermark *out)
{
    books_end_mt(((struct gateway *)user)->books, out);
}

static int history_has(void *user, const struct watermark *end)
{
    return books_history_has_mt(((struct gateway *)user)->books, end);
}

static int realtime_has(void *user, const struct watermark *end)
{
    return books_realtime_has_mt(((struct gateway *)user)->books, end);
}

bool gateway_catch_up_mt(struct gateway *gw, int64_t wait_us)
{
    const struct timespec nap = {.tv_nsec = CATCH_UP_NAP_NS};
    struct mono until = mono_add_us(mono_now(), wait_us);
    struct watermark end;
    int has;

    journals_end(gw, &end);
    books_wake_mt(gw->books);
    while (!(has = history_has(gw, &end)) && mono_now().us < until.us)
        (void)nanosleep(&nap, NULL);
    return has > 0;
}

/* With memory this process is alone, and its limits are its own. */
static enum err_code open_leases(struct gateway *gw, struct err *err)
{
    struct limits_lease_options o = {.limits = gw->limits,
                                     .kv = books_kv_share(gw->books),
                                     .instance = gw->instance,
                                     .life_us = gw->config->lease_life_us,
                                     .end = journals_end,
                                     .has = realtime_has,
                                     .user = gw};

    if (strcmp(kv_backend(o.kv), "memory") == 0) {
        kv_free(o.kv);
        return ERR_OK;
    }
    gw->lease = limits_lease_start(&o, err);
    if (gw->lease && !limits_lease_wait(gw->lease, LEASES_WAIT_US))
        log_warn("leases: nothing is leased yet, so what has a limit waits or is refused");
    return gw->lease ? ERR_OK : ERR_NO_MEMORY;
}

static enum err_code open_limits(struct gateway *gw, struct err *err)
{
    struct limits_follow_options o = {.limits = gw->limits,
                                      .db = books_db_share(gw->books),
                                      .instance = gw->instance,
                                      .end = journals_end,
                                      .has = history_has,
                                      .user = gw};

    books_wake_mt(gw->books);
    gw->follow = limits_follow_start(&o, err);
    if (!gw->follow)
        return ERR_IO;
    if (!limits_follow_wait(gw->follow, BUDGETS_WAIT_US))
        log_warn("budgets: what was spent before is not known yet; budgets are refused by until then, except "
                 "those that "
                 "are 'open' when the store is down");
    return open_leases(gw, err);
}

static enum err_code open_forecaster(struct gateway *gw, struct err *err)
{
    struct forecaster_options o = {
        .limits = gw->limits, .events = gw->events, .db = books_db_share(gw->books)};

    gw->forecaster = forecaster_start(&o, err);
    return gw->forecaster ? ERR_OK : ERR_IO;
}

static enum err_code open_watcher(struct gateway *gw, struct err *err)
{
    struct watcher_options o = {.db = books_db_share(gw->books),
                                .reader = books_db_reader(gw->books),
                                .kv = books_kv_share(gw->books),
                                .retention_us = gw->config->aggregation.retention_us,
                                .events = gw->events,
                                .config = config_of,
                                .end = journals_end,
                                .has = history_has,
                                .user = gw};

    gw->monitor.db = books_db_reader(gw->books);
    db_set_deadline(gw->monitor.db, MONITOR_DEADLINE_US);
    gw->monitor.kv = books_kv_share(gw->books);
    gw->watcher = watcher_start(&o, err);
    return gw->watcher ? ERR_OK : ERR_IO;
}

static enum err_code make_workers(struct gateway *gw, struct config *c, struct err *err)
{
    struct config_address at = c->listen;

    if (listen_check_free(&at, err) != ERR_OK)
        return ERR_IO;
    for (unsigned i = 0; i < c->workers; i++) {
        struct worker_options wo = {.index = i,
                                    .listen_fd = listen_tcp(&at, &gw->port, err),
                                    .config = c,
                                    .journal = gw->journals[i],
                                    .limits = gw->limits,
                                    .api = gw->api,
                                    .breakers = gw->breakers,
                                    .queues = gw->queues,
                                    .loads = gw->loads,
                                    .tracker = gw->tracker,
                                    .overload = gw->overload,
                                    .main = gw->mailbox,
                                    .stopped = &gw->ends[i].letter};

        gw->ends[i] = (struct worker_end){.letter.fn = on_worker_stopped, .gw = gw};
        if (wo.listen_fd < 0)
            return ERR_IO;
        at.port = gw->port; /* the others share what the kernel chose for the first */
        gw->workers[i] = worker_new(&wo, err);
        if (!gw->workers[i])
            return ERR_IO;
        gw->n_workers++;
    }
    return ERR_OK;
}

static void add_member(struct buf *out, const char *name, const char *value)
{
    buf_addc(out, out->len > 1 ? ',' : '{');
    buf_add_json(out, span_of(name));
    buf_addc(out, ':');
    buf_add_json(out, span_of(value));
}

static enum err_code write_ready_file(struct gateway *gw, const struct config *c, struct err *err)
{
    struct buf b AUTO(buf_release) = {.max = 1 << 20};
    char text[512], tmp[4200];
    int fd;
    bool ok;

    (void)snprintf(text, sizeof(text), "%s:%u", c->listen.host, gw->port);
    add_member(&b, "listen", text);
    (void)snprintf(text, sizeof(text), "%s:%u", c->admin_listen.host, api_front_port(gw->api));
    add_member(&b, "admin", api_front_port(gw->api) ? text : "");
    add_member(&b, "admin_socket", c->admin_socket);
    buf_addz(&b, ",\"admin_token\":");
    buf_add_json(&b, secret_expose(&c->admin_token)); /* the file is 0600; its reader administers */
    buf_addf(&b, ",\"pid\":%d", (int)getpid());
    add_member(&b, "simulator", gw->o.simulator ? gw->o.simulator : "");
    buf_addf(&b, ",\"demo_keys\":%s}\n", gw->o.demo_keys_json ? gw->o.demo_keys_json : "{}");
    (void)snprintf(tmp, sizeof(tmp), "%s.tmp", gw->o.ready_file);
    (void)unlink(tmp);
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ok = fd >= 0 && write(fd, b.p, b.len) == (ssize_t)b.len && fstat(fd, &gw->ready) == 0;
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    if (!ok || rename(tmp, gw->o.ready_file) < 0)
        return err_set(err, ERR_IO, "ready file '%s': %s", gw->o.ready_file, strerror(errno));
    return ERR_OK;
}

/* Nobody who waits for the file may find that of a gateway that is gone. */
static void remove_ready_file(struct gateway *gw)
{
    struct stat now;

    if (gw->ready.st_ino && stat(gw->o.ready_file, &now) == 0 && now.st_ino == gw->ready.st_ino &&
        now.st_dev == gw->ready.st_dev)
        (void)unlink(gw->o.ready_file);
}

static enum err_code start(struct gateway *gw, struct err *err)
{
    struct config *c;
    enum err_code e = config_make_state_dir(gw->config, err);

    gw->mailbox = e ? NULL : mailbox_new(gw->o.loop, err);
    if (!gw->mailbox)
        return ERR_IO;
    e = open_books(gw, gw->config, err);
    if (e)
        return e;
    open_directory(gw);
    e = open_aggregator(gw, err);
    if (!e)
        e = open_breakers(gw, err);
    if (!e)
        e = open_tracker(gw, err);
    if (!e)
        e = open_limits(gw, err);
    if (!e)
        e = open_forecaster(gw, err);
    if (!e)
        e = open_watcher(gw, err);
    if (e)
        return e;
    c = gw->config;
    if (gw->o.ready_file) /* of an earlier run: the state directory is ours now */
        (void)unlink(gw->o.ready_file);
    gw->api = api_front_start(gw, c, err);
    e = gw->api ? make_workers(gw, c, err) : ERR_IO;
    for (unsigned i = 0; !e && i < gw->n_workers; i++) {
        e = worker_start(gw->workers[i], err);
        gw->n_running += !e;
    }
    if (!e)
        e = tracker_start(gw->tracker, err);
    if (!e && gw->o.ready_file)
        e = write_ready_file(gw, c, err);
    return e;
}

struct gateway *gateway_new(const struct gateway_options *o, struct err *err)
{
    struct gateway *gw = calloc(1, sizeof(*gw));
    uint64_t seed;
    bool is_up;

    if (!gw)
        abort();
    random_bytes(&seed, sizeof(seed));
    gw->breakers = breakers_new(seed);
    gw->loads = loads_new();
    gw->o = *o;
    gw->started = wall_now();
    (void)pthread_mutex_init(&gw->lock, NULL);
    (void)pthread_mutex_init(&gw->reload_lock, NULL);
    gw->limits = limits_new();
    gw->queues = queues_new();
    gw->overload = overload_new();
    gw->config = config_load(&o->config, err);
    if (gw->config) {
        gw->booted = config_ref(gw->config);
        set_log_level(gw->config);
        facts_limit_series(gw->config->metrics.max_series);
        facts_show(metric_profiles(gw->config->metrics.profiles, gw->config->metrics.n_profiles));
        (void)pthread_mutex_lock(&gw->reload_lock);
        is_up = start(gw, err) == ERR_OK;
        (void)pthread_mutex_unlock(&gw->reload_lock);
        if (is_up) {
            log_info("listening on %s:%u with %u worker%s", gw->config->listen.host, gw->port, gw->n_workers,
                     gw->n_workers == 1 ? "" : "s");
            return gw;
        }
    }
    gateway_free(gw);
    return NULL;
}

void gateway_free(struct gateway *gw)
{
    if (!gw)
        return;
    remove_ready_file(gw);
    if (gw->n_running)
        gateway_cut(gw);
    loop_timer_cancel(gw->o.loop, &gw->deadline);
    for (unsigned i = 0; i < gw->n_workers; i++)
        worker_join(gw->workers[i]);
    tracker_stop(gw->tracker);
    api_front_stop(gw->api);
    watcher_stop(gw->watcher);
    db_free(gw->monitor.db);
    kv_free(gw->monitor.kv);
    forecaster_stop(gw->forecaster);
    limits_lease_stop(gw->lease);
    limits_follow_stop(gw->follow);
    aggregator_stop(gw->aggregator);
    db_free(gw->reading_db);
    directory_free(gw->directory); /* after the thread that owned it */
    breaker_share_stop(gw->breaker_share);
    for (unsigned i = 0; i < gw->n_workers; i++)
        worker_free(gw->workers[i]);
    tracker_free(gw->tracker);
    breakers_free(gw->breakers);
    loads_free(gw->loads);
    books_stop(gw->books);
    recorder_stop(gw->recorder);
    books_free(gw->books);
    events_free(gw->events);
    for (unsigned i = 0; i < LIMIT_WORKERS; i++)
        journal_close(gw->journals[i]);
    mailbox_free(gw->mailbox);
    config_unref(gw->config);
    config_unref(gw->booted);
    limits_free(gw->limits);
    queues_free(gw->queues);
    overload_free(gw->overload);
    (void)pthread_mutex_destroy(&gw->lock);
    (void)pthread_mutex_destroy(&gw->reload_lock);
    free(gw);
}
