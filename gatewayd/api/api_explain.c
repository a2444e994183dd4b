/* SPDX-License-Identifier: Apache-2.0 */
/* Why: what became of a request and which limits it met; what an account is limited by, with the counter that decides beside the
 * ledger; what a provider's state is made of. On the directory's thread, since stories and the ledger are in the history store;
 * what that does not say within its deadline is null, and a warning says so. Figures of other pages are taken from these
 * pages' own handlers, so that no page contradicts another. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/limits/limits.h"
#include "gatewayd/resilience/queue.h"
#include "libshared/analytics/reconcile.h"

#define KEYS_SHOWN 20

struct call {
    const struct api_request *rq;
    struct gateway *gw;
    struct config *c;
    char what[BUDGET_ACCOUNT + LIMIT_MODEL_BYTES];
    json_t *doc, *warnings;
};

static void set(json_t *o, const char *name, json_t *v)
{
    (void)json_object_set_new(o, name, v);
}

static void warn(struct call *k, const char *what, const struct err *err)
{
    char text[400];

    (void)snprintf(text, sizeof(text), "%s: %.300s", what, err_text(err));
    (void)json_array_append_new(k->warnings, json_string(text));
}

/* ---- checks ---------------------------------------------------------------------------------------------------------- */

static json_t *json_row(const struct explain_row *r)
{
    struct buf text AUTO(buf_release) = {.max = 2048};
    json_t *o;

    explain_json(r, &text);
    o = json_loadb(text.p, text.len, 0, NULL);
    if (o)
        set(o, "source", json_string(r->source ? r->source : "local"));
    return o;
}

static void add_rows(json_t *list, const struct explain *x)
{
    for (unsigned i = 0; i < x->n; i++)
        (void)json_array_append_new(list, json_row(&x->row[i]));
}

static void add_checks_of(struct call *k, json_t *list, const char *account)
{
    struct explain x = {0};

    if (limits_explain_mt(gateway_limits_mt(k->gw), account, &x))
        add_rows(list, &x);
}

/* Of the account, and of those that are asked with it. */
static json_t *chain_checks(struct call *k, const char *account)
{
    json_t *list = json_array();
    char tenant[BUDGET_ACCOUNT];
    struct span rest = span_of(account);

    add_checks_of(k, list, account);
    if (strncmp(account, "key:", 4) == 0) {
        (void)span_split(&rest, ':');
        rest = span_split(&rest, '/');
        (void)snprintf(tenant, sizeof(tenant), "tenant:%.*s", (int)rest.len, rest.p);
        add_checks_of(k, list, tenant);
    }
    if (strncmp(account, "key:", 4) == 0 || strncmp(account, "tenant:", 7) == 0)
        add_checks_of(k, list, "global");
    return list;
}

/* ---- a request ------------------------------------------------------------------------------------------------------- */

static bool take_story(void *user, const struct db_value *v, unsigned n)
{
    if (n == 1)
        *(json_t **)user = json_loadb(v[0].s.p, v[0].s.len, 0, NULL);
    return false;
}

static json_t *story_of(struct call *k, const char *id)
{
    struct db_value p = db_textz(id);
    struct err err = {0};
    json_t *story = NULL;

    if (db_query(gateway_reading_db(k->gw), "explain_story",
                 "SELECT CAST(story AS text) FROM requests WHERE id = $1", &p, 1, take_story, &story, &err))
        warn(k, "its story cannot be read", &err);
    return story;
}

/* What was held and what became of it. */
static json_t *money_of(const json_t *story)
{
    int64_t held = json_integer_value(json_object_get(story, "held_nanousd"));
    int64_t settled = json_integer_value(json_object_get(story, "cost_nanousd"));
    json_t *o = json_object();

    api_set_cost(o, "held_usd", "held_nanousd", held);
    api_set_cost(o, "settled_usd", "settled_nanousd", settled);
    api_set_cost(o, "given_back_usd", "given_back_nanousd", held > settled ? held - settled : 0);
    return o;
}

static bool is_request_id(const char *z)
{
    size_t n = strlen(z);

    for (size_t i = 0; i < n; i++)
        if ((i == 8 || i == 13 || i == 18 || i == 23) ? z[i] != '-' : !isxdigit((unsigned char)z[i]))
            return false;
    return n == ID_TEXT_CAP - 1;
}

static bool explain_request(struct call *k)
{
    struct explain x = {0};
    bool is_refused = limits_explain_request_mt(gateway_limits_mt(k->gw), k->what, &x);
    json_t *story = story_of(k, k->what), *checks;

    if (!is_refused && !story)
        return false;
    checks = json_array();
    add_rows(checks, &x);
    set(k->doc, "kind", json_string("request"));
    set(k->doc, "is_request", json_true());
    set(k->doc, "checks", checks);
    set(k->doc, "money", story ? money_of(story) : json_null());
    set(k->doc, "story", story ? story : json_null());
    return true;
}

