/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants, and what all calls on the directory share. On the directory's thread, so a call may wait for the database. What is
 * checked before the transaction is for good messages; what must hold is checked in it again. */
#include <stdarg.h>
#include <stdlib.h>

#include "gatewayd/api/api_directory_priv.h"
#include "gatewayd/api/bodies_priv.h"
#include "gatewayd/config/value.h"
#include "gatewayd/telemetry/events.h"

/* ---- calls ----------------------------------------------------------------------------------------------------------- */

static void take_reason(struct call *c, const struct field *fields, size_t n)
{
    char text[520];

    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i].name, "reason") == 0)
            c->reason = c->v[i].text;
    if (!n && api_query_param(c->rq->query, "reason", text, sizeof(text)))
        (void)json_object_set_new(c->detail, "reason",
                                  json_string(text)); /* NULL, so nothing, when it is no UTF-8 */
    else if (c->reason)
        (void)json_object_set_new(c->detail, "reason", json_string(c->reason));
}

static void take_set(struct call *c)
{
    json_t *set = json_deep_copy(c->body);

    (void)json_object_del(set, "reason");
    (void)json_object_set_new(c->detail, "set", set);
}

/* The chain of hashes is over texts and whole numbers: a floating number has more than one spelling. */
static void no_reals(json_t *o)
{
    const char *name;
    json_t *v;
    void *tmp;

    json_object_foreach_safe(o, tmp, name, v)
    {
        if (json_is_object(v)) {
            no_reals(v);
        } else if (json_is_real(v)) {
            char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

            (void)json_object_set_new(o, name, json_string(text ? text : ""));
            free(text);
        }
    }
}

bool call_begin(struct call *c, const struct api_request *rq, struct api_reply *reply,
                const struct field *fields, size_t n)
{
    enum err_code e = ERR_OK;
    char dry[8];

    *c = (struct call){.rq = rq, .reply = reply, .d = gateway_directory(rq->gw)};
    if (n)
        e = fields_read(rq->body, fields, n, c->v, &c->body, &c->err);
    if (e) {
        call_fail(c, e);
        return false;
    }
    c->rows = directory_rows(c->d);
    c->file = directory_file_ref(c->d);
    c->joined = gateway_config_ref_mt(rq->gw);
    c->detail = json_object();
    c->is_dry = api_query_param(rq->query, "dry_run", dry, sizeof(dry)) && strcmp(dry, "true") == 0;
    take_reason(c, fields, n);
    if (n)
        take_set(c);
    return true;
}

