/* SPDX-License-Identifier: Apache-2.0 */
/* The realtime store in memory, for a daemon without Redis and for tests: the same answers, the same refusals.
 *
 * Handles of several threads share one `struct memory` under its mutex; the last one frees it. Callbacks run after
 * the mutex is released, on copies, so that they may call the store. Keys whose time has come are gone for every reader
 * at once and are removed by a sweep that writes do every few seconds of the given clock.
 *
 * The invariant: a batch is judged whole (refused()) before apply_key() changes anything. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/store/kv_keys.h"
#include "libshared/store/kv_lease_priv.h"
#include "libshared/store/kv_priv.h"

#define SWEEP_EVERY_US 5000000

struct item {                /* a field, a member, an element or an event */
    struct span name, value; /* owned, in one block behind the item */
    int64_t score;
    struct item *prev, *next; /* lists and streams: newest first */
    UT_hash_handle hh;        /* hashes and indexes */
};

struct entry {
    char *name;
    size_t name_len;
    enum kv_type type;
    int64_t expires_us; /* 0: never */
    struct item *by_name, *newest, *oldest;
    uint64_t n;
    UT_hash_handle hh;
};

struct memory {
    pthread_mutex_t lock;
    unsigned handles;
    struct entry *keys;
    struct wall (*now)(void *user);
    void *user;
    int64_t swept_us;
    int64_t event_ms; /* of the newest event; with event_n its id */
    uint64_t event_n;
};

static const struct kv_ops MEMORY_OPS;

static struct wall wall_of(void *user)
{
    (void)user;
    return wall_now();
}

static struct item *item_new(struct span name, struct span value)
{
    struct item *it = malloc(sizeof(*it) + name.len + value.len + 1);
    char *p;

    if (!it)
        abort();
    p = (char *)(it + 1);
    *it = (struct item){.name = {p, name.len}, .value = {p + name.len, value.len}};
    if (name.len)
        memcpy(p, name.p, name.len);
    if (value.len)
        memcpy(p + name.len, value.p, value.len);
    return it;
}

static void drop_oldest(struct entry *e)
{
    struct item *it = e->oldest;

    e->oldest = it->prev;
    *(e->oldest ? &e->oldest->next : &e->newest) = NULL;
    e->n--;
    free(it);
}

static void empty(struct entry *e)
{
    struct item *it, *next;

    HASH_ITER(hh, e->by_name, it, next)
    {
        HASH_DEL(e->by_name, it);
        free(it);
    }
    while (e->oldest)
        drop_oldest(e);
    e->n = 0;
}

static void entry_free(struct memory *m, struct entry *e)
{
    HASH_DEL(m->keys, e);
    empty(e);
    free(e->name);
    free(e);
}

static bool is_over(const struct entry *e, int64_t now_us)
{
    return e->expires_us && e->expires_us <= now_us;
}

static struct entry *find(struct memory *m, struct span name, int64_t now_us)
{
    struct entry *e;

    HASH_FIND(hh, m->keys, name.p, name.len, e);
    if (e && is_over(e, now_us)) {
        entry_free(m, e);
        return NULL;
    }
    return e;
}

static struct entry *make(struct memory *m, struct span name, enum kv_type t)
{
    struct entry *e = calloc(1, sizeof(*e));

    if (!e || !(e->name = malloc(name.len + 1)))
        abort();
    memcpy(e->name, name.p, name.len);
    e->name[name.len] = '\0';
    e->name_len = name.len;
    e->type = t;
    HASH_ADD_KEYPTR(hh, m->keys, e->name, e->name_len, e);
    return e;
}

static struct item *item_find(const struct entry *e, struct span name)
{
    struct item *it = NULL;

    if (e)
        HASH_FIND(hh, e->by_name, name.p, name.len, it);
    return it;
}

static void item_drop(struct entry *e, struct item *it)
{
    HASH_DEL(e->by_name, it);
    e->n--;
    free(it);
}

