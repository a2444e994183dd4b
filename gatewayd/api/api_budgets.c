/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets: replaced whole, since each is one thought; topped up for a while; and reset, which is booked and takes nothing from the
 * ledger. On the directory's thread. */
#include <stdio.h>
#include <string.h>

#include "gatewayd/api/api_directory_priv.h"
#include "gatewayd/api/bodies_priv.h"
#include "gatewayd/config/value.h"
#include "gatewayd/limits/limits.h"
#include "gatewayd/telemetry/events.h"

enum { B_LIMIT, B_PERIOD, B_TIMEZONE, B_WARN, B_AT_LIMIT, B_STORE_DOWN, B_CUT, B_REASON, B_COUNT };

static const struct field BUDGET_FIELDS[B_COUNT] = {
    [B_LIMIT] = {.name = "limit_usd", .type = FIELD_USD, .is_required = true},
    [B_PERIOD] = {.name = "period", .type = FIELD_CHOICE, .choices = "hour day week month total"},
    [B_TIMEZONE] = {.name = "timezone", .type = FIELD_TEXT, .max = ZONE_NAME_MAX},
    [B_WARN] = {.name = "warn", .type = FIELD_LEVELS},
    [B_AT_LIMIT] = {.name = "at_limit", .type = FIELD_CHOICE, .choices = AT_LIMIT_CHOICES},
    [B_STORE_DOWN] = {.name = "when_store_down", .type = FIELD_CHOICE, .choices = STORE_DOWN_CHOICES},
    [B_CUT] = {.name = "cut_streams", .type = FIELD_BOOL},
    [B_REASON] = FIELD_REASON,
};
const struct api_body BODY_BUDGET = {BUDGET_FIELDS, B_COUNT};

/* What topped it up and what does: those of the last days, too, so that it can be seen that they are over. */
static json_t *json_topups(const struct directory_rows *rows, const char *account)
{
    int64_t now_s = wall_now().us / 1000000;
    json_t *list = json_array();

    for (size_t i = 0; i < rows->n_topups; i++) {
        const struct directory_topup *t = &rows->topups[i];
        json_t *o;

        if (strcmp(t->account, account) != 0)
            continue;
        o = json_object();
        (void)json_object_set_new(o, "id", json_string(t->id));
        api_set_cost(o, "amount_usd", "amount_nanousd", t->amount_nano);
        (void)json_object_set_new(o, "until", json_seconds(t->until_at));
        (void)json_object_set_new(o, "created_at", json_seconds(t->created_at));
        (void)json_object_set_new(o, "active", json_boolean(t->until_at > now_s));
        (void)json_array_append_new(list, o);
    }
    return list;
}

/* The counters know the budget as it is: what a change would make of them is worked out here, and nothing is foretold. */
static void would_be(const struct call *c, const char *account, const struct config_budget *b, json_t *o)
{
    static const char *const FORETOLD[] = {"forecast",     "forecast_method",  "exhausts_at",
                                           "forecast_usd", "forecast_nanousd", "rate_usd_per_hour"};
    int64_t now_s = wall_now().us / 1000000, limit = b->limit_nanousd;
    int64_t spent = json_integer_value(json_object_get(o, "spent_nanousd")) - c->resets.posted_nanousd;

    for (size_t i = 0; i < c->rows->n_topups; i++)
        if (c->rows->topups[i].until_at > now_s && strcmp(c->rows->topups[i].account, account) == 0)
            limit += c->rows->topups[i].amount_nano;
    for (size_t i = 0; i < ARRAY_LEN(FORETOLD); i++)
        (void)json_object_del(o, FORETOLD[i]);
    if (!json_object_get(o, "spent_nanousd"))
        return; /* nobody has counted for it yet */
    api_set_cost(o, "spent_usd", "spent_nanousd", spent);
    api_set_cost(o, "limit_now_usd", "limit_now_nanousd", limit);
    (void)json_object_set_new(o, "used_ratio",
                              limit > 0 ? json_real((double)spent / (double)limit) : json_null());
    (void)json_object_set_new(o, "verdict",
                              json_string(verdict_name(spent < limit                      ? VERDICT_OK
                                                       : b->at_limit == AT_LIMIT_BLOCK    ? VERDICT_REFUSED
                                                       : b->at_limit == AT_LIMIT_THROTTLE ? VERDICT_THROTTLE
                                                                                          : VERDICT_WARN)));
}

