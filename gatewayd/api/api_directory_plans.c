/* SPDX-License-Identifier: Apache-2.0 */
/* Plans and budgets: replaced whole, since each is one thought. On the directory's thread. */
#include <stdlib.h>

#include "gatewayd/api/api_directory_priv.h"

/* ---- plans ----------------------------------------------------------------------------------------------------------- */

enum {
    P_PRICE,
    P_TRIAL,
    P_RPM,
    P_TPM,
    P_CONCURRENT,
    P_BUDGET,
    P_PERIOD,
    P_PRIORITY,
    P_CAP,
    P_REASON,
    P_COUNT
};

static const struct field PLAN_FIELDS[P_COUNT] = {
    [P_PRICE] = {.name = "price_usd", .type = FIELD_USD},
    [P_TRIAL] = {.name = "trial", .type = FIELD_BOOL},
    [P_RPM] = {.name = "rpm", .type = FIELD_COUNT, .max = 1000000000},
    [P_TPM] = {.name = "tpm", .type = FIELD_COUNT, .max = 1000000000000},
    [P_CONCURRENT] = {.name = "concurrent", .type = FIELD_COUNT, .max = 1000000},
    [P_BUDGET] = {.name = "budget_usd", .type = FIELD_USD},
    [P_PERIOD] = {.name = "period", .type = FIELD_CHOICE, .choices = "hour day week month total"},
    [P_PRIORITY] = {.name = "priority", .type = FIELD_COUNT, .max = 5},
    [P_CAP] = {.name = "max_priority", .type = FIELD_COUNT, .max = 5},
    [P_REASON] = FIELD_REASON,
};

static json_t *json_plan(const struct call *c, const struct directory_plan *p)
{
    json_t *o = json_object();
    uint64_t tenants = 0;

    for (size_t i = 0; i < c->joined->n_tenants; i++)
        tenants += strcmp(c->joined->tenants[i].plan, p->id) == 0;
    (void)json_object_set_new(o, "id", json_string(p->id));
    api_set_cost(o, "price_usd", "price_nanousd", p->price_nano);
    (void)json_object_set_new(o, "trial", json_boolean(p->is_trial));
    (void)json_object_set_new(o, "rpm", json_integer(p->rpm));
    (void)json_object_set_new(o, "tpm", json_integer(p->tpm));
    (void)json_object_set_new(o, "concurrent", json_integer(p->concurrent));
    api_set_cost(o, "budget_usd", "budget_nanousd", p->budget_nano);
    (void)json_object_set_new(o, "period", json_string(period_name(p->period)));
    (void)json_object_set_new(o, "priority", json_integer(p->priority));
    (void)json_object_set_new(o, "max_priority", json_integer(p->max_priority));
    (void)json_object_set_new(o, "tenants", api_json_count(tenants));
    (void)json_object_set_new(o, "created_at", json_seconds(p->created_at));
    return o;
}

void api_plans(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    json_t *o = json_object(), *list = json_array();

    (void)call_begin(&c, rq, reply, NULL, 0);
    for (size_t i = 0; i < c.rows->n_plans; i++)
        if (!c.rows->plans[i].is_deleted)
            (void)json_array_append_new(list, json_plan(&c, &c.rows->plans[i]));
    (void)json_object_set_new(o, "plans", list);
    api_reply_json(reply, o);
    call_end(&c);
}

static void reply_plan(struct call *c, const char *id)
{
    const struct directory_plan *p = rows_plan(c->rows, id);

    if (p)
        api_reply_json(c->reply, json_plan(c, p));
    else
        (void)call_refuse(c, ERR_NOT_FOUND, "plan '%s' does not exist", id);
}

void api_plan(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *id;

    (void)call_begin(&c, rq, reply, NULL, 0);
    id = call_path_id(&c, "plan");
    if (id)
        reply_plan(&c, id);
    call_end(&c);
}

