/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs on the books for operators: roll hours up, compare, repair. The handlers run on the thread that may wait; the work
 * is the aggregator's. A job that takes longer than the wait goes on by itself, and the answer is 202. */
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/books/aggregator.h"
#include "gatewayd/telemetry/events.h"
#include "libshared/store/kv_keys.h"

#define WAIT_US ((int64_t)8 * 1000000)

/* ---- what is asked ------------------------------------------------------------------------------------------------- */

static bool take_flag(const json_t *body, const char *name, bool *out, struct err *err)
{
    const json_t *v = json_object_get(body, name);

    if (v && !json_is_boolean(v)) {
        (void)err_set(err, ERR_BAD_REQUEST, "'%s' takes true or false", name);
        return false;
    }
    *out = json_is_true(v);
    return true;
}

static bool take_hour(const json_t *body, const char *name, int64_t *out, struct err *err)
{
    const json_t *v = json_object_get(body, name);
    int64_t hour = v && json_is_string(v) ? kv_hour_parse(json_string_value(v)) : -1;

    if (v && hour < 0) {
        (void)err_set(err, ERR_BAD_REQUEST, "'%s' takes an hour such as 2026-11-20T13", name);
        return false;
    }
    *out = v ? hour : 0;
    return true;
}

static bool take_source(const json_t *body, enum aggregate_source *out, struct err *err)
{
    static const char *const NAMES[] = {"auto", "ledger", "redis"};
    const char *z = json_string_value(json_object_get(body, "source"));

    *out = AGGREGATE_AUTO;
    for (unsigned i = 0; z && i < ARRAY_LEN(NAMES); i++)
        if (strcmp(z, NAMES[i]) == 0) {
            *out = (enum aggregate_source)i;
            return true;
        }
    if (!json_object_get(body, "source"))
        return true;
    (void)err_set(err, ERR_BAD_REQUEST, "'source' takes auto, ledger or redis");
    return false;
}

static bool only_known(json_t *body, const char *const *names, struct err *err)
{
    for (void *it = json_object_iter(body); it; it = json_object_iter_next(body, it)) {
        const char *const *n = names;

        while (*n && strcmp(*n, json_object_iter_key(it)) != 0)
            n++;
        if (!*n) {
            (void)err_set(err, ERR_BAD_REQUEST, "'%.60s' is not known here", json_object_iter_key(it));
            return false;
        }
    }
    return true;
}

/* An object or nothing; NULL with the reply written otherwise. */
static json_t *body_of(const struct api_request *rq, const char *const *names, struct api_reply *reply)
{
    json_t *body =
        rq->body.len ? json_loadb(rq->body.p, rq->body.len, JSON_REJECT_DUPLICATES, NULL) : json_object();
    struct err err = {0};

    if (!json_is_object(body))
        (void)err_set(&err, ERR_BAD_REQUEST, "the body is no JSON object");
    if (err.code || !only_known(body, names, &err)) {
        api_reply_error(reply, err.code, "%s", err_text(&err));
        json_decref(body);
        return NULL;
    }
    return body;
}

/* ---- doing it ------------------------------------------------------------------------------------------------------ */

/* True with the finished job; otherwise the reply is written. */
static bool do_it(const struct api_request *rq, struct books_job **job, struct api_reply *reply)
{
    struct aggregator *a = gateway_aggregator_mt(rq->gw);
    json_t *o;

    if (!a) {
        api_reply_error(reply, ERR_UNAVAILABLE, "this gateway has no history store");
        return false;
    }
    if (!aggregator_do_mt(a, job, WAIT_US)) {
        reply->status = 202;
        o = json_object();
        (void)json_object_set_new(o, "status", json_string("running"));
        api_reply_json(reply, o);
        return false;
    }
    if ((*job)->code) {
        api_reply_error(reply, (*job)->code, "%s", err_text(&(*job)->err));
        return false;
    }
    if ((*job)->rolled.was_locked) {
        api_reply_error(reply, ERR_CONFLICT, "another roll-up is running");
        return false;
    }
    return true;
}

static struct books_job *job_new(enum books_kind kind)
{
    struct books_job *j = calloc(1, sizeof(*j));

    if (!j)
        abort();
    j->kind = kind;
    return j;
}