static json_t *json_account(const struct call *c, const char *account, const struct config_budget *b,
                            bool is_file, int64_t updated_at)
{
    json_t *o = json_budget(b);

    (void)json_object_set_new(o, "account", json_string(account));
    (void)json_object_set_new(o, "source", json_string(is_file ? "file" : "database"));
    (void)json_object_set_new(o, "updated_at", json_seconds(updated_at));
    (void)json_object_set_new(o, "topups", json_topups(c->rows, account));
    api_add_spending(c->rq->gw, account, o);
    if (c->is_dry)
        would_be(c, account, b, o);
    return o;
}

/* The file's budget of the tenant or provider that an account is of; NULL when it sets none. */
static const struct config_budget *budget_of_file(const struct config *file, const char *account)
{
    bool is_tenant = strncmp(account, "tenant:", 7) == 0;
    const struct config_tenant *t = is_tenant ? call_tenant(file, account + 7) : NULL;
    const struct config_provider *p =
        strncmp(account, "provider:", 9) == 0 ? config_find_provider(file, span_of(account + 9)) : NULL;
    const struct config_budget *b = t ? &t->budget : p ? &p->budget : NULL;

    return b && b->limit_nanousd ? b : NULL;
}

static void add_of_file(const struct call *c, json_t *list, const char *kind, const char *name)
{
    char account[LIMIT_NAME_BYTES + 16];
    const struct config_budget *b;

    (void)snprintf(account, sizeof(account), "%s:%s", kind, name);
    b = budget_of_file(c->file, account);
    if (b)
        (void)json_array_append_new(list, json_account(c, account, b, true, 0));
}

