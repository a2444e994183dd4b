/* SPDX-License-Identifier: Apache-2.0 */
/* The realtime store as a life sees it: each call is a question to the driver and waits for the answer. */
#include "tests/dst/kv_wire.h"
#include "tests/dst/stores.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct kv_link {
    int fd;
};

static void link_free(void *self)
{
    free(self);
}

/* The driver never goes away before the life does. */
static void ask(struct kv_link *k, struct kv_call *call, struct span rest, struct kv_answer *out,
                struct buf *out_rest)
{
    call->len = rest.len;
    if (!kv_wire_send(k->fd, call, sizeof(*call), rest) || !kv_wire_receive(k->fd, out, sizeof(*out)))
        _exit(LIFE_DIED);
    if (!out->len)
        return;
    if (buf_reserve(out_rest, out->len + 1) || !kv_wire_receive(k->fd, out_rest->p, out->len))
        abort();
    out_rest->len = out->len;
}

static enum err_code pass(const struct kv_answer *a, struct err *err)
{
    if (err && a->err.code)
        *err = a->err;
    return a->err.code;
}

static void name(struct kv_call *call, const char *instance)
{
    (void)snprintf(call->instance, sizeof(call->instance), "%s", instance ? instance : "");
}

static enum store_result link_apply(void *self, int kind, const char *instance, const struct watermark *from,
                                    const struct watermark *next, const struct kv_batch *b, struct err *err)
{
    struct kv_call call = {.what = KV_WIRE_APPLY, .kind = kind};
    struct kv_answer answer = {0};
    struct buf bytes = {0}, none = {0};

    name(&call, instance);
    if (from)
        call.from = *from;
    if (next)
        call.next = *next;
    buf_init(&bytes, 0);
    buf_init(&none, 0);
    if (kv_batch_check(b, err)) {
        buf_release(&bytes);
        return STORE_FAILED;
    }
    kv_wire_encode(b, &bytes);
    ask(self, &call, buf_span(&bytes), &answer, &none);
    buf_release(&bytes);
    buf_release(&none);
    (void)pass(&answer, err);
    return answer.result;
}

static enum err_code link_watermark(void *self, const char *instance, struct watermark *out, bool *out_found,
                                    struct err *err)
{
    struct kv_call call = {.what = KV_WIRE_WATERMARK};
    struct kv_answer answer = {0};
    struct buf none = {0};

    name(&call, instance);
    buf_init(&none, 0);
    ask(self, &call, span_make("", 0), &answer, &none);
    if (answer.err.code)
        return pass(&answer, err);
    *out = answer.mark;
    *out_found = answer.is_found;
    return ERR_OK;
}

static void hand_out(struct span bytes, kv_field_fn fn, void *user)
{
    const char *p = bytes.p, *end = bytes.p + bytes.len;

    while (p < end) {
        size_t len[2];

        memcpy(len, p, sizeof(len));
        p += sizeof(len);
        fn(user, span_make(p, len[0]), span_make(p + len[0] + 1, len[1]));
        p += len[0] + len[1] + 2;
    }
}

static enum err_code link_read(void *self, int what, const char *key, int64_t a, int64_t b, kv_field_fn fn,
                               void *user, struct err *err)
{
    struct kv_call call = {.what = KV_WIRE_READ, .kind = what, .a = a, .b = b};
    struct kv_answer answer = {0};
    struct buf fields = {0};

    (void)snprintf(call.key, sizeof(call.key), "%s", key);
    buf_init(&fields, 0);
    ask(self, &call, span_make("", 0), &answer, &fields);
    if (!answer.err.code)
        hand_out(buf_span(&fields), fn, user);
    buf_release(&fields);
    return pass(&answer, err);
}

static const struct kv_ops LINK = {
    .name = "redis",
    .free = link_free,
    .apply = link_apply,
    .watermark = link_watermark,
    .read = link_read,
};

struct kv *kv_link_new(int fd)
{
    struct kv_link *k = calloc(1, sizeof(*k));

    if (!k)
        abort();
    k->fd = fd;
    return kv_wrap(&LINK, k);
}
