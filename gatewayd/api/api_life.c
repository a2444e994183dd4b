/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator's own systems report: steps of a tenant's life, and money that came in. Each has the reporter's id and counts
 * once. On the directory's thread, within its transaction, so that it is in the audit log, too. */
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/api_directory_priv.h"
#include "gatewayd/api/bodies_priv.h"

enum { L_ID, L_TENANT, L_KIND, L_AT, L_AMOUNT, L_PLAN, L_REASON, L_COUNT };
static const struct field FIELDS[L_COUNT] = {
    [L_ID] = {.name = "id", .type = FIELD_NAME, .is_required = true},
    [L_TENANT] = {.name = "tenant", .type = FIELD_NAME, .is_required = true},
    [L_KIND] = {.name = "kind",
                .type = FIELD_CHOICE,
                .choices = "trial_started first_answer converted cancelled payment refund",
                .is_required = true},
    [L_AT] = {.name = "at", .type = FIELD_TIME},
    [L_AMOUNT] = {.name = "amount_usd", .type = FIELD_USD},
    [L_PLAN] = {.name = "plan", .type = FIELD_NAME},
    [L_REASON] = FIELD_REASON,
};
const struct api_body BODY_LIFE = {FIELDS, L_COUNT};

#define LATE_S ((int64_t)86400) /* clocks differ */

struct life {
    struct call c; /* first: the transaction gets it */
    bool is_repeated;
};

static bool is_money(const struct call *c)
{
    return strcmp(c->v[L_KIND].text, "payment") == 0 || strcmp(c->v[L_KIND].text, "refund") == 0;
}

/* Trials begin with the row that tenants made here have, too. */
static const char *kind_of(const struct call *c)
{
    return strcmp(c->v[L_KIND].text, "trial_started") == 0 ? "created" : c->v[L_KIND].text;
}

static int64_t amount_of(const struct call *c)
{
    return strcmp(c->v[L_KIND].text, "refund") == 0 ? -c->v[L_AMOUNT].i : c->v[L_AMOUNT].i;
}

static json_t *detail_of(const struct call *c)
{
    json_t *o = json_object();

    if (strcmp(c->v[L_KIND].text, "trial_started") == 0) {
        (void)json_object_set_new(o, "plan", json_string(c->v[L_PLAN].text ? c->v[L_PLAN].text : "trial"));
        (void)json_object_set_new(o, "trial", json_true());
    } else if (c->v[L_PLAN].text) {
        (void)json_object_set_new(o, "plan", json_string(c->v[L_PLAN].text));
    }
    if (is_money(c))
        (void)json_object_set_new(o, "amount_nanousd", json_integer(amount_of(c)));
    return o;
}

struct known {
    const struct call *c;
    const char *detail;
    bool is_there, is_same;
};

/* tenant, kind, detail; the time is the first report's */
static bool take_known(void *user, const struct db_value *v, unsigned n)
{
    struct known *k = user;
    json_t *was = json_loadb(v[2].s.p ? v[2].s.p : "", v[2].s.len, 0, NULL), *is = detail_of(k->c);

    (void)n;
    k->is_there = true;
    k->is_same =
        span_is(v[0].s, k->c->v[L_TENANT].text) && span_is(v[1].s, kind_of(k->c)) && json_equal(was, is);
    json_decref(was);
    json_decref(is);
    return false;
}

static enum err_code write_row(struct db *db, const struct call *c, int64_t at, struct err *err)
{
    json_t *detail = detail_of(c);
    char *text = json_dumps(detail, JSON_COMPACT | JSON_SORT_KEYS);
    enum err_code e;

    json_decref(detail);
    if (!text)
        return err_set(err, ERR_NO_MEMORY, "no memory for an event");
    e = db_exec(db, "life_insert",
                "INSERT INTO tenant_events (at, tenant, kind, detail, reference) VALUES ($1, $2, $3, $4, $5)",
                (struct db_value[]){db_int(at), db_textz(c->v[L_TENANT].text), db_textz(kind_of(c)),
                                    db_textz(text), db_textz(c->v[L_ID].text)},
                5, NULL, err);
    free(text);
    return e;
}

static enum err_code write_life(struct db *db, int64_t now_s, void *user, struct err *err)
{
    struct life *l = user;
    struct call *c = &l->c;
    int64_t at = c->v[L_AT].is_given ? c->v[L_AT].i : now_s;
    struct known k = {.c = c};
    struct db_value id = db_textz(c->v[L_ID].text);
    enum err_code e =
        db_query(db, "life_known", "SELECT tenant, kind, detail FROM tenant_events WHERE reference = $1", &id,
                 1, take_known, &k, err);

    l->is_repeated = k.is_there;
    if (e || (k.is_there && k.is_same))
        return e;
    if (k.is_there)
        return err_set(err, ERR_CONFLICT, "'%s' was reported before, as something else", c->v[L_ID].text);
    e = write_row(db, c, at, err);
    if (!e && is_money(c))
        e = db_exec(
            db, "revenue_insert",
            "INSERT INTO revenue (day, tenant, source, reference, amount_nano) VALUES ($1, $2, 'payment', "
            "$3, $4)",
            (struct db_value[]){db_int(at - at % 86400), db_textz(c->v[L_TENANT].text),
                                db_textz(c->v[L_ID].text), db_int(amount_of(c))},
            4, NULL, err);
    return e;
}

static bool makes_sense(struct call *c)
{
    int64_t now = wall_now().us / 1000000;

    if (is_money(c) && !c->v[L_AMOUNT].is_given)
        return call_refuse(c, ERR_MISSING_FIELD, "'amount_usd' is required");
    if (!is_money(c) && c->v[L_AMOUNT].is_given)
        return call_refuse(c, ERR_BAD_REQUEST, "'amount_usd' is of payments and refunds only");
    if (c->v[L_AT].is_given && c->v[L_AT].i > now + LATE_S)
        return call_refuse(c, ERR_BAD_REQUEST, "'at' is in the future");
    if (!call_tenant(c->joined, c->v[L_TENANT].text) && !rows_tenant(c->rows, c->v[L_TENANT].text))
        return call_refuse(c, ERR_NOT_FOUND, "tenant '%.64s' does not exist", c->v[L_TENANT].text);
    return true;
}

void api_life(const struct api_request *rq, struct api_reply *reply)
{
    struct life l = {0};
    json_t *o;

    if (!call_begin(&l.c, rq, reply, FIELDS, L_COUNT))
        return;
    if (makes_sense(&l.c) && call_change(&l.c, "tenant.event", l.c.v[L_TENANT].text, write_life)) {
        reply->status = l.is_repeated ? 200 : 201;
        o = json_object();
        (void)json_object_set_new(o, "status", json_string(l.is_repeated ? "known" : "recorded"));
        (void)json_object_set_new(o, "id", json_string(l.c.v[L_ID].text));
        (void)json_object_set_new(o, "tenant", json_string(l.c.v[L_TENANT].text));
        (void)json_object_set_new(o, "kind", json_string(l.c.v[L_KIND].text));
        api_reply_json(reply, o);
    }
    call_end(&l.c);
}
