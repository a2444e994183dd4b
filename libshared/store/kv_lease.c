/* SPDX-License-Identifier: Apache-2.0 */
/* Leases in the realtime store: what a call looks like on its way to Redis and what the answer means. The owner thread of the
 * handle. Nothing is written into the caller's rows unless the whole answer makes sense. */
#include "libshared/store/kv_lease.h"

#include "libshared/base/id.h"
#include "libshared/store/kv_keys.h"
#include "libshared/store/kv_lease_priv.h"
#include "libshared/store/kv_priv.h"
#include "libshared/store/redis_node.h"

#define ANSWERS 5u /* of a row */
#define HEAD    6u

int64_t kv_lease_fresh_epoch(void)
{
    uint64_t r;

    random_bytes(&r, sizeof(r));
    return (int64_t)(r & ((UINT64_C(1) << 52) - 1)) + 1;
}

void kv_lease_args(struct redis_command *cmd, int op, const struct kv_lease_call *c)
{
    static const char *const KINDS[] = {"m", "r", "s", "w"};
    size_t n = op == KV_LEASE_KEEP ? 0 : c->n;
    char key[KV_KEY_CAP];

    _Static_assert(ARRAY_LEN(KINDS) == KV_LEASE_KINDS, "every kind has a letter");
    redis_argi(cmd, (int64_t)n + 3);
    redis_argz(cmd, KV_LEASES);
    kv_key_watermark(key, c->instance);
    redis_argz(cmd, key);
    redis_argz(cmd, KV_BOOKS);
    for (size_t i = 0; i < n; i++)
        redis_argz(cmd, c->rows[i].key);
    redis_argz(cmd, op == KV_LEASE_KEEP ? "k" : "c");
    redis_argz(cmd, c->instance);
    redis_argi(cmd, c->life);
    redis_argi(cmd, c->sequence);
    redis_argi(cmd, c->epoch);
    redis_argi(cmd, c->ttl_ms);
    redis_argi(cmd, c->grace_ms);
    redis_argi(cmd, c->nodes);
    redis_argi(cmd, c->needs_books);
    redis_argi(cmd, kv_lease_fresh_epoch());
    redis_argi(cmd, c->is_partial);
    for (size_t i = 0; i < n; i++) {
        const struct kv_lease_row *r = &c->rows[i];

        redis_argz(cmd, KINDS[r->kind]);
        redis_argi(cmd, r->limit);
        redis_argi(cmd, r->ttl_s);
        redis_argi(cmd, r->granted);
        redis_argi(cmd, r->posted);
        redis_argi(cmd, r->most);
        redis_argi(cmd, r->need);
        redis_argi(cmd, r->want);
    }
}

enum err_code kv_lease_late(struct kv_lease_call *c, int64_t life, int64_t sequence, struct err *err)
{
    c->heard_life = life;
    c->heard_sequence = sequence;
    return err_set(err, ERR_CONFLICT, "the store has heard of a later call of instance '%.80s'", c->instance);
}

/* A list whose members from `from` on are all of one type. */
static bool is_list_of(const redisReply *r, size_t from, int type)
{
    if (r->type != REDIS_REPLY_ARRAY)
        return false;
    for (size_t i = from; i < r->elements; i++)
        if (r->element[i]->type != type)
            return false;
    return true;
}

static bool are_numbers(const redisReply *r, size_t n)
{
    return is_list_of(r, 0, REDIS_REPLY_INTEGER) && r->elements == n;
}

static bool says(const redisReply *r, const char *word, size_t n, int type)
{
    return is_list_of(r, 1, type) && r->elements == n && r->element[0]->type == REDIS_REPLY_STRING &&
           strcmp(r->element[0]->str, word) == 0;
}

static void take(const redisReply *head, const redisReply *rows, struct kv_lease_call *c, size_t n)
{
    c->heard_epoch = head->element[0]->integer;
    c->heard_nodes = head->element[1]->integer;
    c->dead = head->element[2]->integer;
    c->is_quiet = head->element[3]->integer != 0;
    c->heard_sequence = head->element[4]->integer;
    c->has_books = head->element[5]->integer != 0;
    for (size_t i = 0; i < n; i++) {
        redisReply *const *v = rows->element + i * ANSWERS;
        struct kv_lease_row *r = &c->rows[i];

        r->got = v[0]->integer;
        r->outstanding = v[1]->integer;
        r->rest = v[2]->integer;
        r->others = v[3]->integer;
        r->silent_ms = v[4]->integer;
    }
}

enum err_code kv_lease_reply(const redisReply *r, int op, struct kv_lease_call *c, struct err *err)
{
    size_t n = op == KV_LEASE_KEEP ? 0 : c->n;

    if (says(r, "S", 3, REDIS_REPLY_INTEGER))
        return kv_lease_late(c, r->element[1]->integer, r->element[2]->integer, err);
    if (says(r, "C", 3, REDIS_REPLY_STRING))
        return err_set(err, ERR_IO, "'%.200s' %.100s", r->element[1]->str, r->element[2]->str);
    if (r->type == REDIS_REPLY_ERROR)
        return redis_refusal(r, err);
    if (!says(r, "A", 4, REDIS_REPLY_ARRAY) || !are_numbers(r->element[1], HEAD) ||
        !are_numbers(r->element[2], n * ANSWERS) || !is_list_of(r->element[3], 0, REDIS_REPLY_STRING))
        return err_set(err, ERR_IO, "redis gave an answer that the script does not have");
    take(r->element[1], r->element[2], c, n);
    for (size_t i = 0; c->wanted && i < r->element[3]->elements; i++)
        c->wanted(c->user, span_make(r->element[3]->element[i]->str, r->element[3]->element[i]->len));
    return ERR_OK;
}
