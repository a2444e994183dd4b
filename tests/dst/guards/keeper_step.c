/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of limits_lease.c, turn by turn. */
#include "tests/dst/guards/keeper_step.h"

#include "gatewayd/limits/limits_lease.c"

const int64_t keeper_grace = GRACE;

struct limits_lease *keeper_open(const struct limits_lease_options *o)
{
    struct limits_lease *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->o = *o;
    s->limits = o->limits;
    s->session.life_us = o->life_us;
    s->life = wall_now().us;
    (void)pthread_mutex_init(&s->lock, NULL);
    atomic_store(&s->limits->is_lease_up, true);
    atomic_store(&s->limits->lease, s);
    return s;
}

int64_t keeper_turn(struct limits_lease *s, bool renews_in_any_case)
{
    struct mono now = mono_now();
    bool is_full = mono_diff_us(now, s->full) >= round_of(s), is_up;

    if (now.us < s->retry_at.us)
        return mono_diff_us(s->retry_at, now);
    if (is_full)
        s->full = now;
    is_up = round_once(s, is_full);
    if (!is_up)
        s->retry_at = mono_add_us(now, DOWN_US);
    if (renews_in_any_case && s->session.until.us) {
        lease_session_renew(&s->session, now);
        atomic_store(&s->limits->lease_until_us, s->session.until.us);
    }
    return is_up ? pause_of(s) : DOWN_US;
}

int64_t keeper_says(struct limits_lease *s, const char *account)
{
    struct limits_scope *scope = limits_find_mt(s->limits, account);

    return scope ? budget_account_leases(scope->account, true).overshoot_nanousd : 0;
}

void keeper_close(struct limits_lease *s)
{
    atomic_store(&s->limits->lease, NULL);
    kv_free(s->o.kv);
    (void)pthread_mutex_destroy(&s->lock);
    free(s->scopes);
    free(s->targets);
    free(s);
}