static struct item *item_put(struct entry *e, struct span name, struct span value)
{
    struct item *old = item_find(e, name), *it = item_new(name, value);

    if (old)
        item_drop(e, old);
    HASH_ADD_KEYPTR(hh, e->by_name, it->name.p, it->name.len, it);
    e->n++;
    return it;
}

static void item_push(struct entry *e, struct item *it, uint64_t keep)
{
    it->next = e->newest;
    *(e->newest ? &e->newest->prev : &e->oldest) = it;
    e->newest = it;
    e->n++;
    while (e->n > keep)
        drop_oldest(e);
}

/* ---- judging ---- */

static bool sum_of(const struct entry *e, const struct kv_op *op, int64_t *out)
{
    const struct item *it = item_find(e, op->name);

    *out = 0;
    if (it && !kv_parse_int(it->value, out))
        return false;
    *out += op->n;
    return *out >= -KV_INT_MAX && *out <= KV_INT_MAX;
}

/* How much a drain takes; false where a field is no integer. */
static bool drain_of(const struct entry *e, const struct kv_op *op, int64_t *out)
{
    const struct item *it = item_find(e, op->name), *total = item_find(e, op->value);
    int64_t v = 0, sum;

    if ((it && !kv_parse_int(it->value, &v)) || (total && !kv_parse_int(total->value, &sum)))
        return false;
    *out = v < op->n ? (v > 0 ? v : 0) : op->n;
    return true;
}

static enum err_code judge_key(struct memory *m, const struct kv_key *k, int64_t now_us, struct err *err)
{
    const struct entry *e = k->is_deleted ? NULL : find(m, k->name, now_us);
    int64_t sum;

    if (e && k->type != KV_TYPE_NONE && e->type != k->type)
        return err_set(err, ERR_CONFLICT, "'%.200s' is a %s", k->name.p, kv_type_name(e->type));
    for (const struct kv_op *op = k->first; op; op = op->next)
        if (op->kind == KV_OP_ADD && !sum_of(e, op, &sum))
            return err_set(err, ERR_CONFLICT, "'%.200s' field '%.60s' is no integer or would leave ±2^53",
                           k->name.p, op->name.p);
        else if (op->kind == KV_OP_DRAIN && !drain_of(e, op, &sum))
            return err_set(err, ERR_CONFLICT, "'%.200s' has a lease that is no integer", k->name.p);
    return ERR_OK;
}

static enum err_code refused(struct memory *m, const struct kv_batch *b, int64_t now_us, struct err *err)
{
    enum err_code e = ERR_OK;

    for (const struct kv_key *k = b->first; k && !e; k = k->next)
        if ((e = judge_key(m, k, now_us, err)))
            kv_batch_note_refused(b, k->name);
    return e;
}

/* ---- applying ---- */

static void push_event(struct memory *m, struct entry *e, const struct kv_op *op, int64_t now_us)
{
    char id[48];
    int n;

    m->event_n =
        now_us / 1000 > m->event_ms ? 0 : m->event_n + 1; /* ids rise although the clock steps back */
    if (!m->event_n)
        m->event_ms = now_us / 1000;
    n = snprintf(id, sizeof(id), "%" PRId64 "-%" PRIu64, m->event_ms, m->event_n);
    item_push(e, item_new(span_make(id, (size_t)n), op->value), (uint64_t)op->n);
}

static void put_sum(struct entry *e, struct span name, int64_t delta)
{
    const struct item *it = item_find(e, name);
    char text[24];
    int64_t v = 0;

    (void)(it && kv_parse_int(it->value, &v));
    (void)item_put(e, name, span_make(text, (size_t)snprintf(text, sizeof(text), "%" PRId64, v + delta)));
}