/* ---- an account ------------------------------------------------------------------------------------------------------ */

struct finding {
    const char *name;
    bool is_found;
    struct limits_view view;
};

static void find_view(void *user, const struct limits_view *v)
{
    struct finding *f = user;

    if (!f->is_found && strcmp(v->scope, f->name) == 0) {
        f->is_found = true;
        f->view = *v;
    }
}

static const struct config_budget *budget_of(const struct config *c, const char *account)
{
    for (size_t i = 0; i < c->n_accounts; i++)
        if (strcmp(c->accounts[i].account, account) == 0)
            return &c->accounts[i].budget;
    for (size_t i = 0; i < c->n_tenants; i++)
        if (strncmp(account, "tenant:", 7) == 0 && strcmp(c->tenants[i].id, account + 7) == 0)
            return &c->tenants[i].budget;
    return NULL;
}

static bool take_key(void *user, const struct db_value *v, unsigned n)
{
    json_t *o = json_object();

    if (n == 2 && v[1].i) {
        set(o, "key", json_stringn(v[0].s.p, v[0].s.len));
        api_set_cost(o, "cost_usd", "cost_nanousd", v[1].i);
        (void)json_array_append(user, o);
    }
    json_decref(o);
    return true;
}

/* By which keys a tenant spent it. */
static json_t *keys_of(struct call *k, const struct limits_view *v, int64_t ledger)
{
    int64_t end = v->resets_at.us;
    struct db_value p[] = {db_textz(v->scope + 7), db_int(v->sums.start_us / 1000000),
                           db_int(end == INT64_MAX ? INT64_MAX : end / 1000000), db_int(KEYS_SHOWN)};
    struct err err = {0};
    json_t *rows = json_array(), *row;
    int64_t sum = 0;
    size_t i;

    if (db_query(gateway_reading_db(k->gw), "explain_keys",
                 "SELECT key, CAST(sum(cost_nano) AS bigint) FROM ledger WHERE tenant = $1 AND minute >= $2 "
                 "- 3600 "
                 "AND budget_hour >= $2 AND budget_hour < $3 AND kind IN ('request', 'adjust') GROUP BY key "
                 "ORDER BY 2 DESC LIMIT $4",
                 p, ARRAY_LEN(p), take_key, rows, &err)) {
        warn(k, "its keys' shares cannot be read", &err);
        json_decref(rows);
        return json_null();
    }
    /* A reset takes from the account, not from its keys: they may have more than it. */
    json_array_foreach(rows, i, row) sum += json_integer_value(json_object_get(row, "cost_nanousd"));
    if (sum < ledger)
        sum = ledger;
    json_array_foreach(rows, i, row)
        set(row, "share",
            api_json_ratio((uint64_t)json_integer_value(json_object_get(row, "cost_nanousd")),
                           sum > 0 ? (uint64_t)sum : 0));
    return rows;
}

static void add_ledger(struct call *k, json_t *o, const struct limits_view *v)
{
    int64_t lag = gateway_history_lag_us_mt(k->gw);
    struct db *db = gateway_reading_db(k->gw);
    struct reconcile_account books = {0};
    struct wall now = wall_now();
    struct err err = {0};

    set(o, "ledger_store", json_string(db_backend(db)));
    if (reconcile_account(db, v->scope, (struct wall){v->sums.start_us}, v->resets_at, &books, &err))
        warn(k, "the ledger cannot be read", &err);
    if (!books.is_known) {
        for (unsigned i = 0; i < 4; i++)
            set(o, (const char *[]){"ledger_usd", "ledger_nanousd", "drift_usd", "drift_nanousd"}[i],
                json_null());
        return;
    }
    api_set_cost(o, "ledger_usd", "ledger_nanousd", books.ledger);
    api_set_cost(o, "drift_usd", "drift_nanousd", v->sums.posted_nanousd - books.ledger);
    set(o, "ledger_through", lag < 0 ? json_null() : api_json_time((struct wall){now.us - lag}));
    set(o, "ledger_lag_ms", lag < 0 ? json_null() : json_integer(lag / 1000));
    if (strncmp(v->scope, "tenant:", 7) == 0)
        set(o, "keys", keys_of(k, v, books.ledger));
}

/* Where the counter is that decides. */
static const char *source_of(struct call *k, const char *account)
{
    struct explain x = {0};

    (void)limits_explain_mt(gateway_limits_mt(k->gw), account, &x);
    for (unsigned i = 0; i < x.n; i++)
        if (explain_is_money(&x.row[i]) && x.row[i].source)
            return x.row[i].source;
    return "local";
}

