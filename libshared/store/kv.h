/* SPDX-License-Identifier: Apache-2.0 */
/* The realtime store: Redis, or memory with the same answers. One thread owns a handle. Everything that is written goes
 * through kv_apply(), one batch at a time; reads are few and simple. Keys are whole ("{gw}:h:…"); see kv_keys.h for
 * their list. No call blocks longer than the deadline it was opened with. */
#ifndef STORE_KV_H
#define STORE_KV_H

#include "libshared/base/buf.h"
#include "libshared/base/clock.h"
#include "libshared/store/watermark.h"

struct kv;
struct kv_lease_call;

struct kv_options {
    /* "" is memory. "redis://[user:password@]host[:port][/db]" (several hosts with commas: a cluster's or sentinels'
     * seeds; "?sentinel=NAME" asks them for the primary of that name), "unix:///path[?db=n]". "rediss://" is
     * ERR_CONFIG with what to do instead when hiredis has no TLS. */
    const char *url;
    int64_t deadline_us;            /* of one command; 0: 2 s */
    struct wall (*now)(void *user); /* memory's clock for expiry; NULL: wall_now */
    void *user;
};

/* Connects on first use. NULL with ERR_CONFIG for a URL that makes no sense. */
struct kv *kv_new(const struct kv_options *o, struct err *err);
/* Another handle for another thread: onto the same memory, or a connection of its own with the same options. */
struct kv *kv_share(struct kv *kv);
void kv_free(struct kv *kv);
const char *kv_backend(const struct kv *kv); /* "memory" or "redis" */
/* The URL without its password, for logs. */
const char *kv_where(const struct kv *kv);
/* Another handle onto the same store, for another thread: the same memory, or a connection of its own with the same
 * options. Any thread may call it; NULL for a wrapped handle that cannot. */
struct kv *kv_share(struct kv *kv);

/* ---- writing ---- */

/* Operations in order, folded as they come: sums of one field become one, and what a later operation overwrites or
 * deletes is dropped. Added values are copied. A batch is checked as a whole before the first write: a key of another
 * type, or an integer that would leave ±2^53, refuses all of it (ERR_CONFLICT). */
struct kv_batch;
struct kv_batch *kv_batch_new(void);
void kv_batch_free(struct kv_batch *b);
void kv_batch_clear(struct kv_batch *b);
size_t kv_batch_ops(const struct kv_batch *b);                                            /* after folding */
void kv_batch_add(struct kv_batch *b, const char *key, const char *field, int64_t delta); /* HINCRBY */
void kv_batch_set(struct kv_batch *b, const char *key, const char *field, struct span v); /* HSET */
void kv_batch_unset(struct kv_batch *b, const char *key, const char *field);              /* HDEL */
/* Takes `amount` off `field` and off `total`, or what `field` has if that is less; nothing where it is absent or not above 0. */
void kv_batch_drain(struct kv_batch *b, const char *key, const char *field, const char *total,
                    int64_t amount);
/* LPUSH and LTRIM to the newest `keep`. */
void kv_batch_push(struct kv_batch *b, const char *key, struct span v, unsigned keep);
/* ZADD. */
void kv_batch_index(struct kv_batch *b, const char *key, const char *member, int64_t score);
/* XADD with one field "json", MAXLEN ~ keep. */
void kv_batch_event(struct kv_batch *b, const char *key, struct span json, unsigned keep);
void kv_batch_delete(struct kv_batch *b, const char *key);
/* Every key that a batch writes to must have been given a time to live in it (else ERR_BAD_REQUEST); it only ever grows
 * longer, but for `is_exact`. Less than a second is one second, more than ten years ten years. */
void kv_batch_expire(struct kv_batch *b, const char *key, int64_t ttl_s, bool is_exact);
/* The key that the batch was last refused for (ERR_CONFLICT), "" for none; and the batch without all that it does to a key,
 * false when that is nothing. */
const char *kv_batch_refused(const struct kv_batch *b);
bool kv_batch_leave_out(struct kv_batch *b, const char *key);

/* One atomic step under the instance's watermark (see watermark.h), which is kept at {gw}:seq:INSTANCE for 30 days. The first
 * batch of an instance is a mismatch, too, in a store that has not begun (kv_refill).
 * STORE_FAILED: nothing is known (it may have been applied); ask again with the same batch and `next`. */
enum store_result kv_apply(struct kv *kv, const char *instance, const struct watermark *from,
                           const struct watermark *next, const struct kv_batch *b, struct err *err);
