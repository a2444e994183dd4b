/* SPDX-License-Identifier: Apache-2.0 */
/* One way for both sources: what the database answers becomes a document first, and only documents become rows. So what the
 * signed snapshot holds goes through the same checks. Any thread; a database handle stays with its owner. */
#include "gatewayd/directory/rows.h"

#include <stdlib.h>

#include "gatewayd/config/value.h"
#include "libshared/base/log.h"

/* ---- from the database to a document --------------------------------------------------------------------------------- */

static const struct table {
    const char *name, *columns, *rest;
} TABLES[] = {
    {"plans",
     "id,price_nano,is_trial,rpm,tpm,concurrent,budget_nano,period,created_at,deleted_at,priority,max_"
     "priority",
     "ORDER BY id"},
    {"tenants", "id,plan,name,is_enabled,models,rpm,tpm,concurrent,created_at,updated_at",
     "WHERE deleted_at IS NULL ORDER BY id"},
    {"api_keys", "tenant,id,sha256,prefix,is_enabled,created_at,expires_at,revoked_at,rpm,tpm,concurrent",
     "ORDER BY tenant, id"},
    {"budgets",
     "account,limit_nano,period,warn_percent,at_limit,when_store_down,created_at,updated_at,timezone,"
     "warn_levels,cuts_streams",
     "ORDER BY account"},
    {"budget_topups", "id,account,amount_nano,until_at,created_at", "ORDER BY account, until_at, id"},
    {"settings", "name,value", "WHERE name LIKE '" ROWS_PROVIDER "%' ORDER BY name"},
};

struct reading {
    const struct table *table;
    json_t *list;
    bool is_full;
};

static json_t *value_of(const struct db_value *v)
{
    char hex[2 * SHA256_BYTES + 1];

    switch (v->type) {
    case DB_INT:
        return json_integer(v->i);
    case DB_TEXT:
        return json_stringn(v->s.p ? v->s.p : "", v->s.len);
    case DB_BLOB:
        if (v->s.len != SHA256_BYTES)
            return json_null();
        hex_encode((const unsigned char *)v->s.p, v->s.len, hex);
        return json_string(hex);
    default:
        return json_null();
    }
}

static bool take_row(void *user, const struct db_value *columns, unsigned n)
{
    struct reading *r = user;
    struct span names = span_of(r->table->columns);
    json_t *o = json_object();

    if (json_array_size(r->list) >= LIMIT_DIRECTORY_ROWS) {
        r->is_full = true;
        json_decref(o);
        return false;
    }
    for (unsigned i = 0; i < n && names.p; i++) {
        struct span name = span_split(&names, ',');

        (void)json_object_setn_new(o, name.p, name.len, value_of(&columns[i]));
    }
    (void)json_array_append_new(r->list, o);
    return true;
}

static bool take_version(void *user, const struct db_value *columns, unsigned n)
{
    uint64_t v = 0;

    if (n == 1 && columns[0].type == DB_TEXT && span_to_u64(columns[0].s, &v) && v <= INT64_MAX)
        *(int64_t *)user = (int64_t)v;
    return false;
}

enum err_code rows_version(struct db *db, int64_t *out, struct err *err)
{
    int64_t version = 0;
    enum err_code e = db_query(db, "directory_version", "SELECT value FROM settings WHERE name = 'keyver'",
                               NULL, 0, take_version, &version, err);

    if (!e)
        *out = version;
    return e;
}

static enum err_code load_table(struct db *db, const struct table *t, json_t *doc, struct err *err)
{
    struct reading r = {.table = t, .list = json_array()};
    char sql[512], what[64];
    enum err_code e;

    (void)json_object_set_new(doc, t->name, r.list);
    (void)snprintf(sql, sizeof(sql), "SELECT %s FROM %s %s", t->columns, t->name, t->rest);
    (void)snprintf(what, sizeof(what), "directory_%s", t->name);
    e = db_query(db, what, sql, NULL, 0, take_row, &r, err);
    if (!e && r.is_full)
        return err_set(err, ERR_TOO_LARGE, "table '%s' has more than %u rows", t->name, LIMIT_DIRECTORY_ROWS);
    return e;
}