/* {"dry_run":true,"was":…, and what the reply of the change itself would have. */
static void mark_dry(struct call *c)
{
    struct buf marked = {.max = c->reply->body.max};
    const json_t *was = json_object_get(c->detail, "was");
    char *text = was ? json_dumps(was, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    struct span rest = buf_span(&c->reply->body);

    if (c->reply->status / 100 == 2 && rest.len > 2 && rest.p[0] == '{') {
        buf_addf(&marked, "{\"dry_run\":true,\"was\":%s,", text ? text : "null");
        buf_add(&marked, span_make(rest.p + 1, rest.len - 1));
        buf_release(&c->reply->body);
        c->reply->body = marked;
        c->reply->status = 200;
    }
    free(text);
}

void call_end(struct call *c)
{
    if (c->is_dry)
        mark_dry(c);
    directory_would_release(&c->would);
    json_decref(c->body);
    json_decref(c->detail);
    config_unref(c->file);
    config_unref(c->joined);
}

void call_fail(struct call *c, enum err_code e)
{
    api_reply_error(c->reply, e, "%s", err_text(&c->err));
}

bool call_refuse(struct call *c, enum err_code e, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(c->err.text, sizeof(c->err.text), fmt, ap);
    va_end(ap);
    c->err.code = e;
    call_fail(c, e);
    return false;
}

/* "key.revoke" of "acme/web" by "token". */
static void tell_change(const struct call *c, const char *action, const char *subject)
{
    enum event_kind kind = strncmp(action, "key.", 4) == 0      ? EVENT_KEY
                           : strncmp(action, "budget.", 7) == 0 ? EVENT_BUDGET
                                                                : EVENT_CONFIG;
    const char *reason = json_string_value(json_object_get(c->detail, "reason"));
    struct event ev;

    event_make(&ev, kind, EVENT_INFO, subject, "%s by '%s'%s%.150s", action, c->rq->actor, reason ? ": " : "",
               reason ? reason : "");
    event_add_text(&ev, "action", action);
    event_add_text(&ev, "actor", c->rq->actor);
    events_tell_mt(gateway_events_mt(c->rq->gw), &ev);
}

bool call_change(struct call *c, const char *action, const char *subject,
                 enum err_code (*write)(struct db *db, int64_t now_s, void *user, struct err *err))
{
    struct directory_change change = {
        .actor = c->rq->actor, .action = action, .subject = subject, .write = write, .user = c};
    enum err_code e;
    json_t *detail = json_deep_copy(c->detail);

    no_reals(detail);
    change.detail = detail;
    e = c->is_dry ? directory_try(c->d, &change, &c->would, &c->err)
                  : directory_change(c->d, &change, &c->err);
    json_decref(detail);
    if (e) {
        call_fail(c, e);
        return false;
    }
    if (!c->is_dry)
        tell_change(c, action, subject);
    c->rows = c->is_dry ? c->would.rows : directory_rows(c->d);
    config_unref(c->joined);
    c->joined = c->is_dry ? config_ref(c->would.joined) : gateway_config_ref_mt(c->rq->gw);
    return true;
}

void call_note_was(struct call *c, json_t *was)
{
    (void)json_object_set_new(c->detail, "was", was);
}

static bool note_row(void *user, const struct db_value *columns, unsigned n)
{
    (void)columns;
    (void)n;
    *(bool *)user = true;
    return false;
}

enum err_code call_has_row(struct db *db, const char *what, const char *sql, const struct db_value *params,
                           unsigned n, bool *out, struct err *err)
{
    *out = false;
    return db_query(db, what, sql, params, n, note_row, out, err);
}

void sets_add(struct sets *s, const char *column, struct db_value v)
{
    s->v[s->n++] = v;
    buf_addf(&s->sql, "%s%s = $%u", s->n > 1 ? ", " : "", column, s->n);
}

json_t *json_seconds(int64_t s)
{
    return api_json_time((struct wall){s * 1000000});
}

json_t *api_json_choice(const char *choices, unsigned at)
{
    struct span word = value_choice_at(choices, at);

    return json_stringn(word.p, word.len);
}

/* One alone is a number. */
json_t *api_json_levels(const struct config_levels *l)
{
    json_t *list;

    if (l->n == 1)
        return json_integer(l->percent[0]);
    list = json_array();
    for (unsigned i = 0; i < l->n; i++)
        (void)json_array_append_new(list, json_integer(l->percent[i]));
    return list;
}

json_t *json_budget(const struct config_budget *b)
{
    json_t *o = json_object();

    api_set_cost(o, "limit_usd", "limit_nanousd", b->limit_nanousd);
    (void)json_object_set_new(o, "period", json_string(period_name(b->period)));
    (void)json_object_set_new(o, "timezone", json_string(zone_name(b->zone)));
    (void)json_object_set_new(o, "warn", api_json_levels(&b->warn));
    (void)json_object_set_new(o, "at_limit", api_json_choice(AT_LIMIT_CHOICES, b->at_limit));
    (void)json_object_set_new(o, "when_store_down", api_json_choice(STORE_DOWN_CHOICES, b->when_store_down));
    (void)json_object_set_new(o, "cut_streams", json_boolean(b->cuts_streams));
    return o;
}

static char *models_text(const struct field_value *v)
{
    return v->list ? json_dumps(v->list, JSON_COMPACT) : strdup("");
}

const char *call_path_id(struct call *c, const char *what)
{
    if (!value_is_name(c->rq->tail)) {
        (void)call_refuse(c, ERR_NOT_FOUND, "there is no such %s", what);
        return NULL;
    }
    (void)span_copy(c->id, sizeof(c->id), c->rq->tail);
    return c->id;
}

void call_reply_deleted(struct call *c, const char *what, const char *id)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "status", json_string("deleted"));
    (void)json_object_set_new(o, what, json_string(id));
    api_reply_json(c->reply, o);
}

const struct config_tenant *call_tenant(const struct config *c, const char *id)
{
    for (size_t i = 0; i < c->n_tenants; i++)
        if (strcmp(c->tenants[i].id, id) == 0)
            return &c->tenants[i];
    return NULL;
}