static void apply_op(struct memory *m, struct entry *e, const struct kv_op *op, int64_t now_us)
{
    char text[24];
    int64_t sum;

    switch (op->kind) {
    case KV_OP_ADD:
        (void)sum_of(e, op, &sum);
        (void)item_put(e, op->name, span_make(text, (size_t)snprintf(text, sizeof(text), "%" PRId64, sum)));
        break;
    case KV_OP_DRAIN:
        if (drain_of(e, op, &sum) && sum > 0) {
            put_sum(e, op->name, -sum);
            put_sum(e, op->value, -sum);
        }
        break;
    case KV_OP_SET:
        (void)item_put(e, op->name, op->value);
        break;
    case KV_OP_UNSET:
        if (item_find(e, op->name))
            item_drop(e, item_find(e, op->name));
        break;
    case KV_OP_INDEX:
        item_put(e, op->name, span_make("", 0))->score = op->n;
        break;
    case KV_OP_PUSH:
        item_push(e, item_new(span_make("", 0), op->value), (uint64_t)op->n);
        break;
    case KV_OP_EVENT:
        push_event(m, e, op, now_us);
        break;
    }
}

static void set_expiry(struct entry *e, int64_t ttl_s, bool is_exact, int64_t now_us)
{
    int64_t at = now_us + ttl_s * 1000000;

    if (is_exact || at > e->expires_us)
        e->expires_us = at;
}

static void apply_key(struct memory *m, const struct kv_key *k, int64_t now_us)
{
    struct entry *e = find(m, k->name, now_us);

    if (e && k->is_deleted) {
        entry_free(m, e);
        e = NULL;
    }
    for (int unset = 0; unset < 2; unset++) /* fields go last: a hash that stays never empties on the way */
        for (const struct kv_op *op = k->first; op; op = op->next) {
            if ((op->kind == KV_OP_UNSET) != unset || (unset && !e))
                continue;
            if (!e && op->kind == KV_OP_DRAIN)
                continue;
            if (!e)
                e = make(m, k->name, k->type);
            apply_op(m, e, op, now_us);
        }
    if (e && !e->n)
        entry_free(m, e);
    else if (e && k->ttl_s)
        set_expiry(e, k->ttl_s, k->is_exact, now_us);
}

static void sweep(struct memory *m, int64_t now_us)
{
    struct entry *e, *next;

    if (now_us >= m->swept_us && now_us - m->swept_us < SWEEP_EVERY_US)
        return;
    m->swept_us = now_us;
    HASH_ITER(hh, m->keys, e, next)
    if (is_over(e, now_us))
        entry_free(m, e);
}

/* ---- the watermark, kept as Redis keeps it ---- */

static uint64_t number_at(const struct entry *e, const char *field)
{
    const struct item *it = item_find(e, span_of(field));
    uint64_t v = 0;

    return it && span_to_u64(it->value, &v) ? v : 0;
}

static void begin(struct memory *m, int64_t now_us)
{
    struct entry *e = find(m, SPAN_LIT(KV_BOOKS), now_us);

    if (!e)
        e = make(m, SPAN_LIT(KV_BOOKS), KV_TYPE_HASH);
    (void)item_put(e, SPAN_LIT("began"), SPAN_LIT("1"));
    set_expiry(e, KV_TTL_WATERMARK_S, true, now_us);
}

/* A store that has watermarks has begun, even when nothing says so any more. */
static bool may_begin(struct memory *m, const struct kv_batch *b, int64_t now_us)
{
    if (find(m, SPAN_LIT(KV_BOOKS), now_us))
        return false;
    for (const struct kv_key *k = b->first; k; k = k->next)
        if (span_starts(k->name, SPAN_LIT("{gw}:seq:")) && find(m, k->name, now_us)) {
            begin(m, now_us);
            return false;
        }
    return true;
}

static enum store_result position(struct memory *m, int kind, struct span key, const struct watermark *from,
                                  const struct watermark *next, const struct kv_batch *b, int64_t now_us,
                                  struct err *err)
{
    const struct entry *e = find(m, key, now_us), *begun = find(m, SPAN_LIT(KV_BOOKS), now_us);
    uint64_t batch, token;