enum err_code rows_load(struct db *db, json_t **out, struct err *err)
{
    json_t *doc = json_object();
    int64_t version = 0;
    enum err_code e = rows_version(db, &version, err); /* first: rows may be newer than it, never older */

    (void)json_object_set_new(doc, "version", json_integer(version));
    for (size_t i = 0; i < ARRAY_LEN(TABLES) && !e; i++)
        e = load_table(db, &TABLES[i], doc, err);
    if (e)
        json_decref(doc);
    else
        *out = doc;
    return e;
}

#define YEAR_9999 253402300799

/* ---- from a document to rows ----------------------------------------------------------------------------------------- */

struct maker {
    struct arena *a;
    const json_t *o; /* the row */
    bool is_bad;
};

static int64_t integer(struct maker *m, const char *name, int64_t least)
{
    const json_t *v = json_object_get(m->o, name);

    m->is_bad |= !json_is_integer(v) || json_integer_value(v) < least;
    return json_integer_value(v);
}

static int64_t optional(struct maker *m, const char *name, int64_t none)
{
    return json_is_null(json_object_get(m->o, name)) ? none : integer(m, name, 0);
}

/* A column that snapshots of older releases have not; 0 there, and where it is null. */
static int64_t later(struct maker *m, const char *name)
{
    return json_object_get(m->o, name) ? optional(m, name, 0) : 0;
}

static struct span text(struct maker *m, const char *name)
{
    const json_t *v = json_object_get(m->o, name);

    m->is_bad |= !json_is_string(v);
    return json_is_string(v) ? span_make(json_string_value(v), json_string_length(v)) : SPAN_LIT("");
}

static const char *printable(struct maker *m, const char *name, size_t max)
{
    struct span s = text(m, name);

    m->is_bad |= s.len > max || !value_is_printable(s);
    return arena_dup(m->a, s);
}

static const char *name_of(struct maker *m, const char *name)
{
    struct span s = text(m, name);

    m->is_bad |= !value_is_name(s);
    return arena_dup(m->a, s);
}

static unsigned choice(struct maker *m, const char *name, const char *choices)
{
    unsigned at = 0;

    m->is_bad |= !value_choice(text(m, name), choices, &at);
    return at;
}

static enum period period(struct maker *m)
{
    enum period p = PERIOD_MONTH;

    m->is_bad |= !period_parse(text(m, "period"), &p);
    return p;
}

static unsigned rank(struct maker *m, const char *name)
{
    int64_t v = later(m, name);

    m->is_bad |= v > 5;
    return (unsigned)v;
}

static void make_plan(struct maker *m, void *row)
{
    struct directory_plan *p = row;

    p->id = name_of(m, "id");
    p->price_nano = integer(m, "price_nano", 0);
    p->is_trial = integer(m, "is_trial", 0) != 0;
    p->rpm = integer(m, "rpm", 0);
    p->tpm = integer(m, "tpm", 0);
    p->concurrent = integer(m, "concurrent", 0);
    p->budget_nano = integer(m, "budget_nano", 0);
    p->period = period(m);
    p->created_at = integer(m, "created_at", 0);
    p->is_deleted = optional(m, "deleted_at", 0) != 0;
    p->priority = rank(m, "priority");
    p->max_priority = rank(m, "max_priority");
}

/* "" is all models; anything that is no list of names is none, never all. */
static void make_models(struct maker *m, struct directory_tenant *t)
{
    struct span s = text(m, "models");
    json_t *list = s.len ? json_loadb(s.p, s.len, 0, NULL) : NULL;
    const char **out;

    if (!s.len)
        return;
    out = arena_array(m->a, const char *, json_array_size(list) + 1);
    t->models = out;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);

        if (json_string_length(v) &&
            value_is_printable(span_make(json_string_value(v), json_string_length(v))))
            out[t->n_models++] = arena_dup(m->a, span_of(json_string_value(v)));
    }
    json_decref(list);
}

static void make_tenant(struct maker *m, void *row)
{
    struct directory_tenant *t = row;

    t->id = name_of(m, "id");
    t->plan = text(m, "plan").len ? name_of(m, "plan") : "";
    t->name = printable(m, "name", 256);
    t->is_enabled = integer(m, "is_enabled", 0) != 0;
    make_models(m, t);
    t->rpm = optional(m, "rpm", -1);
    t->tpm = optional(m, "tpm", -1);
    t->concurrent = optional(m, "concurrent", -1);
    t->created_at = integer(m, "created_at", 0);
    t->updated_at = integer(m, "updated_at", 0);
}

