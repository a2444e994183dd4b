/* SPDX-License-Identifier: Apache-2.0 */
/* getaddrinfo() has no deadline, so a thread of its own calls it and the caller waits as long as it likes. A lookup that
 * was given up ends by itself; it and its waiter share the job, and the second of the two to let go frees it. At most
 * LOOKUPS_MAX are on the way at once in the process. */
#include "libshared/store/redis_resolve.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOKUPS_MAX 8

struct job {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    unsigned holders;
    bool is_done;
    int rc;
    struct addrinfo *found;
    char host[256], port[8];
};

static atomic_int lookups;

static int look_up(const char *host, const char *port, int flags, struct addrinfo **out)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};

    *out = NULL;
    return getaddrinfo(host, port, &hints, out);
}

static void let_go(struct job *j)
{
    unsigned left;

    (void)pthread_mutex_lock(&j->lock);
    left = --j->holders;
    (void)pthread_mutex_unlock(&j->lock);
    if (left)
        return;
    if (j->found)
        freeaddrinfo(j->found);
    (void)pthread_cond_destroy(&j->done_cond);
    (void)pthread_mutex_destroy(&j->lock);
    free(j);
}

static void *look_up_main(void *arg)
{
    struct job *j = arg;
    struct addrinfo *found;
    int rc = look_up(j->host, j->port, 0, &found);

    (void)pthread_mutex_lock(&j->lock);
    j->rc = rc;
    j->found = rc ? NULL : found;
    j->is_done = true;
    (void)pthread_cond_signal(&j->done_cond);
    (void)pthread_mutex_unlock(&j->lock);
    let_go(j);
    atomic_fetch_sub(&lookups, 1);
    return NULL;
}

static struct job *job_start(const char *host, const char *port)
{
    struct job *j = calloc(1, sizeof(*j));
    pthread_condattr_t monotonic;
    pthread_attr_t attr;
    pthread_t thread;
    int rc;

    if (!j)
        abort();
    (void)snprintf(j->host, sizeof(j->host), "%s", host);
    (void)snprintf(j->port, sizeof(j->port), "%s", port);
    (void)pthread_mutex_init(&j->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&j->done_cond, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    j->holders = 2;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attr, 256 * 1024);
    atomic_fetch_add(&lookups, 1);
    rc = pthread_create(&thread, &attr, look_up_main, j);
    (void)pthread_attr_destroy(&attr);
    if (rc) {
        atomic_fetch_sub(&lookups, 1);
        j->holders = 1;
        let_go(j);
        return NULL;
    }
    return j;
}

static enum err_code job_wait(struct job *j, struct mono deadline, struct addrinfo **out, struct err *err)
{
    struct timespec until = {deadline.us / 1000000, deadline.us % 1000000 * 1000};
    int rc = 0;

    (void)pthread_mutex_lock(&j->lock);
    while (!j->is_done && rc == 0)
        rc = pthread_cond_timedwait(&j->done_cond, &j->lock, &until);
    rc = j->is_done ? j->rc : EAI_AGAIN;
    *out = j->found;
    j->found = NULL;
    if (!j->is_done)
        (void)err_set(err, ERR_TIMEOUT, "'%s' could not be resolved in time", j->host);
    else if (rc)
        (void)err_set(err, ERR_UNAVAILABLE, "'%s' cannot be resolved: %s", j->host, gai_strerror(rc));
    rc = rc ? (j->is_done ? ERR_UNAVAILABLE : ERR_TIMEOUT) : ERR_OK;
    (void)pthread_mutex_unlock(&j->lock);
    let_go(j);
    return (enum err_code)rc;
}

enum err_code redis_resolve(const char *host, unsigned port, struct mono deadline, struct addrinfo **out,
                            struct err *err)
{
    char service[8];
    struct job *j;

    (void)snprintf(service, sizeof(service), "%u", port & 0xffffu);
    if (look_up(host, service, AI_NUMERICHOST, out) == 0)
        return ERR_OK;
    if (atomic_load(&lookups) >= LOOKUPS_MAX)
        return err_set(err, ERR_UNAVAILABLE,
                       "'%s' cannot be resolved: %d lookups are still without an answer", host, LOOKUPS_MAX);
    j = job_start(host, service);
    if (!j)
        return err_set(err, ERR_UNAVAILABLE, "'%s' cannot be resolved: no thread", host);
    return job_wait(j, deadline, out, err);
}
