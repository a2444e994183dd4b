/* SPDX-License-Identifier: Apache-2.0 */
/* The stores of a command; which ones they are, stores_where.h says. Addresses may hold passwords and are never printed whole. */
#ifndef AIGWCTL_STORES_H
#define AIGWCTL_STORES_H

#include "aigwctl/command.h"
#include "libshared/store/db.h"
#include "libshared/store/kv.h"

enum { KEY_DATABASE = 0x3000, KEY_REDIS, KEY_STATE_DIR };
#define STORES_OPTIONS                                                                                       \
    {"database",                                                                                             \
     KEY_DATABASE,                                                                                           \
     "URL",                                                                                                  \
     0,                                                                                                      \
     "history store: postgresql://… or a SQLite file (GATEWAYD_DATABASE_URL, DATABASE_URL; default "       \
     "history.db in the state directory)",                                                                   \
     10},                                                                                                    \
        {"redis", KEY_REDIS, "URL", 0, "realtime store (GATEWAYD_REDIS_URL, REDIS_URL)", 10},                \
    {                                                                                                        \
        "state-dir", KEY_STATE_DIR, "DIR", 0, "the gateway's (GATEWAYD_STATE_DIR)", 10                       \
    }

/* The store options of an argp list; ARGP_ERR_UNKNOWN for others. */
error_t stores_take(int key, char *arg, struct argp_state *state);

struct stores {
    struct db *db; /* NULL: see is_busy */
    struct kv *kv; /* NULL: none is configured */
    bool is_busy;  /* the SQLite file belongs to a living gateway: ask it instead */
    int64_t retention_us;
    bool has_retention; /* it was said; else it is the gateway's default */
};

enum stores_use { STORES_READ, STORES_WRITE, STORES_CREATE };
/* An exit code, having said why. With is_busy, `ctl` calls the gateway whose state directory it is. */
int stores_open(struct ctl *ctl, enum stores_use use, int64_t deadline_us, struct stores *out);
void stores_close(struct stores *s);
/* How long to wait for a SQLite file that another command has; 0 by default. */
void stores_wait(int64_t ms);
/* From now on the first signal lets what is under way end, the second does not. */
void stores_be_patient(void);
/* Fails unless the schema is this program's. */
int stores_need_schema(const struct stores *s);
/* By cause; says what happened. */
int stores_failed(const char *what, const struct err *err);
/* "2026-11-20T13" to its first second. */
bool stores_parse_hour(const char *z, int64_t *out);
/* Calls an admin route with a JSON object; `body` is adopted. *out as of ctl_get(). */
int stores_ask(struct ctl *ctl, const char *path, json_t *body, json_t **out);

#endif
