/* SPDX-License-Identifier: Apache-2.0 */
/* Circuit breakers: their states, and what operators make of them. A change is written to the audit log, and a forced state to
 * the history store, in one transaction on the directory's thread before it takes effect here; other nodes hear of it from
 * the realtime store. */
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/api/api_directory_priv.h"
#include "gatewayd/api/bodies_priv.h"
#include "gatewayd/books/breaker_share.h"
#include "gatewayd/config/value.h"
#include "gatewayd/provider/pricing.h"

#define FORCED_MAX_US ((int64_t)30 * 86400 * 1000000)

/* The first six members are those that the reference names; its stamp is a number. */
static json_t *row_json(const struct breaker_view *v, struct wall started)
{
    json_t *o = json_object(), *f;
    struct wall updated = v->updated.us ? v->updated : started;

    (void)json_object_set_new(o, "provider", json_string(label_text(v->provider)));
    (void)json_object_set_new(o, "model", json_string(label_text(v->model)));
    (void)json_object_set_new(o, "state", json_string(breaker_state_name(v->state)));
    (void)json_object_set_new(o, "failure_count", json_integer(v->failures));
    (void)json_object_set_new(o, "is_available", json_boolean(v->is_available));
    (void)json_object_set_new(o, "last_updated", json_real((double)updated.us / 1e6));
    (void)json_object_set_new(o, "since", api_json_time(v->since));
    (void)json_object_set_new(o, "until", api_json_time(v->until));
    (void)json_object_set_new(o, "cause", v->cause[0] ? json_string(v->cause) : json_null());
    (void)json_object_set_new(o, "probes", json_integer(v->probes));
    (void)json_object_set_new(o, "window_attempts", api_json_count(v->window_attempts));
    (void)json_object_set_new(o, "window_failures", api_json_count(v->window_failures));
    (void)json_object_set_new(o, "last_recovery_s",
                              v->recovery_us >= 0 ? json_real((double)v->recovery_us / 1e6) : json_null());
    f = v->force == BREAKER_AUTO ? json_null() : json_object();
    if (v->force != BREAKER_AUTO) {
        (void)json_object_set_new(f, "state",
                                  json_string(v->force == BREAKER_FORCED_OPEN ? "OPEN" : "CLOSED"));
        (void)json_object_set_new(f, "since", api_json_time(v->forced_at));
        (void)json_object_set_new(f, "until", api_json_time(v->until));
        (void)json_object_set_new(f, "reason", v->reason[0] ? json_string(v->reason) : json_null());
        (void)json_object_set_new(f, "actor", json_string(v->actor));
        (void)json_object_set_new(f, "drain", json_boolean(v->is_drain));
    }
    (void)json_object_set_new(o, "forced", f);
    return o;
}

static json_t *history_json(struct gateway *gw, const struct breaker_view *v)
{
    struct breaker_change changes[BREAKER_HISTORY];
    size_t n = breaker_history(gateway_breakers_mt(gw), v->provider, v->model, changes);
    json_t *rows = json_array();

    for (size_t i = 0; i < n; i++) {
        json_t *o = json_object();

        (void)json_object_set_new(o, "at", api_json_time(changes[i].at));
        (void)json_object_set_new(o, "from", json_string(breaker_state_name(changes[i].from)));
        (void)json_object_set_new(o, "to", json_string(breaker_state_name(changes[i].to)));
        (void)json_object_set_new(o, "cause", json_string(changes[i].cause));
        (void)json_array_append_new(rows, o);
    }
    return rows;
}

void api_breakers(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    json_t *rows = json_array();

    picture_take(&p, rq->gw);
    for (size_t i = 0; i < p.state.n_breakers; i++)
        (void)json_array_append_new(rows, row_json(&p.state.breakers[i], p.state.started));
    picture_release(&p);
    api_reply_json(reply, rows);
}

