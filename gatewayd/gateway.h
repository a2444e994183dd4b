/* SPDX-License-Identifier: Apache-2.0 */
/* What the process owns, wired together: configuration snapshot, journals, recorder, workers, api thread. */
#ifndef GATEWAYD_GATEWAY_H
#define GATEWAYD_GATEWAY_H

#include "gatewayd/config/config.h"
#include "gatewayd/telemetry/exposition.h"

struct directory;
struct aggregator;
struct breakers;
struct db;
struct events;
struct gateway;
struct loads;
struct loop;
struct queues;
struct kv;
struct tracker;
struct watcher;

struct gateway_options {
    struct config_options config;
    const char *ready_file;     /* NULL, or written atomically once serving */
    const char *simulator;      /* demo: base URL of the simulated provider, else NULL */
    const char *demo_keys_json; /* demo: {"tenant":"key"}, else NULL */
    struct loop *loop;          /* the main thread's, borrowed */
};

/* Opens everything and starts the threads. */
struct gateway *gateway_new(const struct gateway_options *o, struct err *err);
/* No new connections; the main loop stops when the last worker has finished. */
void gateway_drain(struct gateway *gw);
/* What is left is cut. */
void gateway_cut(struct gateway *gw);
/* Re-reads the configuration on the main thread and swaps it; a bad one changes nothing. Logs either way. */
void gateway_reload(struct gateway *gw);
void gateway_reopen_logs(struct gateway *gw);
void gateway_free(struct gateway *gw);

/* Any thread. The caller unrefs. */
struct config *gateway_config_ref_mt(struct gateway *gw);
/* The fact tables of all threads that have one; `out` has GATEWAY_FACTS_MAX places. */
#define GATEWAY_FACTS_MAX (LIMIT_WORKERS + 1)
size_t gateway_facts_mt(struct gateway *gw, struct facts *out[GATEWAY_FACTS_MAX]);
/* Fills everything; the arrays inside are allocated in `a`. */
void gateway_metrics_state_mt(struct gateway *gw, struct arena *a, struct metrics_state *out);
/* The windows of the metric families begin anew with the next slot. Decisions look at windows as before. */
void gateway_reset_windows_mt(struct gateway *gw);
/* Tenants and keys of the database. Only its own thread may use what is not marked _mt. */
struct limits *gateway_limits_mt(struct gateway *gw);
struct directory *gateway_directory(struct gateway *gw);
/* The history store, for reading, with a short deadline. For the thread of the directory alone. */
struct db *gateway_reading_db(struct gateway *gw);
/* How far it is behind what was settled here; -1: it is not reached. */
int64_t gateway_history_lag_us_mt(struct gateway *gw);
bool gateway_is_draining_mt(struct gateway *gw);
/* The same from another thread; waits for nothing but the parsing. */
NODISCARD enum err_code gateway_reload_mt(struct gateway *gw, const char *actor, const char *reason,
                                          struct err *err);
/* Who keeps the books; NULL without a history store. It outlives the api thread. */
struct aggregator *gateway_aggregator_mt(struct gateway *gw);
/* Of all workers; live as long as the gateway. */
struct breakers *gateway_breakers_mt(struct gateway *gw);
/* When an account's budget will be spent; false where that is not known. */
struct forecast;
bool gateway_forecast_mt(struct gateway *gw, const char *account, struct forecast *out);
/* What is out of the ordinary; NULL while the gateway starts. See watcher_findings_mt(). */
struct watcher *gateway_watcher_mt(struct gateway *gw);
/* Both stores, for reading, with a short deadline. For the thread of RUN_READING alone. */
struct monitor_stores {
    struct db *db;
    struct kv *kv;
};
const struct monitor_stores *gateway_monitor_stores(struct gateway *gw);
struct loads *gateway_loads_mt(struct gateway *gw);
struct tracker *gateway_tracker_mt(struct gateway *gw);
/* What happened, for operators; lives as long as the gateway. */
struct events *gateway_events_mt(struct gateway *gw);
/* Likewise: slots of providers, and who waits for them. */
struct queues *gateway_queues_mt(struct gateway *gw);
/* Books a correction, durably when it returns. May wait: not for a worker's or the api thread. */
NODISCARD enum err_code gateway_adjust_mt(struct gateway *gw, const struct fact_adjust *a, struct err *err);
/* Until the history store has all that the journals hold now; false: it is down, or not within `wait_us`. Likewise. */
bool gateway_catch_up_mt(struct gateway *gw, int64_t wait_us);
/* Of the main listener. */
uint16_t gateway_port_mt(struct gateway *gw);
/* Base URL of the simulated provider in demo mode, NULL otherwise. */
const char *gateway_simulator_mt(struct gateway *gw);

#endif
