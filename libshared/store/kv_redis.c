/* SPDX-License-Identifier: Apache-2.0 */
/* The realtime store in Redis 7 or newer: commands and what their replies mean. Finding and keeping the server is
 * redis_node.c's part, the script that writes is kv_script.c's.
 *
 * One thread owns a handle; kv_share() makes others, which have a connection of their own and only the options in
 * common. A call has one deadline, taken at its beginning, for everything that it needs: name, connection, login,
 * redirections and answers. After ERR_TIMEOUT or ERR_IO the connection is gone and whether the batch was applied is
 * unknown; the watermark tells when the same batch is sent again.
 *
 * The tricky part is args_of_batch(): its order is a contract with the script. */
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/store/kv_keys.h"
#include "libshared/store/kv_lease_priv.h"
#include "libshared/store/kv_priv.h"
#include "libshared/store/kv_script.h"
#include "libshared/store/redis_node.h"

#define DEADLINE_US INT64_C(2000000)
#define SCAN_COUNT  2000

struct shared { /* constant after kv_redis_new() */
    atomic_uint handles;
    struct redis_url url;
    int64_t deadline_us;
    struct script {
        const char *text;
        size_t len;
        char sha[41];
    } batch, lease;
};

struct redis {
    struct shared *shared;
    struct redis_node node;
};

static const struct kv_ops REDIS_OPS;

static struct mono deadline_of(const struct redis *r)
{
    return mono_add_us(mono_now(), r->shared->deadline_us);
}

static enum err_code call(struct redis *r, enum redis_operation what, const struct redis_command *c,
                          struct mono deadline, redisReply **out, struct err *err)
{
    struct buf wire AUTO(buf_release) = {.max = REDIS_COMMAND_BYTES_MAX};
    enum err_code e = redis_command_emit(c, &wire);

    r->node.operation = what;
    return e ? err_set(err, e, "a command is too large")
             : redis_node_call(&r->node, buf_span(&wire), deadline, out, err);
}

/* ---- writing ---- */

static void arg_counts(struct redis_command *c, const struct kv_key *k)
{
    unsigned n[4] = {0};

    for (const struct kv_op *op = k->first; op; op = op->next)
        n[op->kind == KV_OP_ADD ? 0 : op->kind == KV_OP_SET ? 1 : op->kind == KV_OP_UNSET ? 2 : 3]++;
    for (unsigned i = 0; i < 4; i++)
        redis_argi(c, n[i]);
}

static void args_of_hash(struct redis_command *c, const struct kv_key *k)
{
    arg_counts(c, k);
    for (const struct kv_op *op = k->first; op; op = op->next)
        if (op->kind == KV_OP_ADD)
            redis_arg(c, op->name);
    for (const struct kv_op *op = k->first; op; op = op->next)
        if (op->kind == KV_OP_ADD)
            redis_argi(c, op->n);
    for (const struct kv_op *op = k->first; op; op = op->next)
        if (op->kind == KV_OP_SET) {
            redis_arg(c, op->name);
            redis_arg(c, op->value);
        }
    for (const struct kv_op *op = k->first; op; op = op->next)
        if (op->kind == KV_OP_UNSET)
            redis_arg(c, op->name);
    for (const struct kv_op *op = k->first; op; op = op->next)
        if (op->kind == KV_OP_DRAIN) {
            redis_arg(c, op->name);
            redis_arg(c, op->value);
            redis_argi(c, op->n);
        }
}

static void args_of_key(struct redis_command *c, const struct kv_key *k)
{
    redis_argz(c, kv_type_name(k->type));
    redis_argi(c, k->is_deleted);
    redis_argi(c, k->ttl_s);
    redis_argi(c, k->is_exact);
    if (k->type == KV_TYPE_HASH)
        args_of_hash(c, k);
    if (k->type == KV_TYPE_NONE || k->type == KV_TYPE_HASH)
        return;
    redis_argi(c, k->n_ops);
    for (const struct kv_op *op = k->first; op; op = op->next) {
        if (k->type == KV_TYPE_INDEX) {
            redis_argi(c, op->n);
            redis_arg(c, op->name);
        } else {
            redis_arg(c, op->value);
            redis_argi(c, op->n);
        }
    }
}

