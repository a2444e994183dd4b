/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of providers: however the bytes are sliced, the same head, body and end come out, nothing is given twice, and a
 * connection is only kept when nothing is left on it. The first two bytes of the input seed the slicing. */
#include "gatewayd/http/link.c"
#include "gatewayd/http/transfer.c"

#include "tests/fuzz/must.h"

struct run {
    struct buf body;
    int heads, ends, status;
    enum err_code code;
    bool is_kept;
};

static void on_run_head(void *user, const struct client_headers *h)
{
    struct run *r = user;

    MUST(r->heads++ == 0 && !r->body.len && !r->ends);
    MUST(h->status >= 200 && h->status < 600);
    r->status = h->status;
}

static enum transfer_verdict on_run_bytes(void *user, struct span bytes)
{
    struct run *r = user;

    MUST(r->heads == 1 && !r->ends && bytes.len);
    buf_add(&r->body, bytes);
    return TRANSFER_GO_ON;
}

static void on_run_end(void *user, enum err_code code, const char *detail)
{
    struct run *r = user;

    MUST(r->ends++ == 0 && (code == ERR_OK) == !*detail);
    r->code = code;
}

static const struct transfer_ops RUN_OPS = {
    .on_head = on_run_head, .on_bytes = on_run_bytes, .on_end = on_run_end};

static struct transfers *ts;
static struct transfer *t;

static void set_up(void)
{
    ts = transfers_new(loop_new(NULL), &RUN_OPS, "none", NULL);
    t = transfer_new(ts, NULL);
    t->to = origin_new(ts->links, false, SPAN_LIT("127.0.0.1"), 1);
}

static void run_sliced(struct run *r, const uint8_t *p, size_t size, unsigned largest, uint32_t seed)
{
    struct link *l = calloc(1, sizeof(*l));
    size_t at = 0, n;

    *r = (struct run){0};
    *l = (struct link){.origin = t->to, .user = t, .fd = -1, .registered = EPOLLIN, .state = LINK_READY};
    t->user = r;
    t->link = l;
    t->reading = READ_HEAD;
    t->is_upload_over = true;
    answer_head_init(&t->answer);
    for (; at < size && !r->ends; at += n) {
        uint8_t *exact;

        seed = seed * 1664525u + 1013904223u;
        n = 1 + (seed >> 16) % largest;
        n = n > size - at ? size - at : n;
        exact = malloc(n);
        memcpy(exact, p + at, n);
        (void)take(t, span_make(exact, n));
        free(exact);
    }
    if (!r->ends)
        on_closed(t, IO_END);
    MUST(r->ends == 1 && !t->link);
    r->is_kept = ts->links->n_idle == 1;
    MUST(!r->is_kept || r->code == ERR_OK);
    if (r->is_kept)
        link_close(t->to->idle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned LARGEST[] = {1, 7, 40};
    struct run whole, sliced;
    uint32_t seed;

    if (size < 2 || size > 1 << 14)
        return 0;
    if (!ts)
        set_up();
    seed = (uint32_t)data[0] << 8 | data[1];
    data += 2;
    size -= 2;
    run_sliced(&whole, data, size, 1 << 14, seed | 0xffff0000u);
    for (size_t i = 0; i < ARRAY_LEN(LARGEST); i++) {
        run_sliced(&sliced, data, size, LARGEST[i], seed);
        MUST(sliced.code == whole.code && sliced.status == whole.status && sliced.heads == whole.heads);
        MUST(span_eq(buf_span(&sliced.body), buf_span(&whole.body)));
        buf_release(&sliced.body);
    }
    buf_release(&whole.body);
    return 0;
}
