/* SPDX-License-Identifier: Apache-2.0 */
/* A batch on the wire is its folded form; decoding fills a new batch by the same calls that anybody makes. */
#include "tests/dst/kv_wire.h"

#include <stdlib.h>
#include <unistd.h>

static bool put(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(fd, p, n);

        if (w <= 0)
            return false;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

bool kv_wire_send(int fd, const void *head, size_t head_len, struct span rest)
{
    return put(fd, head, head_len) && put(fd, rest.p, rest.len);
}

bool kv_wire_receive(int fd, void *dst, size_t len)
{
    char *p = dst;

    while (len) {
        ssize_t r = read(fd, p, len);

        if (r <= 0)
            return false;
        p += r;
        len -= (size_t)r;
    }
    return true;
}

static void add(struct buf *out, const void *p, size_t n)
{
    if (n && buf_append(out, p, n))
        abort();
}

static void encode(struct buf *out, struct kv_wire_op op, struct span key, struct span name,
                   struct span value)
{
    op.key = key.len;
    op.name = name.len;
    op.value = value.len;
    add(out, &op, sizeof(op));
    add(out, key.p, key.len);
    add(out, "", 1);
    add(out, name.p, name.len);
    add(out, "", 1);
    add(out, value.p, value.len);
    add(out, "", 1);
}

void kv_wire_encode(const struct kv_batch *b, struct buf *out)
{
    const struct span none = {"", 0};

    for (const struct kv_key *k = b->first; k; k = k->next) {
        if (k->is_deleted)
            encode(out, (struct kv_wire_op){.kind = KV_WIRE_DELETE}, k->name, none, none);
        for (const struct kv_op *op = k->first; op; op = op->next)
            encode(out, (struct kv_wire_op){.kind = (int)op->kind, .n = op->n}, k->name, op->name, op->value);
        if (k->ttl_s)
            encode(out, (struct kv_wire_op){.kind = KV_WIRE_EXPIRE, .n = k->ttl_s, .is_exact = k->is_exact},
                   k->name, none, none);
    }
}

static void decode(struct kv_batch *b, const struct kv_wire_op *op, const char *key, const char *name,
                   struct span value)
{
    switch (op->kind) {
    case KV_OP_ADD:
        kv_batch_add(b, key, name, op->n);
        break;
    case KV_OP_SET:
        kv_batch_set(b, key, name, value);
        break;
    case KV_OP_UNSET:
        kv_batch_unset(b, key, name);
        break;
    case KV_OP_DRAIN:
        kv_batch_drain(b, key, name, value.p, op->n);
        break;
    case KV_OP_PUSH:
        kv_batch_push(b, key, value, (unsigned)op->n);
        break;
    case KV_OP_INDEX:
        kv_batch_index(b, key, name, op->n);
        break;
    case KV_OP_EVENT:
        kv_batch_event(b, key, value, (unsigned)op->n);
        break;
    case KV_WIRE_DELETE:
        kv_batch_delete(b, key);
        break;
    case KV_WIRE_EXPIRE:
        kv_batch_expire(b, key, op->n, op->is_exact);
        break;
    default:
        abort();
    }
}

struct kv_batch *kv_wire_decode(struct span bytes)
{
    struct kv_batch *b = kv_batch_new();
    const char *p = bytes.p, *end = bytes.p + bytes.len;

    while (p < end) {
        struct kv_wire_op op;
        const char *key, *name;

        memcpy(&op, p, sizeof(op));
        key = p + sizeof(op);
        name = key + op.key + 1;
        decode(b, &op, key, name, span_make(name + op.name + 1, op.value));
        p = name + op.name + 1 + op.value + 1;
    }
    return b;
}
