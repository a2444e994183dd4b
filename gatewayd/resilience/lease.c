/* SPDX-License-Identifier: Apache-2.0 */
/* Under the lock of the lease's owner, no thread of its own. The invariant is the header's: what is given back leaves `granted`
 * before the store hears of it, what is granted enters it after the store has counted it.
 *
 * The tricky part is that the store's view comes late: P is only ever known to be at least something. lease_hear() raises it,
 * and what the store has posted under this lease beyond what was settled here (a request that was open when its budget was
 * made) counts as spent here from then on. */
#include "gatewayd/resilience/lease.h"

#define RESERVATIONS 16      /* that a lease has room for, at least */
#define PART         100     /* or one part of so many of the rest */
#define IDLE_US      3000000 /* then the unused part goes back */
#define WANTED_US    1000000 /* so long a node asks for no more than it needs */
#define ANSWER_US    100000  /* between two answers to those who want some */
#define GIVEN_US     100000  /* so long what was granted waits for the request that asked for it */
#define SMOOTH       8       /* a new reservation moves the typical one by a part of so many */

static int64_t added(int64_t a, int64_t b)
{
    int64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static int64_t greatest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void lease_session_renew(struct lease_session *s, struct mono sent)
{
    struct mono until = mono_add_us(sent, s->life_us);

    if (until.us > s->until.us)
        s->until = until;
}

static int64_t used_of(const struct lease *l, struct lease_use u)
{
    return added(added(u.settled, l->foreign), u.held);
}

/* Beyond the lease means beyond what the store was told, so that a plan that it does not hear of makes no room. */
bool lease_has_room(const struct lease *l, struct lease_use u, int64_t amount, bool holds, int64_t beyond)
{
    int64_t used = used_of(l, u), room = holds ? l->granted : 0;

    if (beyond)
        room = greatest(room, added(l->told, beyond));
    return used <= room && amount <= room - used;
}

static int64_t spare_of(const struct lease *l, struct mono now)
{
    if (l->wanted_at.us && now.us - l->wanted_at.us < WANTED_US)
        return 0;
    if (!l->used_at.us || now.us - l->used_at.us > IDLE_US)
        return 0;
    return greatest(l->typical > INT64_MAX / RESERVATIONS ? INT64_MAX : l->typical * RESERVATIONS,
                    l->rest / PART);
}

bool lease_note(struct lease *l, struct lease_use u, int64_t amount, bool had_room, struct mono now)
{
    l->used_at = now;
    l->typical = l->typical ? l->typical + (amount - l->typical) / SMOOTH : amount;
    if (!had_room) {
        l->short_of = l->short_of ? least(l->short_of, amount) : amount;
        l->short_sum = added(l->short_sum, amount);
        return true;
    }
    return l->granted - used_of(l, u) < spare_of(l, now) / 2 && l->rest > 0;
}

bool lease_plan(struct lease *l, struct lease_use u, bool holds, bool lets_go, struct mono now,
                struct lease_ask *out)
{
    int64_t used = used_of(l, u), spare = lets_go ? 0 : spare_of(l, now), free;
    bool was_due = l->is_due || l->is_unanswered;
    bool waits = l->given_at.us && now.us - l->given_at.us < GIVEN_US && !lets_go;
    bool asks = l->short_of && !lets_go && now.us - l->used_at.us <= IDLE_US; /* else nobody waits any more */

    /* Who asks for more gives back what does not reach, so that parts on several nodes make a whole. */
    if (!holds || l->granted < used || (spare == 0 && !waits) || (asks && l->granted - used < l->short_of))
        l->granted = used;
    free = l->granted - used;
    if (free / 2 > spare && !waits)
        l->granted = added(used, spare);
    *out = (struct lease_ask){.granted = l->granted,
                              .posted = l->posted,
                              .most = greatest(0, l->granted - l->settled_known - l->foreign),
                              .need = used,
                              .want = l->granted,
                              .sent = now};
    if (asks) {
        out->amount = l->short_of;
        out->need = free < l->short_of ? added(used, l->short_of) : used;
        out->want = greatest(l->granted, added(added(used, l->short_sum), spare));
    } else if (free < spare / 2 && l->rest > 0) {
        out->want = added(used, spare);
    }
    l->short_of = l->short_sum = 0;
    l->is_due = false;
    l->is_unanswered = was_due || out->want > out->granted || l->granted != l->told;
    l->is_named |= out->want > out->granted;
    return l->is_unanswered;
}

bool lease_is_wanted(struct lease *l, struct mono now)
{
    bool is_new = l->is_named && (!l->wanted_at.us || now.us - l->wanted_at.us >= ANSWER_US);

    l->wanted_at = now;
    l->is_due |= l->is_named;
    return is_new;
}

void lease_is_forgotten(struct lease *l)
{
    l->posted = l->settled_known = 0;
    l->is_due |= l->is_named;
}

static void deny(struct lease *l, const struct lease_ask *ask, const struct lease_reply *r)
{
    l->denied = ask->amount;
    l->denied_at = ask->sent;
    /* More than there is: what another states again that the store forgot may be posted already, which it learns soon. */
    l->agreed_at = r->rest < 0 ? (struct mono){0} : mono_add_us(ask->sent, -r->silent_us);
    if (r->is_quiet)
        l->denial = LEASE_QUIET;
    else /* there would be no room if all that is leased came back */
        l->denial =
            ask->amount > added(added(r->rest, r->others), r->outstanding) ? LEASE_SPENT : LEASE_TAKEN;
}

void lease_hear(struct lease *l, struct lease_use u, const struct lease_ask *ask, const struct lease_reply *r)
{
    int64_t posted;

    l->is_unanswered = false;
    l->granted = l->told = r->granted;
    l->is_named = r->granted || r->outstanding;
    l->rest = r->rest;
    l->everywhere = added(r->outstanding, r->others);
    posted = r->granted - r->outstanding;
    l->posted = greatest(l->posted, posted);
    l->foreign = greatest(l->foreign, posted - u.settled);
    if (!ask->amount)
        return;
    if (r->granted < ask->need) {
        deny(l, ask, r);
    } else {
        l->denial = LEASE_NOT_DENIED;
        l->given_at = ask->sent;
    }
}

void lease_has_posted(struct lease *l, int64_t settled)
{
    if (settled <= l->settled_known)
        return;
    l->is_due |= l->is_named && settled > l->posted; /* more is outstanding there than can be */
    l->settled_known = settled;
}

int64_t lease_overshoot(const struct lease *l, struct lease_use u, bool is_lost)
{
    int64_t used = used_of(l, u);

    if (is_lost)
        return greatest(0, used - l->settled_known);
    return greatest(0, used - l->told);
}