    if (e && e->type != KV_TYPE_HASH) {
        (void)err_set(err, ERR_CONFLICT, "'%.200s' is a %s", key.p, kv_type_name(e->type));
        return STORE_FAILED;
    }
    if (begun && begun->type != KV_TYPE_HASH) {
        (void)err_set(err, ERR_CONFLICT, "'%s' is a %s", KV_BOOKS, kv_type_name(begun->type));
        return STORE_FAILED;
    }
    batch = number_at(e, "batch");
    token = number_at(e, "token");
    if (e && batch == next->batch && token == next->token)
        return STORE_DUPLICATE;
    if (kind == KV_REFILL)
        return !e && may_begin(m, b, now_us) ? STORE_APPLIED : STORE_MISMATCH;
    if (!e && !begun)
        return STORE_MISMATCH;
    return batch == from->batch && token == from->token ? STORE_APPLIED : STORE_MISMATCH;
}

static void keep_position(struct memory *m, struct span key, const struct watermark *next, int64_t now_us)
{
    struct buf text AUTO(buf_release) = {0};
    struct entry *e = find(m, key, now_us);

    if (!e)
        e = make(m, key, KV_TYPE_HASH);
    buf_addu(&text, next->batch);
    (void)item_put(e, SPAN_LIT("batch"), buf_span(&text));
    buf_clear(&text);
    buf_addu(&text, next->token);
    (void)item_put(e, SPAN_LIT("token"), buf_span(&text));
    buf_clear(&text);
    watermark_format_positions(next, &text);
    (void)item_put(e, SPAN_LIT("positions"), buf_span(&text));
    set_expiry(e, KV_TTL_WATERMARK_S, true, now_us);
}

static enum store_result apply_locked(struct memory *m, int kind, const char *instance,
                                      const struct watermark *from, const struct watermark *next,
                                      const struct kv_batch *b, struct err *err)
{
    int64_t now_us = m->now(m->user).us;
    char key[KV_KEY_CAP];

    sweep(m, now_us);
    if (kind != KV_WRITE) {
        enum store_result r;

        kv_key_watermark(key, instance);
        r = position(m, kind, span_of(key), from, next, b, now_us, err);
        if (r != STORE_APPLIED)
            return r;
    }
    if (refused(m, b, now_us, err))
        return STORE_FAILED;
    for (const struct kv_key *k = b->first; k; k = k->next)
        apply_key(m, k, now_us);
    if (kind != KV_WRITE && next->batch)
        keep_position(m, span_of(key), next, now_us);
    if (kind != KV_WRITE)
        begin(m, now_us);
    return STORE_APPLIED;
}

static enum store_result memory_apply(void *self, int kind, const char *instance,
                                      const struct watermark *from, const struct watermark *next,
                                      const struct kv_batch *b, struct err *err)
{
    struct memory *m = self;
    enum store_result r;

    (void)pthread_mutex_lock(&m->lock);
    r = apply_locked(m, kind, instance, from, next, b, err);
    (void)pthread_mutex_unlock(&m->lock);
    return r;
}

static enum err_code memory_watermark(void *self, const char *instance, struct watermark *out,
                                      bool *out_found, struct err *err)
{
    struct memory *m = self;
    struct watermark w = {0};
    enum err_code code = ERR_OK;
    const struct item *positions;
    const struct entry *e;
    char key[KV_KEY_CAP];

    kv_key_watermark(key, instance);
    (void)pthread_mutex_lock(&m->lock);
    e = find(m, span_of(key), m->now(m->user).us);
    positions = e && e->type == KV_TYPE_HASH ? item_find(e, SPAN_LIT("positions")) : NULL;
    w.batch = positions ? number_at(e, "batch") : 0;
    w.token = positions ? number_at(e, "token") : 0;
    if (e && (!w.batch || !watermark_parse_positions(&w, positions->value)))
        code = err_set(err, ERR_CONFLICT, "'%.200s' holds no watermark", key);
    (void)pthread_mutex_unlock(&m->lock);
    if (code)
        return code;
    *out = w;
    *out_found = e != NULL;
    return ERR_OK;
}

