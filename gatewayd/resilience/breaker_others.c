/* SPDX-License-Identifier: Apache-2.0 */
/* What others say of breakers: operators force and reset them, other nodes tell of theirs. Any thread, each breaker under its own
 * lock. The tricky part is `changed` and the stamps of forced states: nodes take whichever is newer, so a stamp is never older
 * than what this node has seen. */
#include <stdio.h>
#include <string.h>

#include "gatewayd/resilience/breaker_priv.h"

/* ---- operators ------------------------------------------------------------------------------------------------------- */

static void use_forced(struct breaker *b, const struct breaker_forced *f, struct breaker_now now)
{
    enum breaker_state was = breaker_in_effect(b);
    bool is_repeated = f->force == BREAKER_AUTO && b->forced.force == BREAKER_AUTO;
    char text[2 * BREAKER_TEXT];

    b->forced = *f;
    if (f->force == BREAKER_FORCED_OPEN && !f->is_drain)
        atomic_fetch_add(&b->cuts, 1);
    if (is_repeated)
        return;
    breaker_new_epoch(b);
    (void)snprintf(text, sizeof(text), "%s by %s%s%s",
                   f->force == BREAKER_FORCED_OPEN     ? "forced open"
                   : f->force == BREAKER_FORCED_CLOSED ? "forced closed"
                                                       : "given back to itself",
                   f->actor[0] ? f->actor : "an operator", f->reason[0] ? ": " : "", f->reason);
    breaker_note(b, was, now, text);
}

void breaker_force(struct breakers *t, label provider, label model, const struct breaker_forced *f,
                   struct breaker_now now)
{
    struct breaker *b = breaker_get(t, provider, model);
    struct breaker_forced mine = *f;

    if (!b)
        return;
    (void)pthread_mutex_lock(&b->lock);
    breaker_due(b, now);
    mine.at = breaker_newer(mine.at.us ? mine.at : now.wall, breaker_end_of(&b->forced));
    use_forced(b, &mine, now);
    b->is_news = true;
    (void)pthread_mutex_unlock(&b->lock);
}

void breaker_restore(struct breakers *t, label provider, label model, const struct breaker_forced *f,
                     struct breaker_now now)
{
    struct breaker *b = breaker_get(t, provider, model);

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
    struct breaker *b = breaker_get(t, provider, model);
    char text[BREAKER_TEXT];

    if (!b)
        return;
    (void)snprintf(text, sizeof(text), "reset by %s", actor);
    (void)pthread_mutex_lock(&b->lock);
    breaker_due(b, now);
    if (b->forced.force != BREAKER_AUTO) {
        struct breaker_forced none = {.at = breaker_newer(now.wall, b->forced.at)};

        (void)snprintf(none.actor, sizeof(none.actor), "%s", actor);
        use_forced(b, &none, now);
    }
    breaker_move(b, BREAKER_CLOSED, now, text);
    breaker_tell(b, now);
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
        out->until = breaker_wall_of(b->pause_end, now);
    memcpy(out->cause, b->cause, sizeof(out->cause));
    b->is_news = false;
}

size_t breakers_take_news(struct breakers *t, struct breaker_now now, struct breaker_record *out, size_t cap)
{
    size_t n = 0;

    for (unsigned i = 0; i < BREAKER_SLOTS && n < cap; i++) {
        struct breaker *b = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (!b)
            continue;
        (void)pthread_mutex_lock(&b->lock);
        breaker_due(b, now);
        if (b->is_news)
            take(b, now, &out[n++]);
        (void)pthread_mutex_unlock(&b->lock);
    }
    return n;
}

void breaker_is_news(struct breakers *t, label provider, label model)
{
    struct breaker *b = breaker_find(t, provider, model);

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
    for (unsigned i = 0; i < BREAKER_SLOTS; i++) {
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

    (void)snprintf(text, sizeof(text), "another node: %s", r->cause);
    if (r->state == BREAKER_OPEN) {
        b->pause_end = mono_add_us(now.mono, r->until.us - now.wall.us);
        b->laps = r->laps;
    }
    if (r->state != b->state)
        breaker_move(b, r->state, now, text);
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
    struct breaker *b = breaker_get(t, r->provider, r->model);
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
    breaker_due(b, now);
    (void)pthread_mutex_unlock(&b->lock);
}