/* ---- tenants --------------------------------------------------------------------------------------------------------- */

enum { T_PLAN, T_NAME, T_ENABLED, T_MODELS, T_RPM, T_TPM, T_CONCURRENT, T_REASON, T_ID, T_COUNT };

#define LIMIT_FIELD(NAME, MOST)                                                                              \
    {                                                                                                        \
        .name = NAME, .type = FIELD_COUNT, .may_be_null = true, .max = MOST                                  \
    }

static const struct field TENANT_FIELDS[T_COUNT] = {
    [T_PLAN] = {.name = "plan", .type = FIELD_NAME},
    [T_NAME] = {.name = "name", .type = FIELD_TEXT},
    [T_ENABLED] = {.name = "enabled", .type = FIELD_BOOL},
    [T_MODELS] = {.name = "models", .type = FIELD_MODELS, .may_be_null = true},
    [T_RPM] = LIMIT_FIELD("rpm", 1000000000),
    [T_TPM] = LIMIT_FIELD("tpm", 1000000000000),
    [T_CONCURRENT] = LIMIT_FIELD("concurrent", 1000000),
    [T_REASON] = FIELD_REASON,
    [T_ID] = {.name = "id", .type = FIELD_NAME, .is_required = true}, /* of a new one only */
};
const struct api_body BODY_TENANT_NEW = {TENANT_FIELDS, T_COUNT};
const struct api_body BODY_TENANT = {TENANT_FIELDS, T_ID};

static json_t *json_models(const struct config_tenant *t)
{
    json_t *list = json_array();

    for (size_t i = 0; i < t->n_models; i++)
        (void)json_array_append_new(list, json_string(t->models[i]));
    return list;
}

static size_t count_keys(const struct config *c, const struct config_tenant *t)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_keys; i++)
        n += c->keys[i].tenant == t && !c->keys[i].is_revoked;
    return n;
}

/* What counts: limits are the plan's where the tenant has none of its own. */
static json_t *json_tenant(const struct call *c, const struct config_tenant *t)
{
    const struct directory_tenant *row = rows_tenant(c->rows, t->id);
    bool is_file = call_tenant(c->file, t->id) != NULL;
    json_t *o = json_object();

    (void)json_object_set_new(o, "id", json_string(t->id));
    (void)json_object_set_new(o, "name", json_string(row && !is_file ? row->name : ""));
    (void)json_object_set_new(o, "plan", json_string(t->plan));
    (void)json_object_set_new(o, "enabled", json_boolean(t->is_enabled));
    (void)json_object_set_new(o, "source", json_string(is_file ? "file" : "database"));
    (void)json_object_set_new(o, "models", t->models ? json_models(t) : json_null());
    (void)json_object_set_new(o, "rpm", api_json_count(t->limits.rpm));
    (void)json_object_set_new(o, "tpm", api_json_count(t->limits.tpm));
    (void)json_object_set_new(o, "concurrent", api_json_count(t->limits.concurrent));
    (void)json_object_set_new(o, "budget", t->budget.limit_nanousd ? json_budget(&t->budget) : json_null());
    (void)json_object_set_new(o, "keys", api_json_count(count_keys(c->joined, t)));
    (void)json_object_set_new(o, "created_at", row && !is_file ? json_seconds(row->created_at) : json_null());
    (void)json_object_set_new(o, "updated_at", row && !is_file ? json_seconds(row->updated_at) : json_null());
    return o;
}

void api_tenants(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    json_t *o, *list = json_array();

    (void)call_begin(&c, rq, reply, NULL, 0);
    for (size_t i = 0; i < c.joined->n_tenants; i++)
        (void)json_array_append_new(list, json_tenant(&c, &c.joined->tenants[i]));
    o = json_object();
    (void)json_object_set_new(o, "tenants", list);
    (void)json_object_set_new(o, "complete", json_boolean(directory_has_answered(c.d)));
    api_reply_json(reply, o);
    call_end(&c);
}

static void reply_tenant(struct call *c, const char *id)
{
    const struct config_tenant *t = call_tenant(c->joined, id);

    if (t)
        api_reply_json(c->reply, json_tenant(c, t));
    else
        (void)call_refuse(c, ERR_NOT_FOUND, "tenant '%.64s' does not exist", id);
}