static json_t *json_books(struct call *k, const struct limits_view *v)
{
    const struct config_budget *b = budget_of(k->c, v->scope);
    char window[PERIOD_WINDOW_CAP];
    json_t *o = json_object();

    (void)cycle_name(v->sums.cycle, (struct wall){v->sums.start_us}, window);
    set(o, "account", json_string(v->scope));
    set(o, "period", json_string(period_name(v->period)));
    set(o, "window", json_string(window));
    set(o, "timezone", json_string(zone_name(v->zone)));
    set(o, "starts_at",
        v->period == PERIOD_TOTAL ? json_null() : api_json_time((struct wall){v->sums.start_us}));
    set(o, "resets_at", v->resets_at.us == INT64_MAX ? json_null() : api_json_time(v->resets_at));
    api_set_cost(o, "limit_usd", "limit_nanousd", v->limit_nanousd);
    set(o, "warn", b ? api_json_levels(&b->warn) : json_null());
    set(o, "at_limit", b ? api_json_choice(AT_LIMIT_CHOICES, b->at_limit) : json_null());
    set(o, "counter_source", json_string(source_of(k, v->scope)));
    api_set_cost(o, "counter_usd", "counter_nanousd", v->sums.posted_nanousd);
    api_set_cost(o, "held_usd", "held_nanousd", v->sums.held_nanousd);
    set(o, "prices", json_string(k->c->prices_path[0] ? k->c->prices_path : "built-in"));
    add_ledger(k, o, v);
    api_add_forecast(k->gw, v->scope, o);
    return o;
}

static json_t *last_refusal(struct call *k, const char *account)
{
    char text[ID_TEXT_CAP];
    struct explain_row row;
    struct id request;
    json_t *o;

    if (!limits_last_refusal_mt(gateway_limits_mt(k->gw), account, &request, &row))
        return json_null();
    id_format(&request, text);
    o = json_object();
    set(o, "request", json_string(text));
    set(o, "check", json_row(&row));
    return o;
}

static bool is_configured(const struct config *c, const char *account)
{
    char name[BUDGET_ACCOUNT];

    for (size_t i = 0; i < c->n_tenants; i++) {
        (void)snprintf(name, sizeof(name), "tenant:%s", c->tenants[i].id);
        if (strcmp(name, account) == 0)
            return true;
    }
    for (size_t i = 0; i < c->n_keys; i++) {
        (void)snprintf(name, sizeof(name), "key:%s/%s", c->keys[i].tenant->id, c->keys[i].id);
        if (strcmp(name, account) == 0 && !c->keys[i].is_revoked)
            return true;
    }
    return false;
}

static void add_account(struct call *k, struct finding *f)
{
    json_t *books = f->is_found && f->view.has_budget ? json_books(k, &f->view) : json_null();

    set(k->doc, "account", json_string(f->name));
    set(k->doc, "books", books);
    set(k->doc, "last_refusal", last_refusal(k, f->name));
}

static bool explain_account(struct call *k)
{
    char name[BUDGET_ACCOUNT];
    struct finding f = {.name = name};
    bool has_kind = strchr(k->what, ':') || strcmp(k->what, "global") == 0;

    if (snprintf(name, sizeof(name), "%s%s",
                 has_kind               ? ""
                 : strchr(k->what, '/') ? "key:"
                                        : "tenant:",
                 k->what) >= (int)sizeof(name))
        return false;
    limits_each_mt(gateway_limits_mt(k->gw), find_view, &f);
    if ((!f.is_found && !is_configured(k->c, name)) || strncmp(name, "provider:", 9) == 0)
        return false;
    set(k->doc, "kind", json_string("account"));
    set(k->doc, "is_request", json_false());
    set(k->doc, "checks", chain_checks(k, name));
    add_account(k, &f);
    return true;
}

/* ---- a provider ------------------------------------------------------------------------------------------------------ */

/* What another page says of it; NULL when that is an error. */
static json_t *page(struct call *k, api_handler *handler, const char *tail)
{
    struct api_request rq = *k->rq;
    struct api_reply reply = {.status = 200};
    json_t *doc = NULL;

    rq.tail = span_of(tail);
    rq.query = (struct span){0};
    handler(&rq, &reply);
    if (reply.status == 200)
        doc = json_loadb(reply.body.p ? reply.body.p : "", reply.body.len, 0, NULL);
    buf_release(&reply.body);
    return doc;
}

static json_t *breakers_of(struct call *k, const char *provider, const char *model)
{
    json_t *all = page(k, api_breakers_of, provider), *rows = json_array(), *row;
    size_t i;

    json_array_foreach(all, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "model"));

        if (!model[0] || (name && strcmp(name, model) == 0))
            (void)json_array_append(rows, row);
    }
    json_decref(all);
    return rows;
}

