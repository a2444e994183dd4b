/* SPDX-License-Identifier: Apache-2.0 */
/* A batch, folded while it is filled: one record a key, and in it one operation a field or member. Both backends apply
 * that form, so that they cannot disagree about what a sequence of operations means.
 *
 * Everything lives in chunks that never move and go at once with kv_batch_clear(). What is wrong with an operation is
 * remembered and refuses the batch when it is applied: the caller adds without checking.
 *
 * The tricky part is fold_*(): what an operation means after another of the same batch. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/store/kv_keys.h"
#include "libshared/store/kv_priv.h"

#define CHUNK_BYTES ((size_t)64 << 10)
#define OPS_MAX     250000u            /* far beyond one second's facts; Redis takes 10^6 arguments */
#define BYTES_MAX   ((size_t)64 << 20) /* Redis refuses a query of 1 GiB */
#define TTL_MAX_S   ((int64_t)3650 * 86400)

struct kv_batch_chunk {
    struct kv_batch_chunk *next;
    size_t used, cap;
    _Alignas(max_align_t) char p[];
};

static void *chunk_alloc(struct kv_batch *b, size_t n)
{
    struct kv_batch_chunk *c = b->chunks;
    void *at;

    n = (n + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
    if (!c || c->cap - c->used < n) {
        size_t cap = n > CHUNK_BYTES ? n : CHUNK_BYTES;

        c = malloc(sizeof(*c) + cap);
        if (!c)
            abort();
        *c = (struct kv_batch_chunk){.next = b->chunks, .cap = cap};
        b->chunks = c;
    }
    at = c->p + c->used;
    c->used += n;
    return at;
}

static struct span chunk_copy(struct kv_batch *b, struct span s)
{
    char *p = chunk_alloc(b, s.len + 1);

    if (s.len)
        memcpy(p, s.p, s.len);
    p[s.len] = '\0';
    b->bytes += s.len;
    return span_make(p, s.len);
}

static struct span chunk_int(struct kv_batch *b, int64_t v)
{
    char text[24];

    return chunk_copy(b, span_make(text, (size_t)snprintf(text, sizeof(text), "%" PRId64, v)));
}

const char *kv_type_name(enum kv_type t)
{
    static const char *const NAMES[] = {"none", "hash", "list", "zset", "stream"};

    return NAMES[t];
}

bool kv_parse_int(struct span s, int64_t *out)
{
    bool is_negative = s.len && s.p[0] == '-';
    uint64_t v;

    if (is_negative)
        s = span_make(s.p + 1, s.len - 1);
    if (s.len > 16 || !span_to_u64(s, &v) || v > (uint64_t)KV_INT_MAX)
        return false;
    if (s.p[0] == '0' && (s.len > 1 || is_negative))
        return false;
    *out = is_negative ? -(int64_t)v : (int64_t)v;
    return true;
}

struct kv_batch *kv_batch_new(void)
{
    struct kv_batch *b = calloc(1, sizeof(*b));

    if (!b || !(b->refused = calloc(1, KV_KEY_CAP)))
        abort();
    return b;
}

void kv_batch_clear(struct kv_batch *b)
{
    for (struct kv_key *k = b->first; k; k = k->next)
        HASH_CLEAR(hh, k->by_name);
    HASH_CLEAR(hh, b->by_name);
    for (struct kv_batch_chunk *c = b->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    b->refused[0] = '\0';
    *b = (struct kv_batch){.refused = b->refused};
}

void kv_batch_free(struct kv_batch *b)
{
    if (!b)
        return;
    kv_batch_clear(b);
    free(b->refused);
    free(b);
}

size_t kv_batch_ops(const struct kv_batch *b)
{
    return b->n_ops;
}

static void refuse(struct kv_key *k, enum err_code code, const char *why)
{
    if (k->refusal)
        return;
    k->refusal = code;
    k->why = why;
}

static struct kv_key *key_of(struct kv_batch *b, const char *name)
{
    size_t len = strlen(name);
    struct kv_key *k;

    HASH_FIND(hh, b->by_name, name, len, k);
    if (k)
        return k;
    k = chunk_alloc(b, sizeof(*k));
    *k = (struct kv_key){.name = chunk_copy(b, span_make(name, len))};
    HASH_ADD_KEYPTR(hh, b->by_name, k->name.p, k->name.len, k);
    *(b->last ? &b->last->next : &b->first) = k;
    b->last = k;
    b->n_keys++;
    return k;
}

/* The record for an operation on a key of type `t`; NULL when the batch uses the key as something else too. */
static struct kv_key *key_as(struct kv_batch *b, const char *name, enum kv_type t)
{
    struct kv_key *k = key_of(b, name);

    if (k->type != KV_TYPE_NONE && k->type != t) {
        refuse(k, ERR_CONFLICT, "is used as two types in one batch");
        return NULL;
    }
    k->type = t;
    return k;
}

static struct kv_op *op_append(struct kv_batch *b, struct kv_key *k, enum kv_op_kind kind)
{
    struct kv_op *op = chunk_alloc(b, sizeof(*op));

    *op = (struct kv_op){.kind = kind};
    *(k->last ? &k->last->next : &k->first) = op;
    k->last = op;
    k->n_ops++;
    if (++b->n_ops > OPS_MAX)
        refuse(k, ERR_TOO_LARGE, "is one key too many for a batch");
    if (b->bytes > BYTES_MAX)
        refuse(k, ERR_TOO_LARGE, "has no room left in its batch");
    return op;
}

/* The operation on that field; `*is_new` when the batch had none. */
static struct kv_op *op_of(struct kv_batch *b, struct kv_key *k, const char *name, bool *is_new)
{
    size_t len = strlen(name);
    struct kv_op *op;

    HASH_FIND(hh, k->by_name, name, len, op);
    *is_new = !op;
    if (op)
        return op;
    op = op_append(b, k, KV_OP_SET);
    op->name = chunk_copy(b, span_make(name, len));
    HASH_ADD_KEYPTR(hh, k->by_name, op->name.p, op->name.len, op);
    return op;
}

static bool in_range(int64_t v)
{
    return v >= -KV_INT_MAX && v <= KV_INT_MAX;
}

/* A sum onto what the batch does to the field already. */
static void fold_add(struct kv_batch *b, struct kv_key *k, struct kv_op *op, int64_t delta)
{
    int64_t v = op->kind == KV_OP_ADD ? op->n : 0;

    if (op->kind == KV_OP_DRAIN || (op->kind == KV_OP_SET && !kv_parse_int(op->value, &v))) {
        refuse(k, ERR_CONFLICT, "has a field that is no integer");
        return;
    }
    if (!in_range(v + delta)) { /* both are within ±2^53: no overflow */
        refuse(k, ERR_CONFLICT, "would leave ±2^53");
        return;
    }
    if (op->kind == KV_OP_ADD) {
        op->n = v + delta;
        return;
    }
    op->kind = KV_OP_SET; /* also after an unset: the field starts from nothing */
    op->value = chunk_int(b, v + delta);
}

void kv_batch_add(struct kv_batch *b, const char *key, const char *field, int64_t delta)
{
    struct kv_key *k = key_as(b, key, KV_TYPE_HASH);
    struct kv_op *op;
    bool is_new;

    if (!k)
        return;
    if (!in_range(delta)) {
        refuse(k, ERR_CONFLICT, "would leave ±2^53");
        return;
    }
    op = op_of(b, k, field, &is_new);
    if (is_new)
        op->kind = KV_OP_ADD;
    fold_add(b, k, op, delta);
}

void kv_batch_set(struct kv_batch *b, const char *key, const char *field, struct span v)
{
    struct kv_key *k = key_as(b, key, KV_TYPE_HASH);
    struct kv_op *op;
    bool is_new;

    if (!k)
        return;
    op = op_of(b, k, field, &is_new);
    op->kind = KV_OP_SET;
    op->value = chunk_copy(b, v);
}

void kv_batch_unset(struct kv_batch *b, const char *key, const char *field)
{
    struct kv_key *k = key_as(b, key, KV_TYPE_HASH);
    bool is_new;

    if (k)
        op_of(b, k, field, &is_new)->kind = KV_OP_UNSET;
}

void kv_batch_drain(struct kv_batch *b, const char *key, const char *field, const char *total, int64_t amount)
{
    struct kv_key *k = key_as(b, key, KV_TYPE_HASH);
    struct kv_op *op;
    bool is_new;

    if (!k)
        return;
    op = op_of(b, k, field, &is_new);
    if (is_new) {
        op->kind = KV_OP_DRAIN;
        op->value = chunk_copy(b, span_of(total));
    }
    if (op->kind != KV_OP_DRAIN || !span_is(op->value, total) || strcmp(field, total) == 0)
        refuse(k, ERR_CONFLICT, "has a field that is drained and changed in one batch");
    else if (amount < 0 || amount > KV_INT_MAX || !in_range(op->n + amount))
        refuse(k, ERR_CONFLICT, "would leave ±2^53");
    else
        op->n += amount;
}

static void add_entry(struct kv_batch *b, const char *key, enum kv_type t, enum kv_op_kind kind,
                      struct span v, unsigned keep)
{
    struct kv_key *k = key_as(b, key, t);
    struct kv_op *op;

    if (!k)
        return;
    if (!keep) {
        refuse(k, ERR_BAD_REQUEST, "would keep nothing");
        return;
    }
    op = op_append(b, k, kind);
    op->value = chunk_copy(b, v);
    op->n = keep;
}

void kv_batch_push(struct kv_batch *b, const char *key, struct span v, unsigned keep)
{
    add_entry(b, key, KV_TYPE_LIST, KV_OP_PUSH, v, keep);
}

void kv_batch_event(struct kv_batch *b, const char *key, struct span json, unsigned keep)
{
    add_entry(b, key, KV_TYPE_STREAM, KV_OP_EVENT, json, keep);
}

void kv_batch_index(struct kv_batch *b, const char *key, const char *member, int64_t score)
{
    struct kv_key *k = key_as(b, key, KV_TYPE_INDEX);
    struct kv_op *op;
    bool is_new;

    if (!k)
        return;
    if (!in_range(score)) {
        refuse(k, ERR_CONFLICT, "would have a score beyond ±2^53");
        return;
    }
    op = op_of(b, k, member, &is_new);
    op->kind = KV_OP_INDEX;
    op->n = score;
}

/* What came before is moot; a time to live that was given stays. */
void kv_batch_delete(struct kv_batch *b, const char *key)
{
    struct kv_key *k = key_of(b, key);

    b->n_ops -= k->n_ops;
    if (!k->is_deleted)
        b->n_ops++;
    HASH_CLEAR(hh, k->by_name);
    k->is_deleted = true;
    k->type = KV_TYPE_NONE;
    k->n_ops = 0;
    k->first = k->last = NULL;
}

void kv_batch_expire(struct kv_batch *b, const char *key, int64_t ttl_s, bool is_exact)
{
    struct kv_key *k = key_of(b, key);

    ttl_s = ttl_s < 1 ? 1 : ttl_s > TTL_MAX_S ? TTL_MAX_S : ttl_s;
    if (is_exact || ttl_s > k->ttl_s)
        k->ttl_s = ttl_s;
    k->is_exact |= is_exact;
}

void kv_batch_watermark(struct kv_batch *b, const char *instance, const struct watermark *mark)
{
    struct buf text AUTO(buf_release) = {0};
    char key[KV_KEY_CAP];

    kv_key_watermark(key, instance);
    buf_addu(&text, mark->batch);
    kv_batch_set(b, key, "batch", buf_span(&text));
    buf_clear(&text);
    buf_addu(&text, mark->token);
    kv_batch_set(b, key, "token", buf_span(&text));
    buf_clear(&text);
    watermark_format_positions(mark, &text);
    kv_batch_set(b, key, "positions", buf_span(&text));
    kv_batch_expire(b, key, KV_TTL_WATERMARK_S, true);
}

static bool makes_something(const struct kv_key *k)
{
    for (const struct kv_op *op = k->first; op; op = op->next)
        if (op->kind != KV_OP_UNSET && op->kind != KV_OP_DRAIN)
            return true;
    return false;
}

enum err_code kv_batch_check(const struct kv_batch *b, struct err *err)
{
    for (const struct kv_key *k = b->first; k; k = k->next) {
        if (k->refusal == ERR_CONFLICT)
            kv_batch_note_refused(b, k->name);
        if (k->refusal)
            return err_set(err, k->refusal, "'%.200s' %s", k->name.p, k->why);
        if (!k->ttl_s && makes_something(k))
            return err_set(err, ERR_BAD_REQUEST, "'%.200s' has no time to live in its batch", k->name.p);
    }
    return ERR_OK;
}

/* ---- refused keys ---- */

void kv_batch_note_refused(const struct kv_batch *b, struct span key)
{
    (void)span_copy(b->refused, KV_KEY_CAP, key);
}

const char *kv_batch_refused(const struct kv_batch *b)
{
    return b->refused;
}

bool kv_batch_leave_out(struct kv_batch *b, const char *key)
{
    struct kv_key *before = NULL, *k = b->first;

    while (k && !span_is(k->name, key)) {
        before = k;
        k = k->next;
    }
    if (!k)
        return false;
    *(before ? &before->next : &b->first) = k->next;
    if (b->last == k)
        b->last = before;
    HASH_CLEAR(hh, k->by_name);
    HASH_DEL(b->by_name, k);
    b->n_keys--;
    b->n_ops -= k->n_ops + k->is_deleted;
    return true;
}
