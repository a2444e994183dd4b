/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: replaced whole, since each is one thought. On the directory's thread. */
#include <stdlib.h>

#include "gatewayd/api/api_directory_priv.h"
#include "gatewayd/api/bodies_priv.h"

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
const struct api_body BODY_PLAN = {PLAN_FIELDS, P_COUNT};

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
        call_note_was(&c, json_plan(&c, was));
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
    const struct directory_plan *was;

    (void)call_begin(&c, rq, reply, NULL, 0);
    id = call_path_id(&c, "plan");
    was = id ? rows_plan(c.rows, id) : NULL;
    if (was)
        call_note_was(&c, json_plan(&c, was));
    if (id && call_change(&c, "plan.delete", id, write_plan_delete))
        call_reply_deleted(&c, "plan", id);
    call_end(&c);
}