void api_budgets(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    json_t *o = json_object(), *list = json_array();

    (void)call_begin(&c, rq, reply, NULL, 0);
    for (size_t i = 0; i < c.file->n_tenants; i++)
        add_of_file(&c, list, "tenant", c.file->tenants[i].id);
    for (size_t i = 0; i < c.file->n_providers; i++)
        add_of_file(&c, list, "provider", c.file->providers[i].name);
    for (size_t i = 0; i < c.rows->n_budgets; i++) {
        const struct directory_budget *b = &c.rows->budgets[i];

        if (!budget_of_file(c.file, b->account))
            (void)json_array_append_new(list, json_account(&c, b->account, &b->budget, false, b->updated_at));
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
        api_reply_json(c->reply, json_account(c, account, f, true, 0));
    else if (b)
        api_reply_json(c->reply, json_account(c, account, &b->budget, false, b->updated_at));
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
    struct config_levels levels =
        v[B_WARN].is_given ? levels_unpack(v[B_WARN].i) : (struct config_levels){2, {80, 95}};
    char warn[LEVELS_TEXT];
    struct db_value row[] = {db_textz(c->id),
                             db_int(v[B_LIMIT].i),
                             db_textz(or_else(&v[B_PERIOD], "month")),
                             db_int(levels.percent[0]),
                             db_textz(or_else(&v[B_AT_LIMIT], "block")),
                             db_textz(or_else(&v[B_STORE_DOWN], "bounded")),
                             db_int(now_s),
                             db_textz(or_else(&v[B_TIMEZONE], "")),
                             db_textz(""),
                             db_int(v[B_CUT].i)};

    levels_text(&levels, warn);
    row[8] = db_textz(warn);
    return db_exec(db, "budget_put",
                   "INSERT INTO budgets (account, limit_nano, period, warn_percent, at_limit, "
                   "when_store_down, created_at, updated_at, timezone, warn_levels, cuts_streams) "
                   "VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10) ON CONFLICT (account) DO UPDATE SET "
                   "limit_nano = $2, period = $3, warn_percent = $4, at_limit = $5, when_store_down = $6, "
                   "updated_at = $7, timezone = $8, warn_levels = $9, cuts_streams = $10",
                   row, ARRAY_LEN(row), NULL, err);
}

static bool is_zone(struct call *c)
{
    const struct zone *z;
    const char *name = or_else(&c->v[B_TIMEZONE], "");

    return zone_find_mt(span_of(name), &z, &c->err) == ERR_OK ||
           call_refuse(c, ERR_BAD_REQUEST, "'timezone': %s", c->err.text);
}

static void note_budget(struct call *c, const char *account)
{
    const struct directory_budget *was = rows_budget(c->rows, account);

    if (was)
        call_note_was(c, json_budget(&was->budget));
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
    else if (account && is_zone(&c) && call_change(&c, "budget.put", account, write_budget))
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

/* ---- top-ups and resets ---------------------------------------------------------------------------------------------- */

enum { D_ACTION, D_AMOUNT, D_UNTIL, D_ID, D_REASON, D_COUNT };

static const struct field DEED_FIELDS[D_COUNT] = {
    [D_ACTION] = {.name = "action", .type = FIELD_CHOICE, .choices = "add remove reset", .is_required = true},
    [D_AMOUNT] = {.name = "amount_usd", .type = FIELD_USD},
    [D_UNTIL] = {.name = "until", .type = FIELD_TIME},
    [D_ID] = {.name = "id", .type = FIELD_TEXT, .max = 64},
    [D_REASON] = FIELD_REASON,
};
const struct api_body BODY_BUDGET_DEED = {DEED_FIELDS, D_COUNT};

#define CATCH_UP_US  3000000      /* a reset waits so long for the books to have what was spent here */
#define TOPUP_KEPT_S (30 * 86400) /* after its end, for those who look; the audit log keeps it for ever */

static void tell(struct call *c, const char *account, const char *text, const char *fact, int64_t nanousd)
{
    struct event ev;

    if (c->is_dry)
        return;
    event_make(&ev, EVENT_BUDGET, EVENT_INFO, account, "it was %s by %s", text, c->rq->actor);
    event_add_usd(&ev, fact, nanousd);
    if (c->v[D_UNTIL].is_given)
        event_add_time(&ev, "until", (struct wall){c->v[D_UNTIL].i * 1000000});
    events_tell_mt(gateway_events_mt(c->rq->gw), &ev);
}

static enum err_code write_topup(struct db *db, int64_t now_s, void *user, struct err *err)
{
    struct call *c = user;
    struct id id = id_mint((struct wall){now_s * 1000000});
    char text[ID_TEXT_CAP];
    struct db_value old[] = {db_textz(c->id), db_int(now_s - TOPUP_KEPT_S)};
    enum err_code e =
        db_exec(db, "topup_tidy", "DELETE FROM budget_topups WHERE account = $1 AND until_at < $2", old, 2,
                NULL, err);

    id_format(&id, text);
    if (!e)
        e = db_exec(db, "topup_add",
                    "INSERT INTO budget_topups (id, account, amount_nano, until_at, created_at) "
                    "VALUES ($1, $2, $3, $4, $5)",
                    (struct db_value[]){db_textz(text), db_textz(c->id), db_int(c->v[D_AMOUNT].i),
                                        db_int(c->v[D_UNTIL].i), db_int(now_s)},
                    5, NULL, err);
    return e;
}

static unsigned active_topups(const struct directory_rows *rows, const char *account)
{
    int64_t now_s = wall_now().us / 1000000;
    unsigned n = 0;

    for (size_t i = 0; i < rows->n_topups; i++)
        n += rows->topups[i].until_at > now_s && strcmp(rows->topups[i].account, account) == 0;
    return n;
}

static void add_topup(struct call *c, const char *account)
{
    if (!c->v[D_AMOUNT].is_given || !c->v[D_AMOUNT].i || !c->v[D_UNTIL].is_given)
        (void)call_refuse(c, ERR_BAD_REQUEST, "'add' needs 'amount_usd' above 0, and 'until'");
    else if (c->v[D_UNTIL].i <= wall_now().us / 1000000)
        (void)call_refuse(c, ERR_BAD_REQUEST, "'until' is over already");
    else if (!rows_budget(c->rows, account) && !budget_of_file(c->file, account))
        (void)call_refuse(c, ERR_NOT_FOUND, "account '%s' has no budget", account);
    else if (active_topups(c->rows, account) >= BUDGET_TOPUPS)
        (void)call_refuse(c, ERR_CONFLICT, "account '%s' is topped up %u times already, which is the most",
                          account, BUDGET_TOPUPS);
    else if (call_change(c, "budget.topup", account, write_topup)) {
        tell(c, account, "topped up", "amount", c->v[D_AMOUNT].i);
        reply_budget(c, account);
    }
}

static enum err_code write_topup_remove(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    int64_t changed = 0;
    enum err_code e =
        db_exec(db, "topup_remove", "DELETE FROM budget_topups WHERE account = $1 AND id = $2",
                (struct db_value[]){db_textz(c->id), db_textz(c->v[D_ID].text)}, 2, &changed, err);

    (void)now_s;
    return e || changed ? e : err_set(err, ERR_NOT_FOUND, "account '%s' has no such top-up", c->id);
}

static void remove_topup(struct call *c, const char *account)
{
    if (!c->v[D_ID].is_given)
        (void)call_refuse(c, ERR_BAD_REQUEST, "'remove' needs the 'id' of a top-up");
    else if (call_change(c, "budget.topup_remove", account, write_topup_remove))
        reply_budget(c, account);
}

struct found {
    const char *account;
    bool is_found;
    struct limits_view view;
};

static void find_view(void *user, const struct limits_view *v)
{
    struct found *f = user;

    if (v->has_budget && strcmp(v->scope, f->account) == 0) {
        f->view = *v;
        f->is_found = true;
    }
}

static bool take_posted(void *user, const struct db_value *v, unsigned n)
{
    if (n == 1)
        *(int64_t *)user = v[0].i;
    return false;
}

/* Writes nothing: what other nodes spent may be in the books before this one heard of it. A window with nothing in it is not reset. */
static enum err_code learn_posted(struct db *db, int64_t now_s, void *user, struct err *err)
{
    struct call *c = user;
    char window[PERIOD_WINDOW_CAP];
    int64_t posted = 0;
    enum err_code e;

    (void)now_s;
    (void)cycle_name(c->resets.cycle, (struct wall){c->resets.start_us}, window);
    e = db_query(
        db, "budget_reset",
        "SELECT posted_nano FROM budget_windows WHERE account = $1 AND period = $2 AND window_id = $3",
        (struct db_value[]){db_textz(c->id), db_textz(period_name(c->resets.cycle.period)), db_textz(window)},
        3, take_posted, &posted, err);
    if (!e)
        limits_learn_mt(gateway_limits_mt(c->rq->gw), c->id, &c->mark, c->has_mark, posted, &c->resets);
    if (!e && c->resets.posted_nanousd <= 0)
        e = err_set(err, ERR_CONFLICT, "nothing is spent of account '%s' in its %s", c->id,
                    period_name(c->resets.cycle.period));
    (void)json_object_set_new(c->detail, "was_nanousd", json_integer(c->resets.posted_nanousd));
    return e;
}

/* What is posted in its window is taken off by a record of its own: the audit row first, then the journal and with it every book,
 * and then the counter here. Other nodes follow the books. When the window has ended meanwhile, it is taken off that one
 * nevertheless: in the next it would be money that nobody gave. */
static bool book_reset(struct call *c, const struct limits_view *v)
{
    struct fact_adjust a = {.at = budget_sums_at(&c->resets, wall_now()),
                            .is_reset = true,
                            .cycle = v->sums.cycle,
                            .amount_nanousd = -v->sums.posted_nanousd};
    struct span name = span_of(v->scope), kind = span_split(&name, ':'), tenant = name;
    enum err_code e;

    if (span_is(kind, "provider"))
        a.provider = intern(name);
    else if (span_is(kind, "key"))
        a.tenant = intern(span_split(&tenant, '/')), a.key = intern(tenant);
    else if (span_is(kind, "tenant"))
        a.tenant = intern(name);
    a.id = id_mint(a.at);
    (void)snprintf(a.who, sizeof(a.who), "%s", c->rq->actor);
    (void)snprintf(a.why, sizeof(a.why), "%.100s",
                   c->v[D_REASON].is_given ? c->v[D_REASON].text : "budget reset");
    e = gateway_adjust_mt(c->rq->gw, &a, &c->err);
    if (e)
        call_fail(c, e);
    else
        limits_correct_mt(gateway_limits_mt(c->rq->gw), v->scope, a.at, a.amount_nanousd);
    return !e;
}

static void reset(struct call *c, const char *account)
{
    struct found f = {.account = account};

    limits_each_mt(gateway_limits_mt(c->rq->gw), find_view, &f);
    if (!f.is_found)
        (void)call_refuse(c, ERR_NOT_FOUND, "account '%s' has no budget", account);
    else if (!limits_is_loaded_mt(gateway_limits_mt(c->rq->gw)))
        (void)call_refuse(c, ERR_UNAVAILABLE, "what was spent of account '%s' is not known yet", account);
    else {
        c->resets = f.view.sums;
        c->mark = limits_mark_mt(gateway_limits_mt(c->rq->gw), account, (struct wall){c->resets.start_us});
        c->has_mark = gateway_catch_up_mt(c->rq->gw, CATCH_UP_US);
        if (!call_change(c, "budget.reset", account, learn_posted))
            return;
        f.view.sums = c->resets;
        if (!c->is_dry && !book_reset(c, &f.view))
            return;
        tell(c, account, "reset", "was", f.view.sums.posted_nanousd);
        reply_budget(c, account);
    }
}

void api_budget_deed(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    const char *account;

    if (!call_begin(&c, rq, reply, DEED_FIELDS, D_COUNT))
        return;
    account = path_account(&c);
    if (account && c.v[D_ACTION].text[0] == 'a')
        add_topup(&c, account);
    else if (account && strcmp(c.v[D_ACTION].text, "remove") == 0)
        remove_topup(&c, account);
    else if (account)
        reset(&c, account);
    call_end(&c);
}