static enum err_code write_plan(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    const struct field_value *v = c->v;
    struct db_value row[] = {db_textz(c->id),       db_int(v[P_PRICE].i),
                             db_int(v[P_TRIAL].i),  db_int(v[P_RPM].i),
                             db_int(v[P_TPM].i),    db_int(v[P_CONCURRENT].i),
                             db_int(v[P_BUDGET].i), db_textz(v[P_PERIOD].text ? v[P_PERIOD].text : "month"),
                             db_int(now_s),         db_int(v[P_PRIORITY].i),
                             db_int(v[P_CAP].i)};

    return db_exec(
        db, "plan_put",
        "INSERT INTO plans (id, price_nano, is_trial, rpm, tpm, concurrent, budget_nano, period, created_at, "
        "priority, max_priority) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO "
        "UPDATE SET price_nano = $2, "
        "is_trial = "
        "$3, rpm = $4, tpm = $5, concurrent = $6, budget_nano = $7, period = $8, deleted_at = NULL, "
        "priority = $10, max_priority = $11",
        row, ARRAY_LEN(row), NULL, err);
}

void api_plan_put(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *id;
    const struct directory_plan *was;

    if (!call_begin(&c, rq, reply, PLAN_FIELDS, P_COUNT))
        return;
    id = call_path_id(&c, "plan");
    was = id ? rows_plan(c.rows, id) : NULL;
    if (was)
        (void)json_object_set_new(c.detail, "was", json_plan(&c, was));
    if (id && c.rows->n_plans >= LIMIT_DIRECTORY_ROWS && !was)
        (void)call_refuse(&c, ERR_CONFLICT, "there are %u plans, which is the most", LIMIT_DIRECTORY_ROWS);
    else if (id && call_change(&c, "plan.put", id, write_plan))
        reply_plan(&c, id);
    call_end(&c);
}

static enum err_code write_plan_delete(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    struct db_value v[] = {db_textz(c->id), db_int(now_s)};
    bool is_used = false;
    int64_t changed = 0;
    enum err_code e =
        call_has_row(db, "plan_used", "SELECT 1 FROM tenants WHERE plan = $1 AND deleted_at IS NULL LIMIT 1",
                     v, 1, &is_used, err);

    if (!e && is_used)
        return err_set(err, ERR_CONFLICT, "plan '%s' has tenants", c->id);
    if (!e)
        e = db_exec(db, "plan_delete",
                    "UPDATE plans SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL", v, 2, &changed,
                    err);
    return e || changed ? e : err_set(err, ERR_NOT_FOUND, "plan '%s' does not exist", c->id);
}

void api_plan_delete(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *id;

    (void)call_begin(&c, rq, reply, NULL, 0);
    id = call_path_id(&c, "plan");
    if (id && call_change(&c, "plan.delete", id, write_plan_delete))
        call_reply_deleted(&c, "plan", id);
    call_end(&c);
}

/* ---- budgets --------------------------------------------------------------------------------------------------------- */

enum { B_LIMIT, B_PERIOD, B_WARN, B_AT_LIMIT, B_STORE_DOWN, B_REASON, B_COUNT };

static const struct field BUDGET_FIELDS[B_COUNT] = {
    [B_LIMIT] = {.name = "limit_usd", .type = FIELD_USD, .is_required = true},
    [B_PERIOD] = {.name = "period", .type = FIELD_CHOICE, .choices = "hour day week month total"},
    [B_WARN] = {.name = "warn", .type = FIELD_COUNT, .min = 1, .max = 100},
    [B_AT_LIMIT] = {.name = "at_limit", .type = FIELD_CHOICE, .choices = "block throttle warn"},
    [B_STORE_DOWN] = {.name = "when_store_down", .type = FIELD_CHOICE, .choices = "closed bounded open"},
    [B_REASON] = FIELD_REASON,
};

static json_t *json_account(struct gateway *gw, const char *account, const struct config_budget *b,
                            bool is_file, int64_t updated_at)
{
    json_t *o = json_budget(b);

    (void)json_object_set_new(o, "account", json_string(account));
    (void)json_object_set_new(o, "source", json_string(is_file ? "file" : "database"));
    (void)json_object_set_new(o, "updated_at", json_seconds(updated_at));
    api_add_spending(gw, account, o);
    return o;
}

/* The file's budget of the tenant that an account is of; NULL when it sets none. */
static const struct config_budget *budget_of_file(const struct config *file, const char *account)
{
    const struct config_tenant *t =
        strncmp(account, "tenant:", 7) == 0 ? call_tenant(file, account + 7) : NULL;

    return t && t->budget.limit_nanousd ? &t->budget : NULL;
}

static json_t *json_of_file(struct gateway *gw, const struct config_tenant *t)
{
    char account[LIMIT_NAME_BYTES + 16];

    (void)snprintf(account, sizeof(account), "tenant:%s", t->id);
    return json_account(gw, account, &t->budget, true, 0);
}