void api_tenant(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *id;

    (void)call_begin(&c, rq, reply, NULL, 0);
    id = call_path_id(&c, "tenant");
    if (id)
        reply_tenant(&c, id);
    call_end(&c);
}

static enum err_code need_plan(struct db *db, const char *plan, struct err *err)
{
    bool found = false;
    enum err_code e;

    if (strcmp(plan, "default") == 0)
        return ERR_OK;
    e = call_has_row(db, "plan_exists", "SELECT 1 FROM plans WHERE id = $1 AND deleted_at IS NULL",
                     (struct db_value[]){db_textz(plan)}, 1, &found, err);
    if (!e && !found)
        return err_set(err, ERR_CONFLICT, "plan '%s' does not exist", plan);
    return e;
}

static struct db_value own_limit(const struct field_value *v)
{
    return v->is_given && !v->is_null ? db_int(v->i) : db_null();
}

/* By its name, or because it says so. */
static enum err_code plan_is_trial(struct db *db, const char *plan, bool *out, struct err *err)
{
    enum err_code e = call_has_row(db, "plan_is_trial", "SELECT 1 FROM plans WHERE id = $1 AND is_trial <> 0",
                                   (struct db_value[]){db_textz(plan)}, 1, out, err);

    *out |= strcmp(plan, "trial") == 0;
    return e;
}

static enum err_code event_created(struct db *db, int64_t now_s, const char *id, const char *plan,
                                   struct err *err)
{
    json_t *detail = json_pack("{s:s}", "plan", plan);
    bool is_trial = false;
    enum err_code e = plan_is_trial(db, plan, &is_trial, err);

    if (is_trial)
        (void)json_object_set_new(detail, "trial", json_true());
    if (!e)
        e = directory_event(db, now_s, id, "created", detail, err);

    json_decref(detail);
    return e;
}

/* The row may be there: deleted, or only a suspension of a tenant that the file does not define any more. */
static enum err_code write_new_tenant(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    const char *id = c->v[T_ID].text, *plan = c->v[T_PLAN].text ? c->v[T_PLAN].text : "default";
    char *models = models_text(&c->v[T_MODELS]);
    struct db_value v[] = {db_textz(id),
                           db_textz(plan),
                           db_textz(c->v[T_NAME].text ? c->v[T_NAME].text : ""),
                           db_int(!c->v[T_ENABLED].is_given || c->v[T_ENABLED].i),
                           db_textz(models ? models : "[]"),
                           own_limit(&c->v[T_RPM]),
                           own_limit(&c->v[T_TPM]),
                           own_limit(&c->v[T_CONCURRENT]),
                           db_int(now_s)};
    bool found = false;
    enum err_code e = call_has_row(
        db, "tenant_exists", "SELECT 1 FROM tenants WHERE id = $1 AND deleted_at IS NULL AND plan <> ''", v,
        1, &found, err);

    if (!e && found)
        e = err_set(err, ERR_CONFLICT, "tenant '%s' exists", id);
    if (!e)
        e = need_plan(db, plan, err);
    if (!e)
        e = db_exec(db, "tenant_insert",
                    "INSERT INTO tenants (id, plan, name, is_enabled, models, rpm, tpm, concurrent, "
                    "created_at, updated_at) "
                    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) ON CONFLICT (id) DO UPDATE SET plan = "
                    "$2, name = $3, "
                    "is_enabled = $4, models = $5, rpm = $6, tpm = $7, concurrent = $8, created_at = $9, "
                    "updated_at = $9, "
                    "deleted_at = NULL",
                    v, ARRAY_LEN(v), NULL, err);
    free(models);
    return e ? e : event_created(db, now_s, id, plan, err);
}

void api_tenant_create(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *id;

    if (!call_begin(&c, rq, reply, TENANT_FIELDS, T_COUNT))
        return;
    id = c.v[T_ID].text;
    if (call_tenant(c.file, id))
        (void)call_refuse(&c, ERR_CONFLICT, "tenant '%s' is defined in the file", id);
    else if (c.rows->n_tenants >= LIMIT_DIRECTORY_ROWS)
        (void)call_refuse(&c, ERR_CONFLICT, "there are %u tenants, which is the most", LIMIT_DIRECTORY_ROWS);
    else if (call_change(&c, "tenant.create", id, write_new_tenant)) {
        if (!c.is_dry)
            directory_note_plan(c.d, NULL, c.v[T_PLAN].text ? c.v[T_PLAN].text : "default");
        reply->status = 201;
        reply_tenant(&c, id);
    }
    call_end(&c);
}