static void arg_u64(struct redis_command *c, uint64_t v)
{
    struct buf text AUTO(buf_release) = {0};

    buf_addu(&text, v);
    redis_arg(c, buf_span(&text));
}

static void args_of_positions(struct redis_command *c, const struct watermark *from,
                              const struct watermark *next)
{
    struct buf text AUTO(buf_release) = {0};

    arg_u64(c, from ? from->batch : 0);
    arg_u64(c, from ? from->token : 0);
    arg_u64(c, next ? next->batch : 0);
    arg_u64(c, next ? next->token : 0);
    if (next)
        watermark_format_positions(next, &text);
    redis_arg(c, buf_span(&text));
    redis_argi(c, KV_TTL_WATERMARK_S);
}

static void args_of_batch(struct redis_command *c, int kind, const char *instance,
                          const struct watermark *from, const struct watermark *next,
                          const struct kv_batch *b)
{
    static const char *const KINDS[] = {[KV_APPLY] = "a", [KV_WRITE] = "w", [KV_REFILL] = "r"};
    char key[KV_KEY_CAP];

    redis_argi(c, (int64_t)b->n_keys + (kind != KV_WRITE ? 2 : 0));
    if (kind != KV_WRITE) {
        kv_key_watermark(key, instance);
        redis_argz(c, key);
        redis_argz(c, KV_BOOKS);
    }
    for (const struct kv_key *k = b->first; k; k = k->next)
        redis_arg(c, k->name);
    redis_argz(c, KINDS[kind]);
    args_of_positions(c, from, next);
    for (const struct kv_key *k = b->first; k; k = k->next)
        args_of_key(c, k);
}

static enum store_result result_of(const redisReply *r, const struct kv_batch *b, struct err *err)
{
    const redisReply *word = r->type == REDIS_REPLY_ARRAY && r->elements ? r->element[0] : NULL;

    if (!word || word->type != REDIS_REPLY_STRING || word->len != 1) {
        (void)redis_refusal(r, err);
        return STORE_FAILED;
    }
    switch (word->str[0]) {
    case 'A':
        return STORE_APPLIED;
    case 'D':
        return STORE_DUPLICATE;
    case 'M':
        return STORE_MISMATCH;
    default:
        break;
    }
    if (r->elements == 3 && r->element[1]->type == REDIS_REPLY_STRING &&
        r->element[2]->type == REDIS_REPLY_STRING) {
        kv_batch_note_refused(b, span_make(r->element[1]->str, r->element[1]->len));
        (void)err_set(err, ERR_CONFLICT, "'%.200s' %.100s", r->element[1]->str, r->element[2]->str);
    } else
        (void)err_set(err, ERR_IO, "redis gave an answer that the script does not have");
    return STORE_FAILED;
}

/* The script by its hash; a server that does not know it, as after a restart, gets its text. */
static enum err_code run_script(struct redis *r, const struct script *script,
                                const struct redis_command *args, struct mono deadline, redisReply **out,
                                struct err *err)
{
    for (int with_text = 0;; with_text++) {
        struct buf wire AUTO(buf_release) = {.max = REDIS_COMMAND_BYTES_MAX};
        enum err_code e = buf_printf(&wire, "*%u\r\n", args->n + 2);

        if (!e)
            e = with_text ? buf_printf(&wire, "$4\r\nEVAL\r\n$%zu\r\n%s\r\n", script->len, script->text)
                          : buf_printf(&wire, "$7\r\nEVALSHA\r\n$40\r\n%s\r\n", script->sha);
        if (!e && args->args.len + 64 < REDIS_COMMAND_BYTES_MAX)
            e = buf_append(&wire, args->args.p, args->args.len);
        else
            e = ERR_TOO_LARGE;
        if (e)
            return err_set(err, e, "a batch is too large");
        e = redis_node_call(&r->node, buf_span(&wire), deadline, out, err);
        if (e || with_text || !redis_says(*out, "NOSCRIPT"))
            return e;
        freeReplyObject(*out);
    }
}

