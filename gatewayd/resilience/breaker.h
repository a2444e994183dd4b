/* SPDX-License-Identifier: Apache-2.0 */
/* Circuit breakers, one per provider and model, in one table that all threads share. Pure: time is an argument, and
 * randomness comes from the seed.
 *
 *              failures in a row, or their share of the window          the pause is over
 *   ┌────────┐ ───────────── report() ─────────────► ┌──────┐ ───── due() ─────► ┌───────────┐
 *   │ closed │                                       │ open │                    │ half open │
 *   └────────┘                                       └──────┘ ◄──── report() ─── └───────────┘
 *       ▲                                                        a probe failed        │
 *       └──────────────────────────── report(): `close_after` successes in a row ──────┘
 *
 * An operator's forced state lies over this machine, which rests meanwhile and goes on where it was. */
#ifndef RESILIENCE_BREAKER_H
#define RESILIENCE_BREAKER_H

#include "gatewayd/config/config.h"
#include "libshared/base/clock.h"
#include "libshared/base/intern.h"

#define BREAKER_HISTORY 20u
#define BREAKER_TEXT    160
#define BREAKER_ACTOR   32
#define BREAKER_BUCKETS 24u /* of the histogram of recoveries, at most */
#define BREAKER_PROBE_US                                                                                     \
    ((int64_t)120 * 1000000) /* a probe of which nothing was heard for so long is given up */
#define BREAKER_FULL_US ((int64_t)1 * 1000000) /* when to ask again while all probes are out */

enum breaker_state { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN, BREAKER_STATES }; /* by severity */
enum breaker_force { BREAKER_AUTO, BREAKER_FORCED_OPEN, BREAKER_FORCED_CLOSED };
enum breaker_outcome { BREAKER_NEITHER, BREAKER_SUCCESS, BREAKER_FAILURE };

struct breakers;
struct breaker;

struct breaker_now {
    struct mono mono;
    struct wall wall;
};
static inline struct breaker_now breaker_now(void)
{
    return (struct breaker_now){mono_now(), wall_now()};
}

struct breakers *breakers_new(uint64_t seed);
void breakers_free(struct breakers *t);
/* Called with every change that began here (not with those that other nodes told), under the breaker's lock: it must not wait, and
 * not call back. Before any other thread has the table. */
struct breaker_change;
typedef void (*breaker_change_fn)(void *user, label provider, label model, const struct breaker_change *c);
void breakers_on_change(struct breakers *t, breaker_change_fn fn, void *user);
/* So that it is listed before its first attempt. */
void breakers_ensure(struct breakers *t, label provider, label model);

/* ---- attempts ---- */

struct breaker_ticket { /* one attempt's; all zero: none */
    struct breaker *of;
    uint64_t epoch;
    uint32_t cuts, probe, serial; /* probe: its place + 1 */
};
/* May an attempt be made? On true the ticket must be reported exactly once. On false ask breaker_look(). */
bool breaker_admit(struct breakers *t, label provider, label model, const struct config_breaker *rules,
                   struct breaker_now now, struct breaker_ticket *out);
/* `cause` tells of a failure in a few words ("HTTP 500"). A ticket of an earlier state says nothing of this one. */
void breaker_report(struct breakers *t, struct breaker_ticket *ticket, enum breaker_outcome outcome,
                    const char *cause, const struct config_breaker *rules, struct breaker_now now);
/* An operator has opened it without patience since the ticket was given. */
bool breaker_is_cut(const struct breaker_ticket *ticket);

/* ---- looking ---- */

struct breaker_view {
    label provider, model;
    enum breaker_state state; /* in effect */
    enum breaker_force force;
    bool is_available; /* an attempt would be admitted */
    bool is_drain;
    unsigned failures;  /* in a row */
    unsigned successes; /* in a row, while half open */
    unsigned probes;    /* under way */
    uint64_t window_attempts, window_failures;
    struct wall since, updated;
    struct wall until; /* the next probe, or the end of the forced state; 0: none */
    char cause[BREAKER_TEXT];
    struct wall forced_at;
    char reason[BREAKER_TEXT], actor[BREAKER_ACTOR];
    uint64_t transitions[BREAKER_STATES]; /* into each */
    uint64_t recoveries[BREAKER_BUCKETS + 1], recovery_sum_us;
    int64_t recovery_us; /* the last; -1: none */
};
/* False: nothing is known of it, it would be admitted. */
bool breaker_look(struct breakers *t, label provider, label model, const struct config_breaker *rules,
                  struct breaker_now now, struct breaker_view *out);
/* All, in no order; returns how many there are, of which at most `cap` were filled in. */
size_t breakers_list(struct breakers *t, const struct config_breaker *rules, struct breaker_now now,
                     struct breaker_view *out, size_t cap);
struct breaker_name {
    label provider, model;
};
/* The same of their names alone. */
size_t breakers_names(struct breakers *t, struct breaker_name *out, size_t cap);
struct breaker_change {
    struct wall at;
    enum breaker_state from, to;
    char cause[BREAKER_TEXT];
};
/* Newest first. */
size_t breaker_history(struct breakers *t, label provider, label model,
                       struct breaker_change out[BREAKER_HISTORY]);
const char *breaker_state_name(enum breaker_state s); /* "CLOSED", "HALF_OPEN", "OPEN" */

/* ---- operators ---- */

struct breaker_forced {
    enum breaker_force force;
    bool is_drain;     /* open: attempts that are under way may end */
    struct wall until; /* when it goes back to itself; 0: never */
    struct wall at;    /* when it was said; 0: breaker_force() takes now */
    char reason[BREAKER_TEXT], actor[BREAKER_ACTOR];
};
void breaker_force(struct breakers *t, label provider, label model, const struct breaker_forced *f,
                   struct breaker_now now);
/* What was kept over a restart; it holds unless something newer was said. */
void breaker_restore(struct breakers *t, label provider, label model, const struct breaker_forced *f,
                     struct breaker_now now);
/* Closed, nothing counted, nothing forced. */
void breaker_reset(struct breakers *t, label provider, label model, const char *actor,
                   struct breaker_now now);

/* ---- other nodes ---- */

struct breaker_record { /* what nodes tell each other; the newer one holds */
    label provider, model;
    enum breaker_state state;
    struct wall at, until; /* until: of the pause, while open */
    unsigned laps;
    char cause[BREAKER_TEXT];
    struct breaker_forced forced; /* .at 0: nothing was ever forced */
};
/* Those that changed here since they were taken; at most `cap`, the rest next time. */
size_t breakers_take_news(struct breakers *t, struct breaker_now now, struct breaker_record *out, size_t cap);
/* It could not be told. */
void breaker_is_news(struct breakers *t, label provider, label model);
/* Everything that is not just closed is news again, but for what breakers_adopt() has seen since the last call. */
void breakers_forgotten_are_news(struct breakers *t);
void breaker_adopt(struct breakers *t, const struct breaker_record *r, struct breaker_now now);

#endif