void api_budgets(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    json_t *o = json_object(), *list = json_array();

    (void)call_begin(&c, rq, reply, NULL, 0);
    for (size_t i = 0; i < c.file->n_tenants; i++)
        if (c.file->tenants[i].budget.limit_nanousd)
            (void)json_array_append_new(list, json_of_file(rq->gw, &c.file->tenants[i]));
    for (size_t i = 0; i < c.rows->n_budgets; i++) {
        const struct directory_budget *b = &c.rows->budgets[i];

        if (!budget_of_file(c.file, b->account))
            (void)json_array_append_new(list,
                                        json_account(rq->gw, b->account, &b->budget, false, b->updated_at));
    }
    (void)json_object_set_new(o, "budgets", list);
    api_reply_json(reply, o);
    call_end(&c);
}

static const char *path_account(struct call *c)
{
    if (!rows_is_account(c->rq->tail)) {
        (void)call_refuse(c, ERR_NOT_FOUND,
                          "an account is 'global', 'tenant:ID', 'key:TENANT/ID' or 'provider:NAME'");
        return NULL;
    }
    (void)span_copy(c->id, sizeof(c->id), c->rq->tail);
    return c->id;
}

static void reply_budget(struct call *c, const char *account)
{
    const struct directory_budget *b = rows_budget(c->rows, account);
    const struct config_budget *f = budget_of_file(c->file, account);

    if (f)
        api_reply_json(c->reply, json_account(c->rq->gw, account, f, true, 0));
    else if (b)
        api_reply_json(c->reply, json_account(c->rq->gw, account, &b->budget, false, b->updated_at));
    else
        (void)call_refuse(c, ERR_NOT_FOUND, "account '%s' has no budget", account);
}

void api_budget(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *account;

    (void)call_begin(&c, rq, reply, NULL, 0);
    account = path_account(&c);
    if (account)
        reply_budget(&c, account);
    call_end(&c);
}

static const char *or_else(const struct field_value *v, const char *text)
{
    return v->text ? v->text : text;
}

static enum err_code write_budget(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    const struct field_value *v = c->v;
    struct db_value row[] = {db_textz(c->id),
                             db_int(v[B_LIMIT].i),
                             db_textz(or_else(&v[B_PERIOD], "month")),
                             db_int(v[B_WARN].is_given ? v[B_WARN].i : 80),
                             db_textz(or_else(&v[B_AT_LIMIT], "block")),
                             db_textz(or_else(&v[B_STORE_DOWN], "bounded")),
                             db_int(now_s)};

    return db_exec(db, "budget_put",
                   "INSERT INTO budgets (account, limit_nano, period, warn_percent, at_limit, "
                   "when_store_down, created_at, "
                   "updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (account) DO UPDATE SET "
                   "limit_nano = $2, "
                   "period = $3, warn_percent = $4, at_limit = $5, when_store_down = $6, updated_at = $7",
                   row, ARRAY_LEN(row), NULL, err);
}

static void note_budget(struct call *c, const char *account)
{
    const struct directory_budget *was = rows_budget(c->rows, account);

    if (was)
        (void)json_object_set_new(c->detail, "was", json_budget(&was->budget));
}

void api_budget_put(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *account;

    if (!call_begin(&c, rq, reply, BUDGET_FIELDS, B_COUNT))
        return;
    account = path_account(&c);
    if (account)
        note_budget(&c, account);
    if (account && budget_of_file(c.file, account))
        (void)call_refuse(&c, ERR_CONFLICT, "the budget of account '%s' is set in the file", account);
    else if (account && call_change(&c, "budget.put", account, write_budget))
        reply_budget(&c, account);
    call_end(&c);
}

static enum err_code write_budget_delete(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    int64_t changed = 0;
    enum err_code e = db_exec(db, "budget_delete", "DELETE FROM budgets WHERE account = $1",
                              (struct db_value[]){db_textz(c->id)}, 1, &changed, err);

    (void)now_s;
    return e || changed ? e
                        : err_set(err, ERR_NOT_FOUND, "account '%s' has no budget in the database", c->id);
}

void api_budget_delete(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *account;

    (void)call_begin(&c, rq, reply, NULL, 0);
    account = path_account(&c);
    if (account)
        note_budget(&c, account);
    if (account && call_change(&c, "budget.delete", account, write_budget_delete))
        call_reply_deleted(&c, "account", account);
    call_end(&c);
}