static json_t *queue_of(struct call *k, label provider)
{
    struct queues_row *rows = calloc(LIMIT_PROVIDERS, sizeof(*rows));
    struct queues_sums sums;
    size_t n = rows ? queues_list(gateway_queues_mt(k->gw), mono_now(), rows, LIMIT_PROVIDERS, &sums) : 0;
    json_t *o = json_null();

    for (size_t i = 0; i < n && i < LIMIT_PROVIDERS; i++) {
        const struct queue_report *r = &rows[i].report;

        if (rows[i].provider != provider)
            continue;
        o = json_object();
        set(o, "slots", r->slots ? json_integer(r->slots) : json_null());
        set(o, "in_flight", json_integer(r->used));
        set(o, "waiting", json_integer(r->depth));
        set(o, "waiting_bytes", api_json_count(r->bytes));
        set(o, "wait_ms", r->wait_us ? json_integer(r->wait_us / 1000) : json_null());
        break;
    }
    free(rows);
    return o;
}

/* Aliases that go there, with the place that the target has in each. */
static json_t *aliases_of(const struct config *c, const struct config_provider *p, const char *model)
{
    json_t *rows = json_array();

    for (size_t m = 0; m < c->n_models; m++)
        for (size_t t = 0; t < c->models[m].n_targets; t++) {
            const struct config_target *at = &c->models[m].targets[t];
            json_t *o;

            if (at->provider != p || (model[0] && strcmp(at->model, model) != 0))
                continue;
            o = json_object();
            set(o, "alias", json_string(c->models[m].name));
            set(o, "place", json_integer((json_int_t)t + 1));
            set(o, "of", json_integer((json_int_t)c->models[m].n_targets));
            set(o, "model", json_string(at->model));
            (void)json_array_append_new(rows, o);
        }
    return rows;
}

static bool explain_provider(struct call *k)
{
    bool has_kind = strncmp(k->what, "provider:", 9) == 0;
    struct span rest = span_of(k->what + (has_kind ? 9 : 0)), name = span_split(&rest, '/');
    const struct config_provider *p = config_find_provider(k->c, name);
    char account[BUDGET_ACCOUNT], model[LIMIT_MODEL_BYTES];
    struct finding f = {.name = account};
    json_t *health;

    if (!p)
        return false;
    (void)span_copy(model, sizeof(model), rest.p ? rest : SPAN_LIT(""));
    (void)snprintf(account, sizeof(account), "provider:%s", p->name);
    limits_each_mt(gateway_limits_mt(k->gw), find_view, &f);
    set(k->doc, "kind", json_string("provider"));
    set(k->doc, "is_request", json_false());
    set(k->doc, "provider", json_string(p->name));
    set(k->doc, "model", model[0] ? json_string(model) : json_null());
    set(k->doc, "enabled", json_boolean(p->is_enabled));
    health = page(k, api_provider_health, p->name);
    set(k->doc, "health", health ? health : json_null());
    set(k->doc, "breakers", breakers_of(k, p->name, model));
    set(k->doc, "queue", queue_of(k, p->label));
    set(k->doc, "aliases", aliases_of(k->c, p, model));
    set(k->doc, "checks", chain_checks(k, account));
    add_account(k, &f);
    return true;
}

/* ---- the page -------------------------------------------------------------------------------------------------------- */

static void not_found(struct call *k, struct api_reply *reply)
{
    int64_t lag = gateway_history_lag_us_mt(k->gw);

    if (is_request_id(k->what))
        api_reply_error(
            reply, ERR_NOT_FOUND,
            "request '%s' is not among the last that were refused, and not in the history store%s", k->what,
            lag > 0 ? ", which is behind" : ", which keeps all failures and some successes");
    else
        api_reply_error(reply, ERR_NOT_FOUND,
                        "'%.200s' is neither a request's id, nor an account that is limited, nor a provider",
                        k->what);
}

void api_explain(const struct api_request *rq, struct api_reply *reply)
{
    struct call k = {.rq = rq,
                     .gw = rq->gw,
                     .c = gateway_config_ref_mt(rq->gw),
                     .doc = json_object(),
                     .warnings = json_array()};
    bool found;

    (void)span_copy(k.what, sizeof(k.what), rq->tail);
    set(k.doc, "subject", json_string(k.what));
    found = is_request_id(k.what) ? explain_request(&k) : explain_account(&k) || explain_provider(&k);
    set(k.doc, "warnings", json_incref(k.warnings));
    if (found)
        api_reply_json(reply, json_incref(k.doc));
    else
        not_found(&k, reply);
    json_decref(k.warnings);
    json_decref(k.doc);
    config_unref(k.c);
}
