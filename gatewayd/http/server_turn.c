/* SPDX-License-Identifier: Apache-2.0 */
/* When libmicrohttpd is run: once at the end of each turn of the loop that brought its descriptor something or wants to
 * resume a connection, a few times more while it says that there is more to do. Loop thread only; the server owns all state.
 * Invariant: a daemon with something to do is run within RATION_US, and one that only asks to be run costs a bounded share.
 * Tricky: whether a run brought something is known from the callbacks that it made (has_news). */
#include "gatewayd/http/server_priv.h"

#include <stdatomic.h>
#include <sys/epoll.h>

#define RUNS_PER_TURN   4
#define RATION_RUNS     64u /* runs of the daemon from which nothing comes, in each RATION_US … */
#define RATION_PER_NEWS 4u  /* … and so many more for each run from which something came */
#define RATION_US       10000

void conn_want_resume(struct conn *c)
{
    if (!c->is_suspended || c->resume_wanted)
        return;
    c->resume_wanted = true;
    c->next_resume = NULL;
    *c->server->resumes_end = c;
    c->server->resumes_end = &c->next_resume;
}

void conn_drop_resume(struct conn *c)
{
    struct conn **at = &c->server->resumes;

    if (!c->resume_wanted)
        return;
    while (*at != c)
        at = &(*at)->next_resume;
    *at = c->next_resume;
    if (c->server->resumes_end == &c->next_resume)
        c->server->resumes_end = at;
    c->resume_wanted = false;
}

bool server_resume_all(struct server *s)
{
    bool any = s->resumes != NULL;

    while (s->resumes) {
        struct conn *c = s->resumes;

        s->resumes = c->next_resume;
        if (!s->resumes)
            s->resumes_end = &s->resumes;
        c->resume_wanted = false;
        c->is_suspended = false;
        MHD_resume_connection(c->mhd);
    }
    return any;
}

static bool wants_more(struct server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;

    return MHD_get_timeout(s->daemon, &ms) == MHD_YES && ms == 0;
}

/* Two things make the daemon ask to be run at once, for ever: a connection that can neither read nor write (its buffer is
 * full of the beginning of an endless chunk line), and a client that cannot be accepted because no descriptor is free.
 * So runs that bring nothing are rationed, and the daemon is not listened to while the ration is used up. A request costs
 * two or three such runs itself (its answer is sent, the connection is found empty), so the ration grows with what comes. */
static bool is_in_ration(struct server *s, bool is_idle)
{
    struct mono now = loop_now(s->loop);

    if (mono_diff_us(now, s->ration_began) >= RATION_US) {
        s->ration_began = now;
        s->ration_left = RATION_RUNS;
    }
    if (!is_idle) {
        s->ration_left += RATION_PER_NEWS;
        return true;
    }
    if (s->ration_left == 0)
        return false;
    s->ration_left--;
    return true;
}

static void pause_daemon(struct server *s)
{
    if (timer_is_armed(&s->ration))
        return;
    atomic_store_explicit(&s->stats.pauses, atomic_load_explicit(&s->stats.pauses, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (loop_rewatch(s->loop, &s->watch, 0) == ERR_OK)
        loop_timer(s->loop, &s->ration, RATION_US);
}

static void on_ration(struct timer *t)
{
    struct server *s = CONTAINER_OF(t, struct server, ration);

    s->has_events = true;
    if (loop_rewatch(s->loop, &s->watch, EPOLLIN) != ERR_OK)
        loop_timer(s->loop, &s->ration, RATION_US);
}

/* End of a turn: one pass over everything that became ready in it. A daemon that was at a limit listens again at the
 * beginning of the run after a connection was closed: that run is ours to give, or it stays deaf. */
static bool on_turn_end(struct loop_hook *h)
{
    struct server *s = CONTAINER_OF(h, struct server, hook);
    bool more = s->has_events;

    s->has_events = false;
    for (int i = 0; i < RUNS_PER_TURN; i++) {
        bool is_ours = s->has_closed;

        is_ours |= server_resume_all(s);
        more |= is_ours;
        if (!more)
            return false;
        s->has_news = s->has_closed = false;
        (void)MHD_run(s->daemon);
        if (!is_in_ration(s, !s->has_news && !is_ours)) {
            pause_daemon(s);
            return s->resumes != NULL;
        }
        more = wants_more(s);
    }
    s->has_events = more;
    return more || s->resumes || s->has_closed;
}

static void on_daemon_event(struct loop_watch *w, uint32_t events)
{
    (void)events;
    CONTAINER_OF(w, struct server, watch)->has_events = true;
}

/* ---- life ---- */

enum err_code server_turns_begin(struct server *s)
{
    s->resumes_end = &s->resumes;
    s->ration.fn = on_ration;
    s->hook.fn = on_turn_end;
    s->watch = (struct loop_watch){.fd = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
                                   .fn = on_daemon_event};
    if (loop_watch(s->loop, &s->watch, EPOLLIN) != ERR_OK)
        return ERR_IO;
    loop_add_hook(s->loop, &s->hook);
    return ERR_OK;
}

void server_turns_end(struct server *s)
{
    loop_unwatch(s->loop, &s->watch);
    loop_timer_cancel(s->loop, &s->ration);
    loop_remove_hook(s->loop, &s->hook);
}