static void make_key(struct maker *m, void *row)
{
    struct directory_key *k = row;
    struct span id = text(m, "id"), name = id;

    k->tenant = name_of(m, "tenant");
    k->id = printable(m, "id", 2 * LIMIT_NAME_BYTES);
    name = span_split(&id, '~');
    m->is_bad |= !value_is_name(name);
    k->name = arena_dup(m->a, name);
    k->prefix = printable(m, "prefix", 16);
    m->is_bad |= !hex_decode(text(m, "sha256"), k->sha256, SHA256_BYTES);
    k->is_enabled = integer(m, "is_enabled", 0) != 0;
    k->created_at = integer(m, "created_at", 0);
    k->expires_at = optional(m, "expires_at", 0);
    m->is_bad |= k->expires_at > YEAR_9999; /* it is counted in microseconds later */
    k->revoked_at = optional(m, "revoked_at", 0);
    k->limits = (struct config_limits){.rpm = (uint64_t)later(m, "rpm"),
                                       .tpm = (uint64_t)later(m, "tpm"),
                                       .concurrent = (uint64_t)later(m, "concurrent")};
}

/* A zone that is not installed here counts as UTC: the budget goes on to hold. */
static const struct zone *zone_of(struct maker *m)
{
    const json_t *v = json_object_get(m->o, "timezone");
    const struct zone *z = NULL;
    struct err err = {0};

    if (json_is_string(v) && zone_find_mt(span_of(json_string_value(v)), &z, &err))
        log_warn("directory: the budget of '%s' counts by UTC: %s",
                 json_string_value(json_object_get(m->o, "account")) ?: "", err_text(&err));
    return z;
}

static struct config_levels levels_of(struct maker *m)
{
    const char *text = json_string_value(json_object_get(m->o, "warn_levels"));
    int64_t percent = integer(m, "warn_percent", 1);
    struct config_levels l = {1, {(unsigned char)(percent <= 100 ? percent : 100)}};

    if (text && text[0])
        m->is_bad |= !value_levels(span_of(text), &l);
    return l;
}

static void make_budget(struct maker *m, void *row)
{
    struct directory_budget *b = row;

    m->is_bad |= !rows_is_account(text(m, "account"));
    b->account = arena_dup(m->a, text(m, "account"));
    b->budget.limit_nanousd = integer(m, "limit_nano", 0);
    b->budget.period = period(m);
    b->budget.zone = zone_of(m);
    b->budget.warn = levels_of(m);
    b->budget.cuts_streams = later(m, "cuts_streams") != 0;
    b->budget.at_limit = (enum at_limit)choice(m, "at_limit", AT_LIMIT_CHOICES);
    b->budget.when_store_down = (enum store_down)choice(m, "when_store_down", STORE_DOWN_CHOICES);
    b->created_at = integer(m, "created_at", 0);
    b->updated_at = integer(m, "updated_at", 0);
}

static void make_topup(struct maker *m, void *row)
{
    struct directory_topup *t = row;

    m->is_bad |= !rows_is_account(text(m, "account"));
    t->account = arena_dup(m->a, text(m, "account"));
    t->id = printable(m, "id", 64);
    t->amount_nano = integer(m, "amount_nano", 1);
    t->until_at = integer(m, "until_at", 0);
    m->is_bad |= t->until_at > YEAR_9999;
    t->created_at = integer(m, "created_at", 0);
}

static int64_t wall_us(const json_t *o, const char *name)
{
    json_int_t us = json_integer_value(json_object_get(o, name));

    return us > 0 && us / 1000000 <= YEAR_9999 ? us : 0;
}

static const char *short_text(struct maker *m, const json_t *o, const char *name)
{
    const char *z = json_string_value(json_object_get(o, name));

    return arena_dup(m->a, span_of(z && strlen(z) <= 512 && value_is_printable(span_of(z)) ? z : ""));
}