/* The same without a watermark, for what may be repeated (heartbeats, forced states, refreshes). */
NODISCARD enum err_code kv_write(struct kv *kv, const struct kv_batch *b, struct err *err);
/* Begins an empty store with what is known from elsewhere: applies `b` and sets the watermark to `next` (batch 0: to none), all
 * in one step, and only if nobody did so before and no instance that has a watermark in `b` has one in the store. STORE_DUPLICATE,
 * STORE_MISMATCH: the store has begun. */
enum store_result kv_refill(struct kv *kv, const char *instance, const struct watermark *next,
                            const struct kv_batch *b, struct err *err);
/* Of another instance, for kv_refill(). */
void kv_batch_watermark(struct kv_batch *b, const char *instance, const struct watermark *mark);
/* Begins a store with nothing, unless it has begun. */
NODISCARD enum err_code kv_begin(struct kv *kv, struct err *err);
NODISCARD enum err_code kv_has_begun(struct kv *kv, bool *out, struct err *err);

/* ---- reading ---- */

NODISCARD enum err_code kv_watermark(struct kv *kv, const char *instance, struct watermark *out,
                                     bool *out_found, struct err *err);
typedef void (*kv_field_fn)(void *user, struct span field, struct span value);
/* All fields of a hash, or members and scores of an index; nothing for a key that does not exist. */
NODISCARD enum err_code kv_hash(struct kv *kv, const char *key, kv_field_fn fn, void *user, struct err *err);
NODISCARD enum err_code kv_index(struct kv *kv, const char *key, int64_t min_score, int64_t max_score,
                                 kv_field_fn fn, void *user, struct err *err);
/* The newest `n` of a list or events of a stream (field: the stream's id, or the position). */
NODISCARD enum err_code kv_list(struct kv *kv, const char *key, unsigned n, kv_field_fn fn, void *user,
                                struct err *err);
NODISCARD enum err_code kv_events(struct kv *kv, const char *key, unsigned n, kv_field_fn fn, void *user,
                                  struct err *err);
/* Keys that begin with `prefix` and their time to live in seconds as text ("-1": none). SCAN, never KEYS: a key that
 * comes or goes meanwhile may be missed or come twice. */
NODISCARD enum err_code kv_scan(struct kv *kv, const char *prefix, kv_field_fn fn, void *user,
                                struct err *err);
/* Several of these at once; in Redis one round trip, after one that finds the right server. `what` is KV_READ_HASH, _INDEX
 * (a, b: the scores), _LIST or _EVENTS (a: how many). A key that cannot be read is marked in bad[i] and nothing of it is
 * handed out; the others are. *out_now is the store's clock, 0 when it may not be asked. */
struct kv_ask {
    int what;
    const char *key;
    int64_t a, b;
};
typedef void (*kv_many_fn)(void *user, size_t i, struct span field, struct span value);
NODISCARD enum err_code kv_read_many(struct kv *kv, const struct kv_ask *asks, size_t n, kv_many_fn fn,
                                     void *user, bool *bad, struct wall *out_now, struct err *err);
/* What a backend implements, and what tests wrap: kv_wrap() makes a handle whose every call goes to `ops`. */
struct kv_ops {
    const char *name;
    void (*free)(void *self);
    /* kind: with watermark, without, refill. */
    enum store_result (*apply)(void *self, int kind, const char *instance, const struct watermark *from,
                               const struct watermark *next, const struct kv_batch *b, struct err *err);
    enum err_code (*watermark)(void *self, const char *instance, struct watermark *out, bool *out_found,
                               struct err *err);
    enum err_code (*read)(void *self, int what, const char *key, int64_t a, int64_t b, kv_field_fn fn,
                          void *user, struct err *err);
    /* May be NULL: then read() does it, one by one. */
    enum err_code (*read_many)(void *self, const struct kv_ask *asks, size_t n, kv_many_fn fn, void *user,
                               bool *bad, struct wall *out_now, struct err *err);
    /* May be NULL: kv_share(), kv_where(). */
    struct kv *(*share)(void *self);
    const char *(*where)(const void *self);
    /* May be NULL: kv_lease(), which is ERR_UNAVAILABLE then. */
    enum err_code (*lease)(void *self, int op, struct kv_lease_call *c, struct err *err);
};
enum { KV_APPLY, KV_WRITE, KV_REFILL };
enum { KV_READ_HASH, KV_READ_INDEX, KV_READ_LIST, KV_READ_EVENTS, KV_READ_SCAN };
struct kv *kv_wrap(const struct kv_ops *ops, void *self);

#endif
