/* SPDX-License-Identifier: Apache-2.0 */
/* A lock-free stack, taken whole and turned round by the receiver; the eventfd is written only by the sender
 * that found the stack empty. */
#include "gatewayd/core/mailbox.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
    struct letter *_Atomic top;
    struct loop *loop;
    struct loop_watch watch;
};

static void open_all(struct mailbox *m)
{
    struct letter *in = atomic_exchange_explicit(&m->top, NULL, memory_order_acquire);
    struct letter *ordered = NULL;

    while (in) {
        struct letter *next = in->next;

        in->next = ordered;
        ordered = in;
        in = next;
    }
    while (ordered) {
        struct letter *next = ordered->next;

        ordered->fn(ordered);
        ordered = next;
    }
}

static void on_wake(struct loop_watch *w, uint32_t events)
{
    struct mailbox *m = CONTAINER_OF(w, struct mailbox, watch);
    uint64_t n;

    (void)events;
    (void)!read(m->watch.fd, &n, sizeof(n));
    open_all(m);
}

struct mailbox *mailbox_new(struct loop *l, struct err *err)
{
    struct mailbox *m = calloc(1, sizeof(*m));

    if (!m) {
        (void)err_set(err, ERR_NO_MEMORY, "mailbox: out of memory");
        return NULL;
    }
    m->loop = l;
    m->watch = (struct loop_watch){.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .fn = on_wake};
    if (m->watch.fd < 0 || loop_watch(l, &m->watch, EPOLLIN) != ERR_OK) {
        (void)err_set(err, ERR_IO, "mailbox: eventfd: %s", strerror(errno));
        if (m->watch.fd >= 0)
            (void)close(m->watch.fd);
        free(m);
        return NULL;
    }
    return m;
}

void mailbox_free(struct mailbox *m)
{
    if (!m)
        return;
    loop_unwatch(m->loop, &m->watch);
    while (atomic_load(&m->top))
        open_all(m);
    (void)close(m->watch.fd);
    free(m);
}

void mailbox_post_mt(struct mailbox *m, struct letter *letter)
{
    struct letter *top = atomic_load_explicit(&m->top, memory_order_relaxed);
    uint64_t one = 1;

    do
        letter->next = top;
    while (!atomic_compare_exchange_weak_explicit(&m->top, &top, letter, memory_order_release,
                                                  memory_order_relaxed));
    if (!top)
        (void)!write(m->watch.fd, &one, sizeof(one));
}
