/* SPDX-License-Identifier: Apache-2.0 */
/* Worker thread only, but for on_granted(), which runs on the thread that left the slot and only posts a letter.
 *
 * A wait is owned by its request until the letter is on its way; then by the letter, which finds `rq` NULL when the request
 * has ended meanwhile, and passes the slot on. The tricky part is a grant that meets the end of the patience: what
 * queue_withdraw() says decides, and a slot that was granted is used. */
#include "gatewayd/proxy/waiting.h"

#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/proxy/pipeline.h"

#define PATIENCE_MAX_US ((int64_t)24 * 3600 * 1000000)
#define RETRY_MAX_MS    300000

struct waiting {
    struct queue_waiter waiter;
    struct letter letter;
    struct loop *loop;
    struct mailbox *mailbox;
    struct request *rq; /* NULL: it has ended */
    struct mono since;
    enum queue_verdict at_end; /* what it means when the timer fires */
    bool is_granted;
};

/* ---- what the client asks for ---- */

static unsigned read_priority(struct span v)
{
    static const struct {
        const char *name;
        unsigned is;
    } NAMES[] = {{"high", 1}, {"normal", QUEUE_PRIORITY}, {"low", QUEUE_PRIORITIES}};

    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        if (span_eq_nocase(v, span_of(NAMES[i].name)))
            return NAMES[i].is;
    if (v.len == 2 && (v.p[0] == 'p' || v.p[0] == 'P'))
        v = span_make(v.p + 1, 1);
    return v.len == 1 && v.p[0] >= '1' && v.p[0] < '1' + (char)QUEUE_PRIORITIES ? (unsigned)(v.p[0] - '0')
                                                                                : 0;
}

/* Whole numbers only; what follows a point is less than patience is measured in. -1: it is none. */
static int64_t read_number(struct span v)
{
    int64_t n = 0;

    if (!v.len || v.len > 12)
        return -1;
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] == '.' && i)
            break;
        if (v.p[i] < '0' || v.p[i] > '9')
            return -1;
        n = n * 10 + (v.p[i] - '0');
    }
    return n;
}

static void be_patient(struct request *rq, int64_t us)
{
    if (us > 0 && us < PATIENCE_MAX_US)
        rq->patience = mono_add_us(rq->arrived, us);
}

enum step waiting_read(struct request *rq)
{
    struct span said = span_trim(exchange_header(rq->ex, "x-priority"));
    struct span timeout = span_trim(exchange_header(rq->ex, "x-gatewayd-timeout-ms"));
    const struct config_tenant *t = rq->key->tenant;
    int64_t ms;

    rq->priority = t->priority;
    if (said.p) {
        rq->priority = read_priority(said);
        if (!rq->priority)
            return request_fail(
                rq, ERR_BAD_REQUEST,
                "header 'x-priority' is 1 to 5, p1 to p5, high, normal or low; 1 is served first");
    }
    if (rq->priority < t->max_priority)
        rq->priority = t->max_priority;
    if (timeout.p) {
        ms = read_number(timeout);
        if (ms <= 0)
            return request_fail(rq, ERR_BAD_REQUEST,
                                "header 'x-gatewayd-timeout-ms' is a number of milliseconds above 0");
        be_patient(rq, ms * 1000);
        return STEP_NEXT;
    }
    /* The official SDKs tell their timeout in seconds; nobody is refused for how they spell it. */
    timeout = span_trim(exchange_header(rq->ex, "x-stainless-timeout"));
    if (!timeout.p)
        timeout = span_trim(exchange_header(rq->ex, "x-stainless-read-timeout"));
    if (timeout.p)
        be_patient(rq, read_number(timeout) * 1000000);
    return STEP_NEXT;
}

/* ---- the wait ---- */

bool waiting_try(struct request *rq, const struct config_target *t, struct queue_slot *out)
{
    return queue_try(queues_of(rq->config, t->provider), rq->key->tenant->label, out);
}

static void waiting_free(struct waiting *w)
{
    queue_waiter_release(&w->waiter);
    free(w);
}

static void on_letter(struct letter *l)
{
    struct waiting *w = CONTAINER_OF(l, struct waiting, letter);

    if (w->rq) {
        w->is_granted = true;
        pipeline_resume(w->rq);
        return;
    }
    queue_leave(&w->waiter.slot, loop_now(w->loop));
    waiting_free(w);
}

static void on_granted(struct queue_waiter *qw)
{
    struct waiting *w = CONTAINER_OF(qw, struct waiting, waiter);

    mailbox_post_mt(w->mailbox, &w->letter);
}

static void add_queued(struct request *rq, const struct waiting *w)
{
    rq->queued_us += mono_diff_us(mono_now(), w->since);
}