/* ---- reading: rows are copied under the mutex, handed out after it ---- */

struct row {
    struct span name, value;
    int64_t score;
};
struct rows {
    struct row *v;
    size_t n, cap;
};

static void rows_add(struct rows *r, struct span name, struct span value, int64_t score)
{
    struct row *row;
    char *p;

    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->v = realloc(r->v, r->cap * sizeof(*r->v));
    }
    p = malloc(name.len + value.len + 1);
    if (!r->v || !p)
        abort();
    row = &r->v[r->n++];
    *row = (struct row){span_make(p, name.len), span_make(p + name.len, value.len), score};
    if (name.len)
        memcpy(p, name.p, name.len);
    if (value.len)
        memcpy(p + name.len, value.p, value.len);
    p[name.len + value.len] = '\0';
}

static void rows_number(struct rows *r, struct span name, int64_t number)
{
    char text[24];

    rows_add(r, name, span_make(text, (size_t)snprintf(text, sizeof(text), "%" PRId64, number)), number);
}

static void rows_hand_out(struct rows *r, kv_field_fn fn, void *user)
{
    for (size_t i = 0; i < r->n; i++) {
        fn(user, r->v[i].name, r->v[i].value);
        free((char *)r->v[i].name.p);
    }
    free(r->v);
}

static int by_score(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    size_t len = x->name.len < y->name.len ? x->name.len : y->name.len;
    int order = memcmp(x->name.p, y->name.p, len);

    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    if (order)
        return order;
    return x->name.len < y->name.len ? -1 : x->name.len > y->name.len;
}

static void read_named(struct rows *r, const struct entry *e, int what, int64_t min, int64_t max)
{
    for (struct item *it = e->by_name; it; it = it->hh.next)
        if (what == KV_READ_HASH)
            rows_add(r, it->name, it->value, 0);
        else if (it->score >= min && it->score <= max)
            rows_number(r, it->name, it->score);
    if (what == KV_READ_INDEX && r->n)
        qsort(r->v, r->n, sizeof(*r->v), by_score);
}

static void read_ordered(struct rows *r, const struct entry *e, int what, int64_t n)
{
    char at[24];

    for (const struct item *it = e->newest; it && (int64_t)r->n < n; it = it->next) {
        size_t len = (size_t)snprintf(at, sizeof(at), "%zu", r->n);

        rows_add(r, what == KV_READ_LIST ? span_make(at, len) : it->name, it->value, 0);
    }
}

static void scan(struct rows *r, struct memory *m, struct span prefix, int64_t now_us)
{
    for (struct entry *e = m->keys; e; e = e->hh.next)
        if (!is_over(e, now_us) && span_starts(span_make(e->name, e->name_len), prefix))
            rows_number(r, span_make(e->name, e->name_len),
                        e->expires_us ? (e->expires_us - now_us + 500000) / 1000000 : -1);
}

static enum err_code read_locked(struct memory *m, int what, const char *key, int64_t a, int64_t b,
                                 struct rows *rows, struct err *err)
{
    static const enum kv_type TYPES[] = {
        [KV_READ_HASH] = KV_TYPE_HASH,
        [KV_READ_INDEX] = KV_TYPE_INDEX,
        [KV_READ_LIST] = KV_TYPE_LIST,
        [KV_READ_EVENTS] = KV_TYPE_STREAM,
    };
    int64_t now_us = m->now(m->user).us;
    const struct entry *e;

    if (what == KV_READ_SCAN) {
        scan(rows, m, span_of(key), now_us);
        return ERR_OK;
    }
    e = find(m, span_of(key), now_us);
    if (!e)
        return ERR_OK;
    if (e->type != TYPES[what])
        return err_set(err, ERR_CONFLICT, "'%.200s' is a %s", key, kv_type_name(e->type));
    if (what == KV_READ_HASH || what == KV_READ_INDEX)
        read_named(rows, e, what, a, b);
    else
        read_ordered(rows, e, what, a);
    return ERR_OK;
}