static void make_state(struct maker *m, void *row)
{
    struct config_provider_state *s = row;
    struct span name = text(m, "name"), value = text(m, "value");
    json_t *o = json_loadb(value.p, value.len, 0, NULL);
    const char *state = json_string_value(json_object_get(o, "state"));

    (void)span_split(&name, ' ');
    m->is_bad |= !name.p || !value_is_name(name) || !state;
    s->provider = arena_dup(m->a, name.p ? name : SPAN_LIT(""));
    s->state = PROVIDER_ENABLED;
    for (int i = PROVIDER_ENABLED; state && i <= PROVIDER_DISABLED; i++)
        if (strcmp(state, provider_state_name((enum provider_state)i)) == 0)
            s->state = (enum provider_state)i;
    s->at_us = wall_us(o, "at");
    s->until_us = wall_us(o, "until");
    s->reason = short_text(m, o, "reason");
    s->actor = short_text(m, o, "actor");
    json_decref(o);
}

static bool make_all(struct directory_rows *r, const json_t *doc, const char *name, size_t size,
                     void (*make)(struct maker *, void *), const void *out, size_t *out_n)
{
    const json_t *list = json_object_get(doc, name), *o;
    char *rows = arena_alloc(&r->arena, (json_array_size(list) + 1) * size);
    size_t i, n = 0;

    json_array_foreach(list, i, o)
    {
        struct maker m = {.a = &r->arena, .o = o};

        memset(rows + n * size, 0, size);
        make(&m, rows + n * size);
        r->n_bad += m.is_bad;
        n += !m.is_bad;
    }
    memcpy((void *)(uintptr_t)out, &rows, sizeof(rows));
    *out_n = n;
    return json_is_array(list);
}

struct directory_rows *rows_read(const json_t *doc)
{
    struct directory_rows *r = calloc(1, sizeof(*r));
    bool ok = json_is_integer(json_object_get(doc, "version"));

    if (!r)
        abort();
    r->version = json_integer_value(json_object_get(doc, "version"));
    ok &= make_all(r, doc, "plans", sizeof(*r->plans), make_plan, &r->plans, &r->n_plans);
    ok &= make_all(r, doc, "tenants", sizeof(*r->tenants), make_tenant, &r->tenants, &r->n_tenants);
    ok &= make_all(r, doc, "api_keys", sizeof(*r->keys), make_key, &r->keys, &r->n_keys);
    ok &= make_all(r, doc, "budgets", sizeof(*r->budgets), make_budget, &r->budgets, &r->n_budgets);
    (void)make_all(r, doc, "budget_topups", sizeof(*r->topups), make_topup, &r->topups, &r->n_topups);
    (void)make_all(r, doc, "settings", sizeof(*r->states), make_state, &r->states,
                   &r->n_states); /* an older snapshot has none */
    if (ok)
        return r;
    rows_free(r);
    return NULL;
}

void rows_free(struct directory_rows *r)
{
    if (!r)
        return;
    arena_release(&r->arena);
    free(r);
}

/* ---- looking up: for operators, so a walk does ----------------------------------------------------------------------- */

const struct directory_plan *rows_plan(const struct directory_rows *r, const char *id)
{
    for (size_t i = 0; i < r->n_plans; i++)
        if (!r->plans[i].is_deleted && strcmp(r->plans[i].id, id) == 0)
            return &r->plans[i];
    return NULL;
}

const struct directory_tenant *rows_tenant(const struct directory_rows *r, const char *id)
{
    for (size_t i = 0; i < r->n_tenants; i++)
        if (strcmp(r->tenants[i].id, id) == 0)
            return &r->tenants[i];
    return NULL;
}

const struct directory_key *rows_key(const struct directory_rows *r, const char *tenant, const char *id)
{
    for (size_t i = 0; i < r->n_keys; i++)
        if (strcmp(r->keys[i].id, id) == 0 && strcmp(r->keys[i].tenant, tenant) == 0)
            return &r->keys[i];
    return NULL;
}

const struct directory_budget *rows_budget(const struct directory_rows *r, const char *account)
{
    for (size_t i = 0; i < r->n_budgets; i++)
        if (strcmp(r->budgets[i].account, account) == 0)
            return &r->budgets[i];
    return NULL;
}

