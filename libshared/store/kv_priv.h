/* SPDX-License-Identifier: Apache-2.0 */
/* What the backends of the realtime store share: a batch in its folded form, and how they are made. */
#ifndef STORE_KV_PRIV_H
#define STORE_KV_PRIV_H

#include "libshared/base/hash.h"
#include "libshared/store/kv.h"

/* Names come from requests and configuration, so the table's hash is keyed. */
#define HASH_FUNCTION(p, len, out)                                                                           \
    do {                                                                                                     \
        (out) = (unsigned)hash_bytes(span_make((p), (len)));                                                 \
    } while (0)
#define uthash_fatal(text) abort()
#include <uthash.h>

#define KV_INT_MAX (INT64_C(1) << 53) /* Lua's numbers are doubles, exact up to here */

/* Canonical decimal within ±2^53, as Redis writes it: no plus, no leading zero, no "-0". */
bool kv_parse_int(struct span s, int64_t *out);

enum kv_type { KV_TYPE_NONE, KV_TYPE_HASH, KV_TYPE_LIST, KV_TYPE_INDEX, KV_TYPE_STREAM };

/* As Redis spells it: "hash", "list", "zset", "stream", "none". */
const char *kv_type_name(enum kv_type t);

enum kv_op_kind { KV_OP_ADD, KV_OP_SET, KV_OP_UNSET, KV_OP_DRAIN, KV_OP_PUSH, KV_OP_INDEX, KV_OP_EVENT };

struct kv_op {
    enum kv_op_kind kind;
    struct span name;  /* field or member; ends with a NUL behind it */
    struct span value; /* SET, PUSH, EVENT; DRAIN: the total */
    int64_t n;         /* delta, amount, score, or how many to keep */
    struct kv_op *next;
    UT_hash_handle hh; /* in kv_key.by_name */
};

/* All that a batch does to one key. At most one operation has the same field or member. */
struct kv_key {
    struct span name;
    bool is_deleted; /* before the operations */
    enum kv_type type;
    int64_t ttl_s; /* 0: none given */
    bool is_exact;
    enum err_code refusal; /* what is wrong with it whatever the store holds; ERR_OK: nothing */
    const char *why;
    unsigned n_ops;
    struct kv_op *first, *last;
    struct kv_op *by_name;
    struct kv_key *next;
    UT_hash_handle hh; /* in kv_batch.by_name */
};

struct kv_batch_chunk;
struct kv_batch {
    struct kv_batch_chunk *chunks; /* own every byte below */
    struct kv_key *first, *last, *by_name;
    size_t n_keys, n_ops, bytes;
    char
        *refused; /* the key that it was last refused for; applying notes it, so it is no part of the batch */
};

/* ERR_OK, or why the batch cannot be applied whatever the store holds. */
NODISCARD enum err_code kv_batch_check(const struct kv_batch *b, struct err *err);
void kv_batch_note_refused(const struct kv_batch *b, struct span key);

struct kv *kv_memory_new(const struct kv_options *o);
struct kv *kv_redis_new(const struct kv_options *o, struct err *err);

#endif