void api_breakers_of(const struct api_request *rq, struct api_reply *reply)
{
    struct config *c = gateway_config_ref_mt(rq->gw);
    bool is_known = config_find_provider(c, rq->tail) != NULL;
    struct picture p;
    json_t *rows = json_array();

    picture_take(&p, rq->gw);
    for (size_t i = 0; i < p.state.n_breakers; i++) {
        const struct breaker_view *v = &p.state.breakers[i];
        json_t *o;

        if (!span_is(rq->tail, label_text(v->provider)))
            continue;
        o = row_json(v, p.state.started);
        (void)json_object_set_new(o, "history", history_json(rq->gw, v));
        (void)json_array_append_new(rows, o);
    }
    is_known |= json_array_size(rows) > 0;
    picture_release(&p);
    config_unref(c);
    if (is_known) {
        api_reply_json(reply, rows);
        return;
    }
    json_decref(rows);
    api_reply_error(reply, ERR_NOT_FOUND, "no provider is named '%.*s'", (int)rq->tail.len, rq->tail.p);
}

/* ---- changes --------------------------------------------------------------------------------------------------------- */

enum { B_ACTION, B_FOR, B_DRAIN, B_REASON, B_COUNT };

static const struct field FIELDS[B_COUNT] = {
    [B_ACTION] = {.name = "action",
                  .type = FIELD_CHOICE,
                  .choices = "open close reset auto",
                  .is_required = true},
    [B_FOR] = {.name = "for", .type = FIELD_TEXT, .max = 32},
    [B_DRAIN] = {.name = "drain", .type = FIELD_BOOL},
    [B_REASON] = {.name = "reason", .type = FIELD_TEXT, .max = BREAKER_TEXT - 1},
};
const struct api_body BODY_BREAKER = {FIELDS, B_COUNT};

struct order {
    label provider, model;
    struct breaker_forced forced;
    bool is_reset;
};
/* The directory's thread runs one call at a time; the transaction's function gets the call only. */
static _Thread_local const struct order *at_work;

static enum err_code write_order(struct db *db, int64_t now_s, void *user, struct err *err)
{
    (void)now_s;
    (void)user;
    return breaker_keep(db, at_work->provider, at_work->model, &at_work->forced, err);
}

static bool find_breaker(struct call *c, struct span provider, struct span model, struct order *o)
{
    const struct config_provider *p = config_find_provider(c->joined, provider);
    struct picture all;
    bool found = false;

    picture_take(&all, c->rq->gw);
    for (size_t i = 0; !found && i < all.state.n_breakers; i++) {
        const struct breaker_view *v = &all.state.breakers[i];

        found = span_is(provider, label_text(v->provider)) && span_is(model, label_text(v->model));
        if (found) {
            o->provider = v->provider;
            o->model = v->model;
        }
    }
    picture_release(&all);
    if (!found && p && price_is_known_model(c->joined->prices, provider, model)) {
        o->provider = p->label;
        o->model = intern(model);
        found = true;
    }
    return found || call_refuse(c, ERR_NOT_FOUND, "there is no breaker of provider '%.*s' and model '%.*s'",
                                (int)provider.len, provider.p, (int)model.len, model.p);
}

static bool read_order(struct call *c, struct order *o)
{
    const char *action = c->v[B_ACTION].text;
    bool is_open = strcmp(action, "open") == 0, is_forced = is_open || strcmp(action, "close") == 0;
    int64_t us = 0;

    o->is_reset = strcmp(action, "reset") == 0;
    if (is_forced != c->v[B_FOR].is_given)
        return call_refuse(c, ERR_BAD_REQUEST,
                           is_forced
                               ? "'for' is missing: a forced state ends by itself, at the latest after 30d"
                               : "'for' is only for 'open' and 'close'");
    if (c->v[B_DRAIN].is_given && !is_open)
        return call_refuse(c, ERR_BAD_REQUEST, "'drain' is only for 'open'");
    if (is_forced && (!value_duration(span_of(c->v[B_FOR].text), &us) || us < 1000000 || us > FORCED_MAX_US))
        return call_refuse(c, ERR_BAD_REQUEST, "'for' must be a duration from 1s to 30d, such as '30m'");
    o->forced.at = wall_now();
    if (is_forced) {
        o->forced.force = is_open ? BREAKER_FORCED_OPEN : BREAKER_FORCED_CLOSED;
        o->forced.until.us = o->forced.at.us + us;
    }
    o->forced.is_drain = c->v[B_DRAIN].i != 0;
    (void)snprintf(o->forced.actor, sizeof(o->forced.actor), "%s", c->rq->actor);
    if (c->v[B_REASON].text)
        (void)snprintf(o->forced.reason, sizeof(o->forced.reason), "%s", c->v[B_REASON].text);
    return true;
}