/* Until its own patience or the configured one is over. */
static void arm(struct request *rq, struct waiting *w)
{
    struct mono now = loop_now(rq->proxy->loop);
    int64_t us = rq->config->queue.max_wait_us;

    w->at_end = QUEUE_WAIT;
    if (rq->patience.us && mono_diff_us(rq->patience, now) < us) {
        us = mono_diff_us(rq->patience, now);
        w->at_end = QUEUE_DEADLINE;
    }
    rq->timer_fired = false;
    loop_timer(rq->proxy->loop, &rq->timer, us);
}

enum queue_verdict waiting_begin(struct request *rq, const struct config_target *t, struct queue_slot *out)
{
    struct waiting *w = calloc(1, sizeof(*w));
    enum queue_verdict v;

    if (!w)
        abort();
    *w = (struct waiting){.waiter = {.tenant = rq->key->tenant->label,
                                     .priority = rq->priority,
                                     .bytes = exchange_bytes_in(rq->ex),
                                     .until = rq->patience,
                                     .granted = on_granted},
                          .letter.fn = on_letter,
                          .loop = rq->proxy->loop,
                          .mailbox = rq->proxy->mailbox,
                          .rq = rq,
                          .since = loop_now(rq->proxy->loop)};
    v = queue_enter(queues_of(rq->config, t->provider), &w->waiter, w->since, &rq->wait_refusal.report);
    if (v == QUEUE_WAITS) {
        rq->waiting = w;
        rq->has_queued = true;
        arm(rq, w);
        return v;
    }
    *out = w->waiter.slot;
    rq->wait_refusal.verdict = v;
    waiting_free(w);
    return v;
}

enum waiting_state waiting_look(struct request *rq, struct queue_slot *out)
{
    struct waiting *w = rq->waiting;

    if (!w->is_granted) {
        if (!rq->timer_fired || !queue_withdraw(&w->waiter))
            return WAITING_ON; /* or its letter is on the way */
        rq->wait_refusal.verdict = w->at_end;
        queue_look(w->waiter.queue, loop_now(rq->proxy->loop), &rq->wait_refusal.report, NULL);
    }
    loop_timer_cancel(rq->proxy->loop, &rq->timer);
    rq->timer_fired = false;
    add_queued(rq, w);
    *out = w->waiter.slot;
    rq->waiting = NULL;
    waiting_free(w);
    return out->of ? WAITING_GRANTED : WAITING_OVER;
}

void waiting_end(struct request *rq)
{
    struct waiting *w = rq->waiting;

    if (!w)
        return;
    rq->waiting = NULL;
    add_queued(rq, w);
    if (w->is_granted)
        queue_leave(&w->waiter.slot, loop_now(rq->proxy->loop));
    else if (!queue_withdraw(&w->waiter)) {
        w->rq = NULL;
        return;
    }
    waiting_free(w);
}

/* ---- refusing ---- */

static const char *why(enum queue_verdict v)
{
    switch (v) {
    case QUEUE_FULL:
        return "as many wait for one as 'queue.max_depth' allows";
    case QUEUE_BYTES:
        return "the bodies of those that wait are as large as 'queue.max_bytes' allows";
    case QUEUE_DEADLINE:
        return "the wait is longer than the client's timeout";
    case QUEUE_WAIT:
    case QUEUE_GO:
    case QUEUE_WAITS:
    case QUEUE_VERDICTS:
        break;
    }
    return "the wait is longer than 'queue.max_wait'";
}

enum step waiting_refuse(struct request *rq, const struct config_target *t)
{
    const struct queue_report *r = &rq->wait_refusal.report;
    struct explain *x = arena_new(rq->arena, struct explain);
    int64_t ms = (r->wait_us ? r->wait_us : rq->config->queue.max_wait_us) / 1000;

    queues_refused(rq->proxy->queues, rq->wait_refusal.verdict);
    ms = ms < 1000 ? 1000 : ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms;
    *x = (struct explain){.n = 1};
    x->row[0] = (struct explain_row){.kind = "concurrent",
                                     .limit = r->slots,
                                     .used = r->used,
                                     .asked = 1,
                                     .is_queue = true,
                                     .queued = r->depth,
                                     .retry_ms = ms,
                                     .verdict = VERDICT_REFUSED};
    (void)snprintf(x->row[0].scope, sizeof(x->row[0].scope), "provider:%s", t->provider->name);
    rq->refusal = x;
    rq->retry_after_ms = ms;
    limits_remember_mt(rq->proxy->limits, &rq->id, x);
    return request_fail(rq, ERR_OVERLOADED,
                        "provider '%s' is at its limit of %u attempts at once, and %u requests wait: %s",
                        t->provider->name, r->slots, r->depth, why(rq->wait_refusal.verdict));
}
