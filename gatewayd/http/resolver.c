/* SPDX-License-Identifier: Apache-2.0 */
/* Runs on its loop's thread, except look_up() on the lookup threads.
 *
 * A lookup may outlive its resolver (the system's resolver takes as long as it likes): a job therefore
 * reaches back only through `struct home`, which both sides hold. The resolver empties the home when it is
 * freed; the letter of a late job finds it empty and frees itself. */
#include "gatewayd/http/resolver.h"

#include <assert.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/config/limits.h"

struct home {
    pthread_mutex_t lock;
    struct mailbox *mailbox;   /* NULL once the resolver is gone; under the lock */
    struct resolver *resolver; /* likewise, but read and written by the loop's thread only */
    atomic_uint refs;
};

struct resolver_name {
    struct resolver_name *next;   /* in the table */
    struct resolver_name *queued; /* waits for a free thread */
    struct resolver_wait *waits;
    struct resolver_answer answer;
    struct mono fresh_until, stale_until, retry_at, prefer_until;
    struct address preferred;
    uint32_t generation;
    bool is_asking; /* a thread runs, or is queued */
    char text[];
};

struct resolver {
    struct loop *loop;
    struct home *home;
    resolver_lookup_fn lookup;
    struct resolver_name *names;
    struct resolver_name *queue, **queue_end;
    unsigned n_names;
    unsigned running; /* threads */
    struct {
        _Atomic uint64_t lookups, failures;
    } stats;
};

struct job {
    struct letter letter;
    struct home *home;
    struct resolver_name *name; /* the loop's thread only, and only while home->resolver is set */
    resolver_lookup_fn lookup;
    struct resolver_answer answer;
    char text[RESOLVER_NAME_MAX + 1];
};

static void bump(_Atomic uint64_t *c)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + 1, memory_order_relaxed);
}

static void home_unref(struct home *h)
{
    if (atomic_fetch_sub(&h->refs, 1) != 1)
        return;
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
}

static void system_lookup(const char *name, struct resolver_answer *out)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(name, NULL, &hints, &list);

    if (rc != 0) {
        (void)snprintf(out->why, sizeof(out->why), "%s", gai_strerror(rc));
        return;
    }
    for (const struct addrinfo *ai = list; ai && out->n < RESOLVER_ADDRESSES; ai = ai->ai_next)
        if (address_from_sockaddr(ai->ai_addr, &out->addresses[out->n]))
            out->n++;
    freeaddrinfo(list);
    if (!out->n)
        (void)snprintf(out->why, sizeof(out->why), "no address");
}

struct resolver *resolver_new(struct loop *l, struct mailbox *m, resolver_lookup_fn lookup, struct err *err)
{
    struct resolver *r = calloc(1, sizeof(*r));
    struct home *h = calloc(1, sizeof(*h));

    if (!r || !h) {
        free(r);
        free(h);
        (void)err_set(err, ERR_NO_MEMORY, "resolver: out of memory");
        return NULL;
    }
    (void)pthread_mutex_init(&h->lock, NULL);
    atomic_init(&h->refs, 1);
    h->mailbox = m;
    h->resolver = r;
    r->loop = l;
    r->home = h;
    r->lookup = lookup ? lookup : system_lookup;
    r->queue_end = &r->queue;
    return r;
}

void resolver_free(struct resolver *r)
{
    if (!r)
        return;
    (void)pthread_mutex_lock(&r->home->lock);
    r->home->mailbox = NULL;
    (void)pthread_mutex_unlock(&r->home->lock);
    r->home->resolver = NULL;
    home_unref(r->home);
    while (r->names) {
        struct resolver_name *n = r->names;

        assert(!n->waits);
        r->names = n->next;
        free(n);
    }
    free(r);
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

struct resolver_name *resolver_name(struct resolver *r, struct span name)
{
    struct resolver_name *n;

    if (name.len == 0 || name.len > RESOLVER_NAME_MAX)
        return NULL;
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_char(name.p[i]))
            return NULL;
    for (n = r->names; n; n = n->next)
        if (span_eq_nocase(span_of(n->text), name))
            return n;
    if (r->n_names == LIMIT_UPSTREAM_HOSTS)
        return NULL;
    n = calloc(1, sizeof(*n) + name.len + 1);
    if (!n)
        return NULL;
    (void)span_copy(n->text, name.len + 1, name);
    n->next = r->names;
    r->names = n;
    r->n_names++;
    return n;
}

const struct resolver_answer *resolver_answer(const struct resolver_name *n)
{
    return &n->answer;
}
uint32_t resolver_generation(const struct resolver_name *n)
{
    return n->generation;
}
void resolver_set_lookup(struct resolver *r, resolver_lookup_fn lookup)
{
    r->lookup = lookup;
}

struct resolver_stats resolver_stats_mt(const struct resolver *r)
{
    return (struct resolver_stats){
        .lookups = atomic_load_explicit(&r->stats.lookups, memory_order_relaxed),
        .failures = atomic_load_explicit(&r->stats.failures, memory_order_relaxed),
    };
}

static bool is_before(struct mono a, struct mono b)
{
    return a.us < b.us;
}

