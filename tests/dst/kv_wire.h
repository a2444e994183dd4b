/* SPDX-License-Identifier: Apache-2.0 */
/* What travels between a life and the driver's realtime store: both are the same program, so structs as they are. */
#ifndef DST_KV_WIRE_H
#define DST_KV_WIRE_H

#include "libshared/store/kv_priv.h"

enum kv_wire_what { KV_WIRE_APPLY, KV_WIRE_WATERMARK, KV_WIRE_READ };

struct kv_call {
    enum kv_wire_what what;
    int kind; /* of apply or read */
    char instance[INSTANCE_CAP], key[512];
    int64_t a, b;
    struct watermark from, next;
    size_t len; /* of what follows: the batch */
};

struct kv_answer {
    enum store_result result;
    bool is_found;
    struct watermark mark;
    struct err err;
    size_t len; /* of what follows: fields and values */
};

/* One operation of a batch; key, name and value follow, each with its NUL. */
enum { KV_WIRE_DELETE = 100, KV_WIRE_EXPIRE };
struct kv_wire_op {
    int kind; /* enum kv_op_kind, or one of the above */
    bool is_exact;
    int64_t n;
    size_t key, name, value; /* lengths */
};

/* False when the other side is gone. */
bool kv_wire_send(int fd, const void *head, size_t head_len, struct span rest);
bool kv_wire_receive(int fd, void *dst, size_t len);

void kv_wire_encode(const struct kv_batch *b, struct buf *out);
struct kv_batch *kv_wire_decode(struct span bytes);

#endif
