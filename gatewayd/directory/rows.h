/* SPDX-License-Identifier: Apache-2.0 */
/* The directory as the database has it: plans, tenants, keys and budgets, read from the database or from a document. Rows that
 * make no sense are left out and counted; nothing read here is trusted to be a name or a hash before it was checked.
 * Immutable once read. Times are seconds since 1970, amounts nano-USD. */
#ifndef DIRECTORY_ROWS_H
#define DIRECTORY_ROWS_H

#include <jansson.h>

#include "gatewayd/config/config.h"
#include "libshared/store/db.h"

struct directory_plan {
    const char *id;
    int64_t price_nano;
    bool is_trial, is_deleted;
    int64_t rpm, tpm, concurrent; /* 0: none */
    int64_t budget_nano;          /* 0: none */
    enum period period;
    int64_t created_at;
    unsigned priority, max_priority; /* in queues, 1 … 5; 0: as usual */
};

struct directory_tenant {
    const char *id, *plan, *name; /* plan "": not defined, only suspended */
    bool is_enabled;
    const char *const *models; /* NULL: all */
    size_t n_models;
    int64_t rpm, tpm, concurrent; /* -1: the plan's */
    int64_t created_at, updated_at;
};

/* A rotated key goes on as another row until its end; its id is "NAME~N" then, and no name holds a '~'. */
struct directory_key {
    const char *tenant, *id, *prefix;
    const char *name; /* without what follows the '~' */
    unsigned char sha256[SHA256_BYTES];
    bool is_enabled;
    int64_t created_at, expires_at, revoked_at; /* 0: never */
    struct config_limits limits;
};

struct directory_budget {
    const char *account;
    struct config_budget budget;
    int64_t created_at, updated_at;
};

struct directory_topup { /* expired ones, too */
    const char *id, *account;
    int64_t amount_nano, until_at, created_at;
};

struct directory_rows {
    struct arena arena; /* private */
    int64_t version;    /* 'keyver' when they were read */
    const struct directory_plan *plans;
    const struct directory_tenant *tenants;
    const struct directory_key *keys;
    const struct directory_budget *budgets;
    const struct directory_topup *topups; /* by account and end */
    size_t n_plans, n_tenants, n_keys, n_budgets, n_topups, n_states;
    const struct config_provider_state *states; /* labels are 0 */
    size_t n_bad;                               /* rows left out */
};

/* All of it as {"version","plans","tenants","api_keys","budgets","settings"}, lists of objects named like the columns, hashes in
 * hexadecimal digits. Each table is read by itself: what changes meanwhile raises the version, and is read again. */
NODISCARD enum err_code rows_load(struct db *db, json_t **out, struct err *err);
/* The version alone; 0 before the first change. */
NODISCARD enum err_code rows_version(struct db *db, int64_t *out, struct err *err);
/* NULL when `doc` has not that form. Copies what it needs. */
struct directory_rows *rows_read(const json_t *doc);
void rows_free(struct directory_rows *r);

const struct directory_plan *rows_plan(const struct directory_rows *r, const char *id); /* not deleted */
const struct directory_tenant *rows_tenant(const struct directory_rows *r, const char *id);
const struct directory_key *rows_key(const struct directory_rows *r, const char *tenant, const char *id);
const struct directory_budget *rows_budget(const struct directory_rows *r, const char *account);

/* The row of `settings` that holds a provider's state is named "provider NAME". */
#define ROWS_PROVIDER "provider "
/* What config_join() takes. Arrays are in `a`, strings are borrowed from `r`. */
struct config_extra rows_extra(const struct directory_rows *r, struct arena *a);
/* "global", "tenant:ID", "key:TENANT/ID", "provider:NAME", with names as everywhere. */
bool rows_is_account(struct span account);

#endif
