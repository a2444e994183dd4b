/* SPDX-License-Identifier: Apache-2.0 */
/* What one node may spend of one account's window without asking: a lease, cut from the limit in the store that all nodes
 * share. Pure: time is an argument, the owner locks. The other side is libshared/store/kv_lease.h.
 *
 *   G  granted: all that was ever granted here in this window, less what was given back
 *   S  settled here, H held here by open requests, F posted under this lease but not settled here
 *   P  of S + F, what the store has posted; there G - P is "outstanding" and belongs to this node
 *
 *   here:   a reservation R is admitted only while the session holds and S + F + H + R <= G
 *   store:  posted + sum of all nodes' outstanding <= limit, whenever it grants
 *
 * The batch that posts p takes p off the outstanding in the same step, so nothing is counted twice or forgotten, and the sum
 * of what is spent and held on all nodes stays within the limit. All leases of a node share one session: it holds for its
 * life from before the last answered call was sent. When it is over, only what is spent or held is claimed any more; the
 * store takes the rest back one grace later. Every call states G as a whole, so one whose answer was lost is made good by
 * the next. */
#ifndef RESILIENCE_LEASE_H
#define RESILIENCE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "libshared/base/clock.h"

struct lease_session { /* of a node; plain values, any one owner */
    int64_t life_us;
    struct mono until;
};
void lease_session_renew(struct lease_session *s, struct mono sent);
static inline bool lease_session_holds(const struct lease_session *s, struct mono now)
{
    return now.us < s->until.us;
}

enum lease_denial {
    LEASE_NOT_DENIED,
    LEASE_SPENT, /* posted */
    LEASE_TAKEN, /* what is not posted is leased to other nodes, which may not need it: see `agreed_at` */
    LEASE_QUIET  /* nothing is granted yet: the store came back empty */
};

struct lease_use { /* the owner's sums of the window */
    int64_t settled, held;
};

struct lease {             /* zero: nothing is granted */
    int64_t granted;       /* G */
    int64_t told;          /* the G that the store heard last */
    int64_t posted;        /* P, the least that it can be */
    int64_t foreign;       /* F, the least that it can be */
    int64_t settled_known; /* of S, what the store surely has */
    int64_t typical;       /* reservation, smoothed */
    int64_t rest;          /* of the limit, neither posted nor leased, when last heard */
    int64_t everywhere;    /* outstanding on all nodes, when last heard */
    int64_t short_of;      /* the smallest reservation that found no room since the last plan; 0: none */
    int64_t short_sum;     /* all of those */
    struct mono used_at;   /* the last reservation that was asked for */
    struct mono wanted_at; /* another node had no room; 0: none */
    bool is_named;         /* the store has a record of this lease, or may have one */
    bool is_unanswered;    /* it was told or asked something, and what it made of that is not known */
    bool is_due;           /* the store must be told in any case */
    enum lease_denial denial;
    int64_t denied;        /* the amount that was denied */
    struct mono denied_at; /* when that call was sent */
    struct mono agreed_at; /* since then every other node has said that all that it had leased is in use */
    struct mono given_at;  /* somebody waits for what was granted then */
};

/* `beyond`: what may be spent on top of what the store was told, by a budget that stays open while the store is down; 0: nothing. */
bool lease_has_room(const struct lease *l, struct lease_use u, int64_t amount, bool holds, int64_t beyond);
/* A reservation was asked for. True: a plan should be made soon. */
bool lease_note(struct lease *l, struct lease_use u, int64_t amount, bool had_room, struct mono now);

struct lease_ask {
    int64_t granted, posted,
        most; /* what the store is told: G, the least P, the most that can be outstanding */
    int64_t need,
        want; /* another G, at least and at most; need <= granted: nothing must be had, the rest is spare */
    int64_t amount;   /* the reservation behind `need`, 0: none */
    struct mono sent; /* `now` */
};
/* Gives back what is not needed, at once and here, whether or not the store hears of it. `lets_go`: the account is bounded no
 * more, or its window is over. False: the store need not be called. */
bool lease_plan(struct lease *l, struct lease_use u, bool holds, bool lets_go, struct mono now,
                struct lease_ask *out);
/* Another node has no room: what is not needed goes back with the next plan, and little is asked for during a second. True: it is
 * worth a plan at once. */
bool lease_is_wanted(struct lease *l, struct mono now);
/* The store came back empty, so that it has nothing of what was posted and granted. */
void lease_is_forgotten(struct lease *l);

struct lease_reply {
    int64_t granted, outstanding;
    int64_t rest;   /* of the limit, neither posted nor leased; may be negative */
    int64_t others; /* outstanding on other nodes */
    int64_t
        silent_us; /* since the last of those that have some of it said that all is in use; 0: nobody has any */
    bool is_quiet;
};
void lease_hear(struct lease *l, struct lease_use u, const struct lease_ask *ask,
                const struct lease_reply *r);
/* The store has every settlement that was part of `settled` once. */
void lease_has_posted(struct lease *l, int64_t settled);

/* By how much this node alone can have passed what it was granted: 0 while it keeps within a lease that the store honours.
 * `is_lost`: the session was over for so long that the store may have given the lease to others. */
int64_t lease_overshoot(const struct lease *l, struct lease_use u, bool is_lost);

#endif