static bool is_same(const struct address *a, const struct address *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static void put_first(struct resolver_answer *answer, const struct address *a)
{
    unsigned at = 0;

    while (at < answer->n && !is_same(&answer->addresses[at], a))
        at++;
    if (at == answer->n)
        return;
    memmove(&answer->addresses[1], &answer->addresses[0], at * sizeof(*a));
    answer->addresses[0] = *a;
}

void resolver_prefer(struct resolver *r, struct resolver_name *n, const struct address *a)
{
    struct address first = *a; /* may point into the list */

    if (!n->answer.n || is_same(&n->answer.addresses[0], a))
        return;
    n->preferred = first;
    n->prefer_until = mono_add_us(loop_now(r->loop), LIMIT_DNS_PREFER_US);
    put_first(&n->answer, &first);
    n->generation++;
}

static void keep(struct resolver *r, struct resolver_name *n, struct resolver_answer *found)
{
    struct mono now = loop_now(r->loop);

    n->retry_at = mono_add_us(now, LIMIT_DNS_NEGATIVE_US);
    if (!found->n) {
        bump(&r->stats.failures);
        if (!n->answer.n || is_before(n->stale_until, now))
            n->answer = *found; /* else the last good addresses serve on */
        else
            n->fresh_until = n->retry_at;
        return;
    }
    if (is_before(now, n->prefer_until))
        put_first(found, &n->preferred);
    if (n->answer.n != found->n ||
        memcmp(n->answer.addresses, found->addresses, found->n * sizeof(struct address)) != 0)
        n->generation++;
    n->answer = *found;
    n->fresh_until = mono_add_us(now, LIMIT_DNS_FRESH_US);
    n->stale_until = mono_add_us(now, LIMIT_DNS_STALE_US);
}

static void wake(struct resolver_name *n)
{
    /* A waiter that asks again from its function goes to a new list. */
    struct resolver_wait *list = n->waits;

    n->waits = NULL;
    if (list)
        list->link = &list;
    while (list) {
        struct resolver_wait *w = list;

        resolver_wait_cancel(w);
        w->fn(w, n->answer.n ? RESOLVER_KNOWN : RESOLVER_FAILED);
    }
}

static void send_out(struct resolver *r, struct resolver_name *n);

static void send_out_queued(struct resolver *r)
{
    while (r->queue && r->running < LIMIT_DNS_THREADS) {
        struct resolver_name *n = r->queue;

        r->queue = n->queued;
        if (!r->queue)
            r->queue_end = &r->queue;
        n->queued = NULL;
        send_out(r, n);
    }
}

static void on_letter(struct letter *l)
{
    struct job *job = CONTAINER_OF(l, struct job, letter);
    struct resolver *r = job->home->resolver;

    if (r) {
        struct resolver_name *n = job->name;

        r->running--;
        n->is_asking = false;
        keep(r, n, &job->answer);
        wake(n);
        send_out_queued(r);
    }
    home_unref(job->home);
    free(job);
}

/* On the lookup's thread. */
static void *look_up(void *arg)
{
    struct job *job = arg;
    struct home *h = job->home;
    bool is_posted = false;

    job->lookup(job->text, &job->answer);
    (void)pthread_mutex_lock(&h->lock);
    if (h->mailbox) {
        mailbox_post_mt(h->mailbox, &job->letter);
        is_posted = true; /* the job is the loop's from here on */
    }
    (void)pthread_mutex_unlock(&h->lock);
    if (!is_posted) {
        free(job);
        home_unref(h);
    }
    return NULL;
}

static bool start_thread(struct job *job)
{
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t t;
    int rc;

    if (pthread_attr_init(&attr) != 0)
        return false;
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attr, LIMIT_DNS_STACK_BYTES);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the main thread */
    rc = pthread_create(&t, &attr, look_up, job);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    return rc == 0;
}

/* Starts a thread for the name. When that fails, the answer "no thread" comes home the same way as any other.
 */
static void send_out(struct resolver *r, struct resolver_name *n)
{
    struct job *job = calloc(1, sizeof(*job));

    if (!job) {
        n->is_asking = false; /* asked again by the next caller; those who wait run into their deadline */
        return;
    }
    job->letter.fn = on_letter;
    job->home = r->home;
    job->name = n;
    job->lookup = r->lookup;
    (void)span_copy(job->text, sizeof(job->text), span_of(n->text));
    atomic_fetch_add(&r->home->refs, 1);
    bump(&r->stats.lookups);
    r->running++;
    if (!start_thread(job)) {
        (void)snprintf(job->answer.why, sizeof(job->answer.why), "no thread for the lookup");
        mailbox_post_mt(r->home->mailbox, &job->letter);
    }
}

static void ask(struct resolver *r, struct resolver_name *n)
{
    if (n->is_asking)
        return;
    n->is_asking = true;
    if (r->running < LIMIT_DNS_THREADS) {
        send_out(r, n);
        return;
    }
    *r->queue_end = n;
    r->queue_end = &n->queued;
}

enum resolver_state resolver_ask(struct resolver *r, struct resolver_name *n, struct resolver_wait *w)
{
    struct mono now = loop_now(r->loop);

    if (n->answer.n && is_before(now, n->fresh_until))
        return RESOLVER_KNOWN;
    if (n->answer.n && is_before(now, n->stale_until)) {
        ask(r, n);
        return RESOLVER_KNOWN;
    }
    if (!n->answer.n && is_before(now, n->retry_at))
        return RESOLVER_FAILED;
    ask(r, n);
    w->next = n->waits;
    if (w->next)
        w->next->link = &w->next;
    n->waits = w;
    w->link = &n->waits;
    return RESOLVER_WAIT;
}

void resolver_wait_cancel(struct resolver_wait *w)
{
    if (!w->link)
        return;
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->link = NULL;
    w->next = NULL;
}