static enum store_result redis_apply(void *self, int kind, const char *instance, const struct watermark *from,
                                     const struct watermark *next, const struct kv_batch *b, struct err *err)
{
    struct redis_command args AUTO(redis_command_release);
    struct redis *r = self;
    struct mono deadline = deadline_of(r);
    enum store_result result;
    redisReply *reply;

    redis_command_init(&args);
    args_of_batch(&args, kind, instance, from, next, b);
    r->node.operation = kind == KV_WRITE ? REDIS_SET : REDIS_BATCH;
    if (kind == KV_WRITE && !b->n_keys)
        return STORE_APPLIED;
    if (run_script(r, &r->shared->batch, &args, deadline, &reply, err))
        return STORE_FAILED;
    result = result_of(reply, b, err);
    freeReplyObject(reply);
    return result;
}

static enum err_code redis_lease(void *self, int op, struct kv_lease_call *c, struct err *err)
{
    struct redis_command args AUTO(redis_command_release);
    struct redis *r = self;
    redisReply *reply;
    enum err_code e;

    redis_command_init(&args);
    kv_lease_args(&args, op, c);
    r->node.operation = REDIS_LEASE;
    e = run_script(r, &r->shared->lease, &args, deadline_of(r), &reply, err);
    if (e)
        return e;
    e = kv_lease_reply(reply, op, c, err);
    freeReplyObject(reply);
    return e;
}

/* ---- reading ---- */

static bool is_text(const redisReply *r)
{
    return r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS;
}
static struct span text_of(const redisReply *r)
{
    return span_make(r->str, r->len);
}

static enum err_code watermark_of(const redisReply *r, const char *key, struct watermark *out,
                                  bool *out_found, struct err *err)
{
    struct watermark w = {0};

    if (r->type != REDIS_REPLY_ARRAY || r->elements != 3)
        return redis_refusal(r, err);
    if (r->element[0]->type == REDIS_REPLY_NIL && r->element[1]->type == REDIS_REPLY_NIL &&
        r->element[2]->type == REDIS_REPLY_NIL) {
        *out_found = false;
        *out = w;
        return ERR_OK;
    }
    if (!is_text(r->element[0]) || !is_text(r->element[1]) || !is_text(r->element[2]) ||
        !span_to_u64(text_of(r->element[0]), &w.batch) || !w.batch ||
        !span_to_u64(text_of(r->element[1]), &w.token) ||
        !watermark_parse_positions(&w, text_of(r->element[2])))
        return err_set(err, ERR_CONFLICT, "'%.200s' holds no watermark", key);
    *out = w;
    *out_found = true;
    return ERR_OK;
}

static enum err_code redis_watermark(void *self, const char *instance, struct watermark *out, bool *out_found,
                                     struct err *err)
{
    struct redis_command c AUTO(redis_command_release);
    struct redis *r = self;
    char key[KV_KEY_CAP];
    redisReply *reply;
    enum err_code e;

    kv_key_watermark(key, instance);
    redis_command_init(&c);
    redis_argz(&c, "HMGET");
    redis_argz(&c, key);
    redis_argz(&c, "batch");
    redis_argz(&c, "token");
    redis_argz(&c, "positions");
    e = call(r, REDIS_GET, &c, deadline_of(r), &reply, err);
    if (e)
        return e;
    e = watermark_of(reply, key, out, out_found, err);
    freeReplyObject(reply);
    return e;
}

static void command_of(struct redis_command *c, int what, const char *key, int64_t a, int64_t b)
{
    switch (what) {
    case KV_READ_HASH:
        redis_argz(c, "HGETALL");
        redis_argz(c, key);
        break;
    case KV_READ_INDEX:
        redis_argz(c, "ZRANGEBYSCORE");
        redis_argz(c, key);
        redis_argi(c, a);
        redis_argi(c, b);
        redis_argz(c, "WITHSCORES");
        break;
    case KV_READ_LIST:
        redis_argz(c, "LRANGE");
        redis_argz(c, key);
        redis_argi(c, 0);
        redis_argi(c, a - 1);
        break;
    default:
        redis_argz(c, "XREVRANGE");
        redis_argz(c, key);
        redis_argz(c, "+");
        redis_argz(c, "-");
        redis_argz(c, "COUNT");
        redis_argi(c, a);
    }
}