static enum err_code memory_read(void *self, int what, const char *key, int64_t a, int64_t b, kv_field_fn fn,
                                 void *user, struct err *err)
{
    struct memory *m = self;
    struct rows rows = {0};
    enum err_code code;

    (void)pthread_mutex_lock(&m->lock);
    code = read_locked(m, what, key, a, b, &rows, err);
    (void)pthread_mutex_unlock(&m->lock);
    rows_hand_out(&rows, fn, user);
    return code;
}

static enum err_code memory_lease(void *self, int op, struct kv_lease_call *c, struct err *err)
{
    struct memory *m = self;
    enum err_code e;

    (void)pthread_mutex_lock(&m->lock);
    e = kv_lease_memory(m, m->now(m->user).us, op, c, err);
    (void)pthread_mutex_unlock(&m->lock);
    return e;
}

struct entry *kv_memory_hash(struct memory *m, const char *key, int64_t now_us)
{
    return find(m, span_of(key), now_us);
}

bool kv_memory_is_hash(struct memory *m, const char *key, int64_t now_us)
{
    const struct entry *e = find(m, span_of(key), now_us);

    return !e || e->type == KV_TYPE_HASH;
}

struct entry *kv_memory_make(struct memory *m, const char *key, int64_t now_us, int64_t ttl_s)
{
    struct entry *e = find(m, span_of(key), now_us);

    if (!e)
        e = make(m, span_of(key), KV_TYPE_HASH);
    set_expiry(e, ttl_s, false, now_us);
    return e;
}

bool kv_memory_get(const struct entry *e, const char *field, struct span *out)
{
    const struct item *it = item_find(e, span_of(field));

    if (it)
        *out = it->value;
    return it != NULL;
}

void kv_memory_set(struct entry *e, const char *field, const char *value)
{
    (void)item_put(e, span_of(field), span_of(value));
}

void kv_memory_unset(struct memory *m, const char *key, const char *field, int64_t now_us)
{
    struct entry *e = find(m, span_of(key), now_us);
    struct item *it = item_find(e, span_of(field));

    if (it)
        item_drop(e, it);
    if (e && !e->n)
        entry_free(m, e);
}

void kv_memory_each(const struct entry *e, kv_field_fn fn, void *user)
{
    for (const struct item *it = e ? e->by_name : NULL; it; it = it->hh.next)
        fn(user, it->name, it->value);
}

static struct kv *memory_share(void *self)
{
    struct memory *m = self;

    (void)pthread_mutex_lock(&m->lock);
    m->handles++;
    (void)pthread_mutex_unlock(&m->lock);
    return kv_wrap(&MEMORY_OPS, m);
}

static void memory_free(void *self)
{
    struct memory *m = self;
    struct entry *e, *next;
    unsigned left;

    (void)pthread_mutex_lock(&m->lock);
    left = --m->handles;
    (void)pthread_mutex_unlock(&m->lock);
    if (left)
        return;
    HASH_ITER(hh, m->keys, e, next)
    entry_free(m, e);
    (void)pthread_mutex_destroy(&m->lock);
    free(m);
}

struct kv *kv_memory_new(const struct kv_options *o)
{
    struct memory *m = calloc(1, sizeof(*m));

    if (!m)
        abort();
    (void)pthread_mutex_init(&m->lock, NULL);
    m->handles = 1;
    m->now = o->now ? o->now : wall_of;
    m->user = o->user;
    return kv_wrap(&MEMORY_OPS, m);
}

static const struct kv_ops MEMORY_OPS = {
    .name = "memory",
    .free = memory_free,
    .apply = memory_apply,
    .watermark = memory_watermark,
    .read = memory_read,
    .share = memory_share,
    .lease = memory_lease,
};