static enum err_code event_plan(struct db *db, int64_t now_s, const char *id, const char *from,
                                const char *to, struct err *err)
{
    json_t *detail = json_pack("{s:s, s:s}", "from", from, "to", to);
    bool was_trial = false, is_trial = false;
    enum err_code e = directory_event(db, now_s, id, "plan_changed", detail, err);

    if (!e)
        e = plan_is_trial(db, from, &was_trial, err);
    if (!e)
        e = plan_is_trial(db, to, &is_trial, err);
    if (!e && was_trial && !is_trial)
        e = directory_event(db, now_s, id, "converted", detail, err);

    json_decref(detail);
    return e;
}

static bool is_enabled_column(void *user, const struct db_value *columns, unsigned n)
{
    struct directory_tenant *was = user;

    if (n == 2 && columns[0].type == DB_INT && columns[1].type == DB_TEXT) {
        was->is_enabled = columns[0].i != 0;
        was->plan = strndup(columns[1].s.p ? columns[1].s.p : "", columns[1].s.len);
    }
    return false;
}

static enum err_code write_events(struct db *db, int64_t now_s, const struct call *c, const char *id,
                                  const struct directory_tenant *was, struct err *err)
{
    const struct field_value *v = c->v;
    enum err_code e = ERR_OK;

    if (v[T_PLAN].is_given && strcmp(v[T_PLAN].text, was->plan) != 0)
        e = event_plan(db, now_s, id, was->plan, v[T_PLAN].text, err);
    if (!e && v[T_ENABLED].is_given && (v[T_ENABLED].i != 0) != was->is_enabled)
        e = directory_event(db, now_s, id, v[T_ENABLED].i ? "resumed" : "suspended", NULL, err);
    return e;
}

static void add_given(struct sets *s, const struct field_value *v, const char *models, int64_t now_s)
{
    s->sql.max = 4096;
    if (v[T_PLAN].is_given)
        sets_add(s, "plan", db_textz(v[T_PLAN].text));
    if (v[T_NAME].is_given)
        sets_add(s, "name", db_textz(v[T_NAME].text));
    if (v[T_ENABLED].is_given)
        sets_add(s, "is_enabled", db_int(v[T_ENABLED].i));
    if (v[T_MODELS].is_given)
        sets_add(s, "models", db_textz(models));
    if (v[T_RPM].is_given)
        sets_add(s, "rpm", own_limit(&v[T_RPM]));
    if (v[T_TPM].is_given)
        sets_add(s, "tpm", own_limit(&v[T_TPM]));
    if (v[T_CONCURRENT].is_given)
        sets_add(s, "concurrent", own_limit(&v[T_CONCURRENT]));
    sets_add(s, "updated_at", db_int(now_s));
}

static enum err_code update_tenant(struct db *db, int64_t now_s, const struct call *c, const char *id,
                                   struct err *err)
{
    char *models = models_text(&c->v[T_MODELS]), sql[4200];
    struct sets s = {0};
    enum err_code e;

    add_given(&s, c->v, models ? models : "[]", now_s);
    s.v[s.n] = db_textz(id);
    (void)snprintf(sql, sizeof(sql), "UPDATE tenants SET %s WHERE id = $%u AND deleted_at IS NULL", s.sql.p,
                   s.n + 1);
    e = db_exec(db, "tenant_update", sql, s.v, s.n + 1, NULL, err);
    buf_release(&s.sql);
    free(models);
    return e;
}

static enum err_code write_tenant(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    const char *id = c->id;
    struct directory_tenant was = {0};
    enum err_code e;

    e = db_query(db, "tenant_was",
                 "SELECT is_enabled, plan FROM tenants WHERE id = $1 AND deleted_at IS NULL AND plan <> ''",
                 (struct db_value[]){db_textz(id)}, 1, is_enabled_column, &was, err);
    if (!e && !was.plan)
        return err_set(err, ERR_NOT_FOUND, "tenant '%s' does not exist", id);
    if (!e && c->v[T_PLAN].is_given)
        e = need_plan(db, c->v[T_PLAN].text, err);
    if (!e)
        e = update_tenant(db, now_s, c, id, err);
    if (!e)
        e = write_events(db, now_s, c, id, &was, err);
    free((char *)(uintptr_t)was.plan);
    return e;
}