/* Events are [id, [field, value, …]]; only ours, of one field, are shown. */
static bool event_of(const redisReply *r, struct span *id, struct span *json)
{
    const redisReply *fields = r->type == REDIS_REPLY_ARRAY && r->elements == 2 ? r->element[1] : NULL;

    if (!fields || !is_text(r->element[0]) || fields->type != REDIS_REPLY_ARRAY || fields->elements < 2 ||
        !is_text(fields->element[0]) || !is_text(fields->element[1]))
        return false;
    *id = text_of(r->element[0]);
    *json = text_of(fields->element[1]);
    return true;
}

static bool hand_out(const redisReply *r, int what, kv_field_fn fn, void *user, bool is_dry)
{
    bool is_paired = what == KV_READ_HASH || what == KV_READ_INDEX;

    if (is_paired && r->elements % 2)
        return false;
    for (size_t i = 0; i < r->elements; i += is_paired ? 2 : 1) {
        struct span field, value;
        char at[24];

        if (what == KV_READ_EVENTS) {
            if (!event_of(r->element[i], &field, &value))
                return false;
        } else {
            const redisReply *v = r->element[i + is_paired];

            if (!is_text(r->element[i]) || !is_text(v))
                return false;
            value = text_of(v);
            field = is_paired ? text_of(r->element[i])
                              : span_make(at, (size_t)snprintf(at, sizeof(at), "%zu", i));
        }
        if (!is_dry)
            fn(user, field, value);
    }
    return true;
}

/* ---- scanning: pages of SCAN, and the times to live of a page's keys in one pipeline ---- */

struct page {
    const redisReply *keys;
    kv_field_fn fn;
    void *user;
};

static bool on_ttl(void *user, size_t i, const redisReply *r)
{
    struct page *p = user;
    char text[24];

    if (r->type != REDIS_REPLY_INTEGER)
        return false;
    if (r->integer != -2) /* gone meanwhile */
        p->fn(p->user, text_of(p->keys->element[i]),
              span_make(text, (size_t)snprintf(text, sizeof(text), "%lld", r->integer)));
    return true;
}

static enum err_code scan_page(struct redis *r, const redisReply *keys, struct mono deadline, kv_field_fn fn,
                               void *user, struct err *err)
{
    struct buf wire AUTO(buf_release) = {.max = REDIS_COMMAND_BYTES_MAX};
    struct redis_command c AUTO(redis_command_release);
    struct page page = {keys, fn, user};

    redis_command_init(&c);
    for (size_t i = 0; i < keys->elements; i++) {
        enum err_code e;

        if (!is_text(keys->element[i]))
            return err_set(err, ERR_IO, "redis gave a key that is no text");
        redis_command_clear(&c);
        redis_argz(&c, "TTL");
        redis_arg(&c, text_of(keys->element[i]));
        e = redis_command_emit(&c, &wire);
        if (e)
            return err_set(err, e, "a page of keys is too large");
    }
    r->node.operation = REDIS_TTL;
    return redis_node_pipeline(&r->node, buf_span(&wire), keys->elements, deadline, on_ttl, &page, err);
}

/* The prefix with the characters of a pattern taken literally, and a star. */
static void pattern_of(struct buf *out, const char *prefix)
{
    for (const char *p = prefix; *p; p++) {
        if (strchr("*?[]\\^", *p))
            buf_addc(out, '\\');
        buf_addc(out, *p);
    }
    buf_addc(out, '*');
}