bool rows_is_account(struct span account)
{
    struct span rest = account, kind = span_split(&rest, ':');
    struct span tenant;

    if (span_is(account, "global"))
        return true;
    if (!rest.p)
        return false;
    if (span_is(kind, "tenant") || span_is(kind, "provider"))
        return value_is_name(rest);
    tenant = span_split(&rest, '/');
    return span_is(kind, "key") && rest.p && value_is_name(tenant) && value_is_name(rest);
}

/* ---- for the configuration ------------------------------------------------------------------------------------------- */

static uint64_t limit(int64_t own, int64_t of_plan)
{
    return (uint64_t)(own >= 0 ? own : of_plan);
}

static struct config_extra_tenant extra_tenant(const struct directory_rows *r,
                                               const struct directory_tenant *t)
{
    static const struct directory_plan NONE = {.period = PERIOD_MONTH};
    const struct directory_plan *p = &NONE;

    for (size_t i = 0; i < r->n_plans && t->plan[0]; i++) /* a deleted one still limits who is left in it */
        if (strcmp(r->plans[i].id, t->plan) == 0)
            p = &r->plans[i];
    return (struct config_extra_tenant){
        .id = t->id,
        .plan = t->plan,
        .is_defined = t->plan[0] != '\0',
        .is_enabled = t->is_enabled,
        .models = t->models,
        .n_models = t->n_models,
        .priority = p->priority,
        .max_priority = p->max_priority,
        .limits = {limit(t->rpm, p->rpm), limit(t->tpm, p->tpm), limit(t->concurrent, p->concurrent), false},
        .budget = {.limit_nanousd = p->budget_nano, .period = p->period, .warn = {2, {80, 95}}}};
}

static struct config_account *account_row(struct config_account *accounts, size_t *n, const char *name)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(accounts[i].account, name) == 0)
            return &accounts[i];
    accounts[*n] = (struct config_account){.account = name}; /* of a budget that is in the file */
    return &accounts[(*n)++];
}

/* They are sorted by account. */
static void add_topups(const struct directory_rows *r, struct arena *a, struct config_account *accounts,
                       size_t *n)
{
    struct config_topup *out = arena_array(a, struct config_topup, r->n_topups + 1);

    for (size_t i = 0; i < r->n_topups;) {
        struct config_account *to = account_row(accounts, n, r->topups[i].account);

        to->topups = &out[i];
        for (; i < r->n_topups && strcmp(r->topups[i].account, to->account) == 0; i++) {
            out[i] = (struct config_topup){r->topups[i].amount_nano, r->topups[i].until_at * 1000000};
            to->n_topups++;
        }
    }
}

struct config_extra rows_extra(const struct directory_rows *r, struct arena *a)
{
    struct config_extra_tenant *tenants = arena_array(a, struct config_extra_tenant, r->n_tenants + 1);
    struct config_extra_key *keys = arena_array(a, struct config_extra_key, r->n_keys + 1);
    struct config_account *accounts = arena_array(a, struct config_account, r->n_budgets + r->n_topups + 1);
    size_t n_accounts = r->n_budgets;

    for (size_t i = 0; i < r->n_tenants; i++)
        tenants[i] = extra_tenant(r, &r->tenants[i]);
    for (size_t i = 0; i < r->n_keys; i++) {
        const struct directory_key *k = &r->keys[i];

        keys[i] = (struct config_extra_key){.tenant = k->tenant,
                                            .id = k->name,
                                            .is_enabled = k->is_enabled,
                                            .is_revoked = k->revoked_at != 0,
                                            .expires_at_us = k->expires_at * 1000000,
                                            .limits = k->limits};
        memcpy(keys[i].sha256, k->sha256, SHA256_BYTES);
    }
    for (size_t i = 0; i < r->n_budgets; i++)
        accounts[i] =
            (struct config_account){.account = r->budgets[i].account, .budget = r->budgets[i].budget};
    add_topups(r, a, accounts, &n_accounts);
    return (struct config_extra){.tenants = tenants,
                                 .n_tenants = r->n_tenants,
                                 .keys = keys,
                                 .n_keys = r->n_keys,
                                 .accounts = accounts,
                                 .n_accounts = n_accounts,
                                 .provider_states = r->states,
                                 .n_provider_states = r->n_states};
}
