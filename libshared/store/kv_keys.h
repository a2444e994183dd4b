/* SPDX-License-Identifier: Apache-2.0 */
/* Every key of the realtime store and its time to live, in one place. All carry the tag {gw}, so they share one slot of
 * a cluster. */
#ifndef STORE_KV_KEYS_H
#define STORE_KV_KEYS_H

#include <stdint.h>

#include "libshared/base/clock.h"

#define KV_KEY_CAP 512

#define KV_TTL_TEN_S       900 /* {gw}:t: {gw}:p: */
#define KV_TTL_WATERMARK_S (30 * 86400)
#define KV_TTL_INST_S      30 /* a heartbeat without which a node is gone; sent every 5 s */
#define KV_TTL_ERRORS_S    86400
#define KV_TTL_EVENTS_S    (7 * 86400)
#define KV_TTL_LIVE_S      3600 /* {gw}:ten, {gw}:health, {gw}:brk, refreshed while used */
#define KV_TTL_LEASES_S    (7 * 86400)
#define KV_TTL_BUDGET_S    (48 * 3600)    /* beyond the window's end */
#define KV_TTL_TOTAL_S     (3650 * 86400) /* of a window without an end: it may rest for years */
#define KV_ERRORS_KEPT     100u
#define KV_EVENTS_KEPT     1000u

#define KV_HOURS    "{gw}:hours"  /* index: "2026-11-20T13" by its epoch second */
#define KV_MODELS   "{gw}:models" /* index: "provider model" (one space) by the second it was last used */
#define KV_HEALTH   "{gw}:health"
#define KV_BREAKERS "{gw}:brk"
#define KV_TENANTS  "{gw}:ten" /* "tenant/key measure" → integer of the current hour; see key_tenants */
#define KV_EVENTS   "{gw}:events"
#define KV_LEASES   "{gw}:lease"  /* see kv_lease.h */
#define KV_BOOKS    "{gw}:books"  /* HASH "began" → 1; without it nothing may be posted, see kv_refill() */
#define KV_INST     "{gw}:inst"   /* prefix of "{gw}:inst:INSTANCE": HASH name, pid, version, started, seen */
#define KV_KEYVER   "{gw}:keyver" /* HASH "version" → integer; rises when keys or tenants change */

/* "2026-11-20T13" and "2026-11-20T13:05:10"; both UTC. */
#define KV_HOUR_CAP 16
#define KV_TEN_CAP  24
void kv_hour_text(struct wall t, char dst[KV_HOUR_CAP]);
void kv_ten_text(struct wall t, char dst[KV_TEN_CAP]);
/* Second of an hour's start, or -1. */
int64_t kv_hour_parse(const char *hour);

/* A model's slashes stay; `:` in provider or model is written %3A and % is written %25, so that a key can be taken
 * apart. Of a name that is longer than 220 bytes so, the tail is replaced by `~` and 32 hex digits of its SHA-256. */
void kv_key_hour(char dst[KV_KEY_CAP], struct wall t, const char *provider, const char *model);
void kv_key_ten(char dst[KV_KEY_CAP], struct wall t, const char *provider, const char *model);
/* Of all models of a provider together. */
void kv_key_provider(char dst[KV_KEY_CAP], struct wall t, const char *provider);
void kv_key_errors(char dst[KV_KEY_CAP], const char *provider);
void kv_key_tenants(char dst[KV_KEY_CAP], struct wall t); /* "{gw}:ten:HOUR" */
void kv_key_budget(char dst[KV_KEY_CAP], const char *account, const char *window);
/* `kind` is "requests", "tokens" or "concurrent". */
void kv_key_limit(char dst[KV_KEY_CAP], const char *account, const char *kind);
void kv_key_instance(char dst[KV_KEY_CAP], const char *instance);
void kv_key_watermark(char dst[KV_KEY_CAP], const char *instance);

#endif