void api_aggregate(const struct api_request *rq, struct api_reply *reply)
{
    static const char *const NAMES[] = {"from", "to", "source", "allow_gaps", "dry_run", NULL};
    json_t *body = body_of(rq, NAMES, reply), *o;
    struct books_job *j;
    struct err err = {0};

    if (!body)
        return;
    j = job_new(BOOKS_ROLL_UP);
    if (!take_hour(body, "from", &j->from_hour, &err) || !take_hour(body, "to", &j->to_hour, &err) ||
        !take_source(body, &j->source, &err) || !take_flag(body, "allow_gaps", &j->allow_gaps, &err) ||
        !take_flag(body, "dry_run", &j->is_dry_run, &err)) {
        api_reply_error(reply, err.code, "%s", err_text(&err));
    } else if (do_it(rq, &j, reply)) {
        o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:f}", "status", "done", "hours",
                      (json_int_t)j->rolled.hours, "rows", (json_int_t)j->rolled.rows, "dirty",
                      (json_int_t)j->rolled.dirty, "missing_hours", (json_int_t)j->rolled.missing_hours,
                      "source", j->rolled.source == AGGREGATE_REDIS ? "redis" : "ledger", "took_s",
                      (double)j->rolled.took_us / 1e6);
        api_reply_json(reply, o);
    }
    free(j);
    json_decref(body);
}

/* ---- reconcile ----------------------------------------------------------------------------------------------------- */

static json_t *pairs_json(const struct books_job *j)
{
    json_t *rows = json_array();

    for (unsigned p = 0; p < RECONCILE_COUNT; p++) {
        bool known = j->compared.pairs[p].is_known;
        json_t *row = json_object();

        (void)json_object_set_new(row, "pair", json_string(reconcile_pair_name((enum reconcile_pair)p)));
        (void)json_object_set_new(row, "known", json_boolean(known));
        (void)json_object_set_new(row, "compared",
                                  known ? api_json_count(j->compared.pairs[p].compared) : json_null());
        (void)json_object_set_new(row, "different",
                                  known ? api_json_count(j->compared.pairs[p].different) : json_null());
        (void)json_object_set_new(row, "drift",
                                  known ? json_integer(j->compared.pairs[p].drift) : json_null());
        (void)json_object_set_new(row, "repaired", json_integer(j->changed[p]));
        (void)json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *lines_json(const struct books_job *j)
{
    json_t *rows = json_array();

    for (unsigned i = 0; i < j->n_lines; i++) {
        const struct books_line *l = &j->lines[i];

        (void)json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:I, s:I}", "pair",
                                                    reconcile_pair_name(l->pair), "where", l->where,
                                                    "measure", l->measure, "ledger", (json_int_t)l->ledger,
                                                    "other", (json_int_t)l->other));
    }
    return rows;
}

static bool take_only(const json_t *body, bool *out, struct err *err)
{
    const char *z = json_string_value(json_object_get(body, "only"));

    *out = z && strcmp(z, "budgets") == 0;
    if (json_object_get(body, "only") && !*out)
        (void)err_set(err, ERR_BAD_REQUEST, "'only' takes budgets");
    return *out || !json_object_get(body, "only");
}

/* Money was moved: whoever looks at the events later wants to know by whom. */
static void tell_repair(const struct api_request *rq, const struct books_job *j, const char *reason)
{
    struct event ev;

    if (!j->changed[RECONCILE_LEDGER_BUDGETS])
        return;
    event_make(&ev, EVENT_BUDGET, EVENT_INFO, "budgets",
               "%u of them were made to follow the ledger by '%s'%s%.120s",
               j->changed[RECONCILE_LEDGER_BUDGETS], rq->actor, reason ? ": " : "", reason ? reason : "");
    event_add_count(&ev, "changed", j->changed[RECONCILE_LEDGER_BUDGETS]);
    events_tell_mt(gateway_events_mt(rq->gw), &ev);
}

void api_reconcile(const struct api_request *rq, struct api_reply *reply)
{
    static const char *const NAMES[] = {"from", "repair", "apply", "only", "reason", NULL};
    json_t *body = body_of(rq, NAMES, reply), *o;
    struct books_job *j;
    struct err err = {0};
    bool apply = false;

    if (!body)
        return;
    j = job_new(BOOKS_RECONCILE);
    if (!take_hour(body, "from", &j->from_hour, &err) || !take_flag(body, "repair", &j->is_repair, &err) ||
        !take_flag(body, "apply", &apply, &err) || !take_only(body, &j->is_budgets_only, &err)) {
        api_reply_error(reply, err.code, "%s", err_text(&err));
    } else {
        j->is_dry_run = !apply;
        if (do_it(rq, &j, reply)) {
            o = json_object();
            (void)json_object_set_new(o, "status", json_string("done"));
            (void)json_object_set_new(o, "applied", json_boolean(j->is_repair && apply));
            (void)json_object_set_new(o, "pairs", pairs_json(j));
            (void)json_object_set_new(o, "differences", lines_json(j));
            api_reply_json(reply, o);
            if (apply && j->is_repair)
                tell_repair(rq, j, json_string_value(json_object_get(body, "reason")));
        }
    }
    free(j);
    json_decref(body);
}