static json_t *state_json(const struct breaker_view *v)
{
    json_t *row = row_json(v, wall_now()), *o = json_object();

    (void)json_object_set(o, "state", json_object_get(row, "state"));
    (void)json_object_set(o, "failure_count", json_object_get(row, "failure_count"));
    (void)json_object_set(o, "forced", json_object_get(row, "forced"));
    json_decref(row);
    return o;
}

static void note_breaker(struct call *c, const struct order *o)
{
    struct breaker_view *v = calloc(1, sizeof(*v));

    if (!v)
        abort();
    (void)breaker_look(gateway_breakers_mt(c->rq->gw), o->provider, o->model, &c->joined->breaker,
                       breaker_now(), v);
    call_note_was(c, state_json(v));
    free(v);
}

/* The view as the order would make it; what an unforced breaker would do is not foretold. */
static void would_be(struct breaker_view *v, const struct order *o)
{
    v->force = o->forced.force;
    v->forced_at = o->forced.at;
    v->until = o->forced.until;
    v->is_drain = o->forced.is_drain;
    (void)snprintf(v->reason, sizeof(v->reason), "%s", o->forced.reason);
    (void)snprintf(v->actor, sizeof(v->actor), "%s", o->forced.actor);
    if (o->forced.force == BREAKER_FORCED_OPEN)
        v->state = BREAKER_OPEN;
    else if (o->forced.force == BREAKER_FORCED_CLOSED || o->is_reset)
        v->state = BREAKER_CLOSED;
    if (o->is_reset)
        v->failures = 0;
    v->is_available = v->state != BREAKER_OPEN;
}

static void reply_row(struct call *c, const struct order *o)
{
    struct breaker_view *v = calloc(1, sizeof(*v));
    json_t *row;

    if (!v)
        abort();
    (void)breaker_look(gateway_breakers_mt(c->rq->gw), o->provider, o->model, &c->joined->breaker,
                       breaker_now(), v);
    if (c->is_dry)
        would_be(v, o);
    row = row_json(v, wall_now());
    (void)json_object_set_new(row, "history", history_json(c->rq->gw, v));
    free(v);
    api_reply_json(c->reply, row);
}

void api_breaker_change(const struct api_request *rq, struct api_reply *reply)
{
    struct span model = rq->tail, provider = span_split(&model, '/');
    struct breakers *t = gateway_breakers_mt(rq->gw);
    struct order o = {0};
    struct call c;
    char subject[320], action[32];

    if (!call_begin(&c, rq, reply, FIELDS, B_COUNT))
        return;
    (void)snprintf(action, sizeof(action), "breaker.%s", c.v[B_ACTION].text);
    if (model.p && model.len && find_breaker(&c, provider, model, &o) && read_order(&c, &o)) {
        (void)snprintf(subject, sizeof(subject), "%s/%s", label_text(o.provider), label_text(o.model));
        at_work = &o;
        note_breaker(&c, &o);
        if (call_change(&c, action, subject, write_order)) {
            if (c.is_dry)
                (void)0;
            else if (o.is_reset)
                breaker_reset(t, o.provider, o.model, rq->actor, breaker_now());
            else
                breaker_force(t, o.provider, o.model, &o.forced, breaker_now());
            reply_row(&c, &o);
        }
    } else if (!model.p || !model.len) {
        (void)call_refuse(&c, ERR_NOT_FOUND, "name a provider and a model");
    }
    call_end(&c);
}
