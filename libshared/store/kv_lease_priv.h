/* SPDX-License-Identifier: Apache-2.0 */
/* What the backends of kv_lease() share. */
#ifndef STORE_KV_LEASE_PRIV_H
#define STORE_KV_LEASE_PRIV_H

#include "libshared/store/kv_lease.h"

enum { KV_LEASE_CALL, KV_LEASE_KEEP };

struct redis_command;
struct redisReply;
/* The call as arguments of the script, and what the script's answer says. */
void kv_lease_args(struct redis_command *cmd, int op, const struct kv_lease_call *c);
NODISCARD enum err_code kv_lease_reply(const struct redisReply *r, int op, struct kv_lease_call *c,
                                       struct err *err);
NODISCARD enum err_code kv_lease_late(struct kv_lease_call *c, int64_t life, int64_t sequence,
                                      struct err *err);
int64_t kv_lease_fresh_epoch(void);

/* Memory: one hash under its lock. */
struct memory;
struct entry;
NODISCARD enum err_code kv_lease_memory(struct memory *m, int64_t now_us, int op, struct kv_lease_call *c,
                                        struct err *err);
struct entry *kv_memory_hash(struct memory *m, const char *key, int64_t now_us); /* NULL: none */
struct entry *kv_memory_make(struct memory *m, const char *key, int64_t now_us, int64_t ttl_s);
bool kv_memory_is_hash(struct memory *m, const char *key, int64_t now_us); /* or nothing */
bool kv_memory_get(const struct entry *e, const char *field, struct span *out);
void kv_memory_set(struct entry *e, const char *field, const char *value);
void kv_memory_unset(struct memory *m, const char *key, const char *field, int64_t now_us);
/* Values are borrowed; `fn` changes nothing. */
void kv_memory_each(const struct entry *e, kv_field_fn fn, void *user);

#endif