static enum err_code next_page(struct redis *r, struct buf *cursor, struct span pattern, struct mono deadline,
                               kv_field_fn fn, void *user, struct err *err)
{
    struct redis_command c AUTO(redis_command_release);
    redisReply *reply;
    enum err_code e;

    redis_command_init(&c);
    redis_argz(&c, "SCAN");
    redis_arg(&c, buf_span(cursor));
    redis_argz(&c, "MATCH");
    redis_arg(&c, pattern);
    redis_argz(&c, "COUNT");
    redis_argi(&c, SCAN_COUNT);
    e = call(r, REDIS_SCAN, &c, deadline, &reply, err);
    if (e)
        return e;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || !is_text(reply->element[0]) ||
        reply->element[0]->len > 24 || reply->element[1]->type != REDIS_REPLY_ARRAY) {
        e = redis_refusal(reply, err);
    } else {
        buf_clear(cursor);
        buf_add(cursor, text_of(reply->element[0]));
        e = scan_page(r, reply->element[1], deadline, fn, user, err);
    }
    freeReplyObject(reply);
    return e;
}

/* A command with a key goes to the node that has our keys; SCAN, which has none, would not be redirected. */
static enum err_code touch(struct redis *r, struct mono deadline, struct err *err)
{
    struct redis_command c AUTO(redis_command_release);
    redisReply *reply;
    enum err_code e;

    redis_command_init(&c);
    redis_argz(&c, "EXISTS");
    redis_argz(&c, KV_KEYVER);
    e = call(r, REDIS_PING, &c, deadline, &reply, err);
    if (e)
        return e;
    if (reply->type != REDIS_REPLY_INTEGER)
        e = redis_refusal(reply, err);
    freeReplyObject(reply);
    return e;
}

static enum err_code scan(struct redis *r, const char *prefix, kv_field_fn fn, void *user, struct err *err)
{
    struct buf pattern AUTO(buf_release) = {0}, cursor AUTO(buf_release) = {0};
    struct mono deadline = deadline_of(r);
    uint64_t connects;
    enum err_code e = touch(r, deadline, err);

    pattern_of(&pattern, prefix);
    buf_addc(&cursor, '0');
    connects = r->node.connects;
    while (!e) {
        e = next_page(r, &cursor, buf_span(&pattern), deadline, fn, user, err);
        if (!e && span_is(buf_span(&cursor), "0"))
            return ERR_OK;
        /* Another server's cursors mean something else. */
        if (!e && connects != r->node.connects)
            e = err_set(err, ERR_UNAVAILABLE, "the connection changed during a scan");
    }
    return e;
}

static enum err_code redis_read(void *self, int what, const char *key, int64_t a, int64_t b, kv_field_fn fn,
                                void *user, struct err *err)
{
    struct redis_command c AUTO(redis_command_release);
    struct redis *r = self;
    redisReply *reply;
    enum err_code e;

    redis_command_init(&c);
    if (what == KV_READ_SCAN)
        return scan(r, key, fn, user, err);
    command_of(&c, what, key, a, b);
    e = call(r, REDIS_GET, &c, deadline_of(r), &reply, err);
    if (e)
        return e;
    if (reply->type != REDIS_REPLY_ARRAY)
        e = redis_refusal(reply, err);
    else if (!hand_out(reply, what, fn, user, true))
        e = err_set(err, ERR_IO, "redis gave a reply of an unexpected form");
    else
        (void)hand_out(reply, what, fn, user, false);
    freeReplyObject(reply);
    return e;
}

/* ---- several at once: one pipeline to the server that has our keys, its clock first ---- */

struct many {
    const struct kv_ask *asks;
    kv_many_fn fn;
    void *user;
    bool *bad;
    struct wall *now;
    enum redis_operation *operation; /* borrowed from the node */
    size_t i;                        /* of the reply at hand */
};

static void on_field(void *user, struct span field, struct span value)
{
    struct many *m = user;

    m->fn(m->user, m->i, field, value);
}

static struct wall time_of(const redisReply *r)
{
    uint64_t s, us;

    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || !is_text(r->element[0]) ||
        !is_text(r->element[1]) || !span_to_u64(text_of(r->element[0]), &s) ||
        !span_to_u64(text_of(r->element[1]), &us) || s > INT64_MAX / 2000000)
        return (struct wall){0};
    return (struct wall){(int64_t)(s * 1000000 + us)};
}

/* An error that concerns the key alone; others end the pipeline, and the server is looked for again. */
static bool is_of_key(const redisReply *r)
{
    return redis_says(r, "WRONGTYPE") || redis_says(r, "NOPERM");
}

