/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs on the books for operators: roll hours up, compare, repair. The handlers run on the thread that may wait; the work
 * is the aggregator's. A job that takes longer than the wait goes on by itself, and the answer is 202. */
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/bodies_priv.h"
#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/books/aggregator.h"
#include "gatewayd/directory/directory.h"
#include "gatewayd/telemetry/events.h"

#define WAIT_US ((int64_t)8 * 1000000)

/* ---- what is asked ------------------------------------------------------------------------------------------------- */

enum { A_FROM, A_TO, A_SOURCE, A_GAPS, A_DRY, A_REASON, A_COUNT };

static const struct field AGGREGATE_FIELDS[A_COUNT] = {
    [A_FROM] = {.name = "from", .type = FIELD_HOUR},
    [A_TO] = {.name = "to", .type = FIELD_HOUR},
    [A_SOURCE] = {.name = "source", .type = FIELD_CHOICE, .choices = "auto ledger redis"},
    [A_GAPS] = {.name = "allow_gaps", .type = FIELD_BOOL},
    [A_DRY] = {.name = "dry_run", .type = FIELD_BOOL},
    [A_REASON] = {.name = "reason", .type = FIELD_TEXT, .max = 512},
};
const struct api_body BODY_AGGREGATE = {AGGREGATE_FIELDS, A_COUNT};

enum { R_FROM, R_REPAIR, R_APPLY, R_ONLY, R_REASON, R_COUNT };

static const struct field RECONCILE_FIELDS[R_COUNT] = {
    [R_FROM] = {.name = "from", .type = FIELD_HOUR},
    [R_REPAIR] = {.name = "repair", .type = FIELD_BOOL},
    [R_APPLY] = {.name = "apply", .type = FIELD_BOOL},
    [R_ONLY] = {.name = "only", .type = FIELD_CHOICE, .choices = "budgets"},
    [R_REASON] = {.name = "reason", .type = FIELD_TEXT, .max = 512},
};
const struct api_body BODY_RECONCILE = {RECONCILE_FIELDS, R_COUNT};

/* The texts in `v` live as long as the document. NULL with the reply written otherwise. */
static json_t *body_of(const struct api_request *rq, const struct api_body *of, struct field_value *v,
                       struct api_reply *reply)
{
    struct err err = {0};
    json_t *body = NULL;
    enum err_code e = fields_read(rq->body, of->fields, of->n, v, &body, &err);

    if (e)
        api_reply_error(reply, e, "%s", err_text(&err));
    return body;
}

static enum aggregate_source source_of(const char *z)
{
    return !z || strcmp(z, "auto") == 0 ? AGGREGATE_AUTO
           : strcmp(z, "ledger") == 0   ? AGGREGATE_LEDGER
                                        : AGGREGATE_REDIS;
}

/* ?dry_run=true, as with any change. */
static bool is_dry(const struct api_request *rq)
{
    char text[8];

    return api_query_param(rq->query, "dry_run", text, sizeof(text)) && strcmp(text, "true") == 0;
}

/* For the audit log: what was asked, and what came of it. */
static void note(const struct api_request *rq, const char *action, const char *subject, const json_t *asked,
                 json_t *did)
{
    json_t *detail = json_pack("{s:O, s:o}", "set", asked, "did", did);

    directory_note_mt(gateway_directory(rq->gw), rq->actor, action, subject, detail);
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

#define RANGE_MAX_S                                                                                          \
    ((int64_t)366 * 86400) /* each hour is looked at by itself, and the hourly run waits meanwhile */

/* What is wrong with the hours that are asked for, or NULL. */
static const char *range_trouble(const struct field_value *v)
{
    int64_t now_s = wall_now().us / 1000000, to = v[A_TO].is_given ? v[A_TO].i : v[A_FROM].i;

    if (v[A_TO].is_given && !v[A_FROM].is_given)
        return "'to' needs 'from'";
    if (v[A_FROM].is_given && v[A_FROM].i > now_s)
        return "'from' is in the future";
    if (v[A_FROM].i > to)
        return "'from' is after 'to'";
    return (to < now_s ? to : now_s) - v[A_FROM].i > RANGE_MAX_S && v[A_FROM].is_given
               ? "'from' to 'to' may be 366 days at most; take them one after the other"
               : NULL;
}

static json_t *rolled_json(const struct books_job *j)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:s}", "hours", (json_int_t)j->rolled.hours, "rows",
                     (json_int_t)j->rolled.rows, "dirty", (json_int_t)j->rolled.dirty, "missing_hours",
                     (json_int_t)j->rolled.missing_hours, "source",
                     j->rolled.source == AGGREGATE_REDIS ? "redis" : "ledger");
}