/* A row without a plan says nothing but that the file's tenant is suspended. */
static enum err_code write_suspension(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    const char *id = c->id;
    bool is_enabled = c->v[T_ENABLED].i != 0;
    enum err_code e;

    e = db_exec(db, "tenant_suspend",
                "INSERT INTO tenants (id, plan, name, is_enabled, models, created_at, updated_at) VALUES "
                "($1, '', '', $2, "
                "'', $3, $3) ON CONFLICT (id) DO UPDATE SET is_enabled = $2, updated_at = $3, plan = "
                "CASE WHEN tenants.deleted_at IS NULL THEN tenants.plan ELSE '' END, deleted_at = NULL",
                (struct db_value[]){db_textz(id), db_int(is_enabled), db_int(now_s)}, 3, NULL, err);
    return e ? e : directory_event(db, now_s, id, is_enabled ? "resumed" : "suspended", NULL, err);
}

static bool only_enabled(const struct call *c)
{
    for (unsigned i = 0; i < T_REASON; i++)
        if (c->v[i].is_given != (i == T_ENABLED))
            return false;
    return true;
}

static void note_was(struct call *c, const char *id)
{
    const struct config_tenant *t = call_tenant(c->joined, id);
    json_t *was = t ? json_tenant(c, t) : NULL;

    if (!was)
        return;
    (void)json_object_del(was, "budget");
    call_note_was(c, was);
}

static char *plan_of(const struct call *c, const char *id)
{
    const struct directory_tenant *t = id ? rows_tenant(c->rows, id) : NULL;

    return t ? strdup(t->plan) : NULL;
}

void api_tenant_update(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *id;
    char *was;
    bool is_done = false;

    if (!call_begin(&c, rq, reply, TENANT_FIELDS, T_ID))
        return;
    id = call_path_id(&c, "tenant");
    was = plan_of(&c, id);
    if (id)
        note_was(&c, id);
    if (id && call_tenant(c.file, id) && !only_enabled(&c))
        (void)call_refuse(&c, ERR_CONFLICT,
                          "tenant '%s' is defined in the file; only 'enabled' can be changed here", id);
    else if (id)
        is_done =
            call_change(&c, "tenant.update", id, call_tenant(c.file, id) ? write_suspension : write_tenant);
    if (is_done && !c.is_dry && c.v[T_PLAN].is_given && was)
        directory_note_plan(c.d, was, c.v[T_PLAN].text);
    if (is_done)
        reply_tenant(&c, id);
    free(was);
    call_end(&c);
}

static enum err_code write_delete(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    const char *id = c->id;
    int64_t changed = 0;
    enum err_code e;

    e = db_exec(db, "tenant_delete",
                "UPDATE tenants SET deleted_at = $2, updated_at = $2 WHERE id = $1 AND deleted_at IS NULL "
                "AND plan <> ''",
                (struct db_value[]){db_textz(id), db_int(now_s)}, 2, &changed, err);
    if (!e && !changed)
        return err_set(err, ERR_NOT_FOUND, "tenant '%s' does not exist", id);
    if (!e)
        e = db_exec(db, "tenant_delete_keys",
                    "UPDATE api_keys SET revoked_at = $2 WHERE tenant = $1 AND revoked_at IS NULL",
                    (struct db_value[]){db_textz(id), db_int(now_s)}, 2, NULL, err);
    return e ? e : directory_event(db, now_s, id, "deleted", NULL, err);
}

void api_tenant_delete(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *id;

    (void)call_begin(&c, rq, reply, NULL, 0);
    id = call_path_id(&c, "tenant");
    if (id)
        note_was(&c, id);
    if (id && call_tenant(c.file, id))
        (void)call_refuse(&c, ERR_CONFLICT,
                          "tenant '%s' is defined in the file; suspend it here, or take it out there", id);
    else if (id && call_change(&c, "tenant.delete", id, write_delete))
        call_reply_deleted(&c, "tenant", id);
    call_end(&c);
}
