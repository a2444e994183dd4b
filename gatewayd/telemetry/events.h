/* SPDX-License-Identifier: Apache-2.0 */
/* What happened that an operator may want to know: a breaker opened, a budget reached its limit, a store went away. Any thread
 * tells; the last ones are kept here for the API, and a store thread brings them to the stream {gw}:events and to the log.
 *
 *     struct event ev;
 *
 *     event_make(&ev, EVENT_BUDGET, EVENT_WARNING, "tenant:acme", "'%s' has spent 80 %% of its budget", name);
 *     event_add_usd(&ev, "value", spent_nanousd);
 *     event_add_usd(&ev, "limit", limit_nanousd);
 *     events_tell_mt(e, &ev);
 *
 * A change that every node sees for itself is told by each; what one node decides and others take over, by that node alone. */
#ifndef TELEMETRY_EVENTS_H
#define TELEMETRY_EVENTS_H

#include "libshared/base/buf.h"
#include "libshared/base/clock.h"
#include "libshared/base/id.h"
#include "libshared/store/kv.h"

enum event_kind {
    EVENT_BREAKER,
    EVENT_HEALTH,
    EVENT_BUDGET,
    EVENT_PROVIDER,
    EVENT_STORE,
    EVENT_ANOMALY,
    EVENT_CONFIG,
    EVENT_KEY,
    EVENT_KINDS
};
enum event_severity { EVENT_INFO, EVENT_WARNING, EVENT_CRITICAL, EVENT_SEVERITIES };
const char *event_severity_name(enum event_severity s);

#define EVENT_FACTS       6u
#define EVENT_SUBJECT_CAP 192
#define EVENT_TEXT_CAP    256
#define EVENT_FACT_CAP    48
#define EVENT_NAME_CAP    16
#define EVENT_NODE_CAP    64
#define EVENTS_KEPT       1000u /* by each node; as many as the stream */

enum event_fact_type { FACT_TEXT, FACT_COUNT, FACT_NUMBER, FACT_USD, FACT_TIME };
struct event_fact {
    char name[EVENT_NAME_CAP]; /* "old" "new" "value" "limit" "until" … */
    enum event_fact_type type;
    union {
        char text[EVENT_FACT_CAP];
        int64_t i; /* count, nano-USD, or microseconds of the wall clock */
        double number;
    };
};

struct event {
    enum event_kind kind;
    enum event_severity severity;
    struct wall at;                  /* 0: events_tell_mt() takes now */
    char subject[EVENT_SUBJECT_CAP]; /* an account, "provider" or "provider/model", a store … */
    char text[EVENT_TEXT_CAP];       /* one sentence without its full stop; never a secret */
    unsigned n_facts;
    struct event_fact facts[EVENT_FACTS];
};

void event_make(struct event *ev, enum event_kind kind, enum event_severity severity, const char *subject,
                const char *fmt, ...) PRINTF_LIKE(5, 6);
/* A fact more; past EVENT_FACTS it is left out. */
void event_add_text(struct event *ev, const char *name, const char *value);
void event_add_count(struct event *ev, const char *name, int64_t value);
void event_add_number(struct event *ev, const char *name, double value);
void event_add_usd(struct event *ev, const char *name, int64_t nanousd);
void event_add_time(struct event *ev, const char *name, struct wall value);

struct events;

/* `node` is copied: who says so. */
struct events *events_new(const char *node);
void events_free(struct events *e); /* NULL is fine */
/* Copies; never waits for a store, a file or a reader. What is over EVENTS_KEPT pushes out the oldest. NULL: nobody listens. */
void events_tell_mt(struct events *e, const struct event *ev);

/* ---- the store's thread ---- */

/* Logs what is new, brings it to the stream, and takes from there what other nodes said, and this one before its start. What the
 * store did not take is brought next time. NULL: to the log alone. */
NODISCARD enum err_code events_sync(struct events *e, struct kv *kv, struct err *err);

/* ---- looking ---- */

struct events_query {
    unsigned kinds;    /* a bit per enum event_kind; 0: all */
    struct wall since; /* 0: all */
    uint64_t after;    /* places up to this one are left out: see events_list_mt() */
    enum event_severity at_least;
    size_t limit; /* the newest; 0: all */
};
struct events_answer {
    int64_t epoch;         /* of this process: its places begin anew with another */
    uint64_t next;         /* `after` of a reader that has seen all of this */
    uint64_t told;         /* by this node since its start */
    uint64_t stored;       /* of those, brought to the stream */
    uint64_t dropped;      /* of those, pushed out before the stream had them */
    struct wall stored_at; /* the latest; 0: none */
};
/* One JSON object after the other, with commas between, oldest first, as in the stream:
 * {"id","at","kind","severity","subject","text","node","facts":{…}} */
struct events_answer events_list_mt(struct events *e, const struct events_query *q, struct buf *out);
/* Whether one of the last ones of that kind and subject had this text as that fact: told by an earlier run, or by another node. */
bool events_has_mt(struct events *e, enum event_kind kind, const char *subject, const char *fact,
                   const char *text);
struct events_answer events_stats_mt(struct events *e);
bool event_kinds_parse(const char *z, unsigned *out_kinds); /* "breaker,budget" */

#endif