void api_aggregate(const struct api_request *rq, struct api_reply *reply)
{
    struct field_value v[A_COUNT];
    json_t *body = body_of(rq, &BODY_AGGREGATE, v, reply), *o;
    struct books_job *j;

    if (body && range_trouble(v)) {
        api_reply_error(reply, ERR_BAD_REQUEST, "%s", range_trouble(v));
        json_decref(body);
        body = NULL;
    }
    if (!body)
        return;
    j = job_new(BOOKS_ROLL_UP);
    j->from_hour = v[A_FROM].i;
    j->to_hour = v[A_TO].i;
    j->source = source_of(v[A_SOURCE].text);
    j->allow_gaps = v[A_GAPS].i != 0;
    v[A_DRY].i |= is_dry(rq);
    j->is_dry_run = v[A_DRY].i != 0;
    if (do_it(rq, &j, reply)) {
        o = rolled_json(j);
        if (!v[A_DRY].i)
            note(rq, "books.aggregate", "hours", body, json_deep_copy(o));
        (void)json_object_set_new(o, "status", json_string("done"));
        (void)json_object_set_new(o, "took_s", json_real((double)j->rolled.took_us / 1e6));
        api_reply_json(reply, o);
    } else if (reply->status == 202 && !v[A_DRY].i) {
        note(rq, "books.aggregate", "hours", body, json_pack("{s:s}", "status", "running"));
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

static json_t *changed_json(const struct books_job *j)
{
    json_t *o = json_object();

    for (unsigned p = 0; p < RECONCILE_COUNT; p++)
        if (j->changed[p])
            (void)json_object_set_new(o, reconcile_pair_name((enum reconcile_pair)p),
                                      json_integer(j->changed[p]));
    return o;
}

void api_reconcile(const struct api_request *rq, struct api_reply *reply)
{
    struct field_value v[R_COUNT];
    json_t *body = body_of(rq, &BODY_RECONCILE, v, reply), *o;
    struct books_job *j;
    bool changes;

    if (!body)
        return;
    j = job_new(BOOKS_RECONCILE);
    v[R_APPLY].i &= !is_dry(rq);
    changes = v[R_REPAIR].i && v[R_APPLY].i;
    j->from_hour = v[R_FROM].i;
    j->is_repair = v[R_REPAIR].i != 0;
    j->is_dry_run = !v[R_APPLY].i;
    j->is_budgets_only = v[R_ONLY].text != NULL;
    if (do_it(rq, &j, reply)) {
        o = json_object();
        (void)json_object_set_new(o, "status", json_string("done"));
        (void)json_object_set_new(o, "applied", json_boolean(changes));
        (void)json_object_set_new(o, "pairs", pairs_json(j));
        (void)json_object_set_new(o, "differences", lines_json(j));
        api_reply_json(reply, o);
        if (changes) {
            tell_repair(rq, j, v[R_REASON].text);
            note(rq, "books.repair", "books", body, changed_json(j));
        }
    } else if (reply->status == 202 && changes) {
        note(rq, "books.repair", "books", body, json_pack("{s:s}", "status", "running"));
    }
    free(j);
    json_decref(body);
}