static bool on_many(void *user, size_t i, const redisReply *r)
{
    struct many *m = user;

    *m->operation = REDIS_GET; /* of those that follow the clock's */
    if (i == 0) {
        *m->now = time_of(r);
        return r->type == REDIS_REPLY_ARRAY || is_of_key(r);
    }
    m->i = i - 1;
    if (r->type != REDIS_REPLY_ARRAY) {
        m->bad[m->i] = true;
        return is_of_key(r);
    }
    m->bad[m->i] = !hand_out(r, m->asks[m->i].what, on_field, m, true);
    if (!m->bad[m->i])
        (void)hand_out(r, m->asks[m->i].what, on_field, m, false);
    return true;
}

static enum err_code redis_read_many(void *self, const struct kv_ask *asks, size_t n, kv_many_fn fn,
                                     void *user, bool *bad, struct wall *out_now, struct err *err)
{
    struct buf wire AUTO(buf_release) = {.max = REDIS_COMMAND_BYTES_MAX};
    struct redis_command c AUTO(redis_command_release);
    struct redis *r = self;
    struct many m = {asks, fn, user, bad, out_now, &r->node.operation, 0};
    struct mono deadline = deadline_of(r);
    enum err_code e = touch(r, deadline, err);

    redis_command_init(&c);
    if (e)
        return e;
    redis_argz(&c, "TIME");
    e = redis_command_emit(&c, &wire);
    for (size_t i = 0; i < n && !e; i++) {
        redis_command_clear(&c);
        command_of(&c, asks[i].what, asks[i].key, asks[i].a, asks[i].b);
        e = redis_command_emit(&c, &wire);
    }
    if (e)
        return err_set(err, e, "these are too many keys at once");
    r->node.operation = REDIS_TIME;
    return redis_node_pipeline(&r->node, buf_span(&wire), n + 1, deadline, on_many, &m, err);
}

/* ---- life ---- */

static struct kv *handle(struct shared *s)
{
    struct redis *r = calloc(1, sizeof(*r));

    if (!r)
        abort();
    r->shared = s;
    redis_node_init(&r->node, &s->url);
    return kv_wrap(&REDIS_OPS, r);
}

static struct kv *redis_share(void *self)
{
    struct redis *r = self;

    atomic_fetch_add(&r->shared->handles, 1);
    return handle(r->shared);
}

static void redis_free(void *self)
{
    struct redis *r = self;

    redis_node_release(&r->node);
    if (atomic_fetch_sub(&r->shared->handles, 1) == 1) {
        redis_url_release(&r->shared->url);
        free(r->shared);
    }
    free(r);
}

static const char *redis_where(const void *self)
{
    return ((const struct redis *)self)->shared->url.where;
}

static bool name_script(struct script *s, const char *text, size_t len)
{
    unsigned char digest[20];
    size_t n = sizeof(digest);

    if (!EVP_Q_digest(NULL, "SHA1", NULL, text, len, digest, &n))
        return false;
    hex_encode(digest, sizeof(digest), s->sha);
    s->text = text;
    s->len = len;
    return true;
}

struct kv *kv_redis_new(const struct kv_options *o, struct err *err)
{
    struct shared *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    if (redis_url_parse(&s->url, o->url, err)) {
        free(s);
        return NULL;
    }
    if (!name_script(&s->batch, KV_SCRIPT, KV_SCRIPT_LEN) ||
        !name_script(&s->lease, KV_LEASE_SCRIPT, KV_LEASE_SCRIPT_LEN)) {
        (void)err_set(err, ERR_INTERNAL, "libcrypto has no SHA-1, which names Redis scripts");
        redis_url_release(&s->url);
        free(s);
        return NULL;
    }
    s->deadline_us = o->deadline_us > 0 ? o->deadline_us : DEADLINE_US;
    atomic_init(&s->handles, 1);
    return handle(s);
}

static const struct kv_ops REDIS_OPS = {
    .name = "redis",
    .free = redis_free,
    .apply = redis_apply,
    .watermark = redis_watermark,
    .read = redis_read,
    .read_many = redis_read_many,
    .share = redis_share,
    .where = redis_where,
    .lease = redis_lease,
};
