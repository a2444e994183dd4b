/* SPDX-License-Identifier: Apache-2.0 */
/* Providers: what is known of each, and what operators make of them. A state is written to the history store with its audit row, in one
 * transaction on the directory's thread, and reaches all nodes as tenants and keys do. A probe waits on the books' thread. */
#include <math.h>
#include <stdlib.h>

#include "gatewayd/api/api_directory_priv.h"
#include "gatewayd/api/bodies_priv.h"
#include "gatewayd/api/provider_health_priv.h"
#include "gatewayd/config/value.h"
#include "gatewayd/health/tracker.h"
#include "gatewayd/provider/bound.h"
#include "gatewayd/resilience/load.h"
#include "gatewayd/resilience/queue.h"
#include "gatewayd/telemetry/events.h"

#define STATE_MAX_US     ((int64_t)366 * 86400 * 1000000)
#define PROBE_BODY_BYTES 100u /* of a billed probe: what aigwctl sends is smaller */

/* ---- what is shown --------------------------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *z)
{
    return z && z[0] ? json_string(z) : json_null();
}

static void set_state(json_t *o, const struct config *c, const struct config_provider *p)
{
    const struct config_provider_state *s = config_provider_state(c, p->label, wall_now().us);

    (void)json_object_set_new(o, "state",
                              json_string(!p->is_enabled ? "off"
                                          : s            ? provider_state_name(s->state)
                                                         : provider_state_name(PROVIDER_ENABLED)));
    (void)json_object_set_new(o, "since", s ? api_json_time((struct wall){s->at_us}) : json_null());
    (void)json_object_set_new(o, "until", s ? api_json_time((struct wall){s->until_us}) : json_null());
    (void)json_object_set_new(o, "reason", s ? text_or_null(s->reason) : json_null());
    (void)json_object_set_new(o, "actor", s ? text_or_null(s->actor) : json_null());
}

static void set_health(json_t *o, const struct health_row *row)
{
    const struct health *h = &row->health;

    (void)json_object_set_new(o, "health_score",
                              h->is_known ? json_real(health_rounded(h->score)) : json_null());
    (void)json_object_set_new(o, "status", json_string(health_name(h)));
    (void)json_object_set_new(o, "availability", api_json_number(h->availability));
    (void)json_object_set_new(o, "error_rate", api_json_number(h->error_rate));
    (void)json_object_set_new(o, "latency_p95_ms", api_json_number(row->facts.p95_s * 1000));
    (void)json_object_set_new(o, "breakers", json_integer(row->facts.breakers));
    (void)json_object_set_new(o, "breakers_open", json_integer(row->facts.breakers_open));
}

static json_t *provider_json(const struct config *c, const struct config_provider *p,
                             const struct picture *pic)
{
    const struct queue *q = queues_of(c, p);
    struct health_row row = provider_health(pic, p->label);
    json_t *o = json_object();

    (void)json_object_set_new(o, "provider", json_string(p->name));
    (void)json_object_set_new(o, "kind", json_string(p->kind));
    (void)json_object_set_new(o, "base_url", json_string(p->base_url));
    set_state(o, c, p);
    (void)json_object_set_new(o, "in_flight", q ? json_integer(queue_in_flight(q)) : json_null());
    (void)json_object_set_new(o, "max_concurrent",
                              p->max_concurrent ? json_integer(p->max_concurrent) : json_null());
    (void)json_object_set_new(o, "keys", api_json_count(p->n_api_keys));
    (void)json_object_set_new(o, "free_probe", json_boolean(prober_can(p)));
    set_health(o, &row);
    return o;
}

/* What one token costs at most, asked for with a short prompt; null where that is not known, or the model writes no text. */
static json_t *probe_price(const struct config_target *t)
{
    const struct bound_facts f = {.body_bytes = PROBE_BODY_BYTES, .max_tokens = 1, .has_output = true};

    return t->price && t->price->output > 0 ? json_integer(bound_nanousd(t->price, &f)) : json_null();
}

static bool is_first(const struct config *c, size_t model, size_t target)
{
    const struct config_target *want = &c->models[model].targets[target];

    for (size_t m = 0; m <= model; m++)
        for (size_t t = 0; t < (m == model ? target : c->models[m].n_targets); t++)
            if (c->models[m].targets[t].provider == want->provider &&
                strcmp(c->models[m].targets[t].model, want->model) == 0)
                return false;
    return true;
}

static json_t *models_json(const struct config *c, const struct config_provider *p, struct loads *loads)
{
    json_t *rows = json_array();

    for (size_t m = 0; m < c->n_models; m++)
        for (size_t i = 0; i < c->models[m].n_targets; i++) {
            const struct config_target *t = &c->models[m].targets[i];
            struct load_view v;
            json_t *o;

            if (t->provider != p || !is_first(c, m, i))
                continue;
            v = load_look(load_of(loads, p->label, t->model_label), false, mono_now());
            o = json_object();
            (void)json_object_set_new(o, "model", json_string(t->model));
            (void)json_object_set_new(o, "in_flight", json_integer(v.in_flight));
            (void)json_object_set_new(
                o, "latency_ms", v.latency_us >= 0 ? json_real((double)v.latency_us / 1000) : json_null());
            (void)json_object_set_new(o, "probe_cost_nanousd", probe_price(t));
            (void)json_array_append_new(rows, o);
        }
    return rows;
}

/* NULL after a reply. */
static const struct config_provider *find(struct call *c, struct span name)
{
    const struct config_provider *p = config_find_provider(c->joined, name);

    if (!p)
        (void)call_refuse(c, ERR_NOT_FOUND, "no provider is named '%.*s'", (int)name.len, name.p);
    return p;
}

/* Where applications connect, as somebody on this machine would. */
static void set_data_url(json_t *o, const struct call *c)
{
    const struct config_address *at = &c->joined->listen;
    const char *host = at->host;

    if (!host[0] || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
        host = "127.0.0.1";
    (void)json_object_set_new(o, "data_url",
                              json_sprintf(strchr(host, ':') ? "%s://[%s]:%u" : "%s://%s:%u",
                                           c->joined->tls_cert ? "https" : "http", host,
                                           gateway_port_mt(c->rq->gw)));
}

static void reply_one(struct call *c, const struct config_provider *p)
{
    struct picture pic;
    json_t *o;

    picture_take(&pic, c->rq->gw);
    o = provider_json(c->joined, p, &pic);
    set_data_url(o, c);
    (void)json_object_set_new(o, "models", models_json(c->joined, p, gateway_loads_mt(c->rq->gw)));
    picture_release(&pic);
    api_reply_json(c->reply, o);
}

void api_providers(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    struct picture pic;
    json_t *rows = json_array(), *o = json_object();

    (void)call_begin(&c, rq, reply, NULL, 0);
    picture_take(&pic, rq->gw);
    for (size_t i = 0; i < c.joined->n_providers; i++)
        (void)json_array_append_new(rows, provider_json(c.joined, &c.joined->providers[i], &pic));
    picture_release(&pic);
    (void)json_object_set_new(o, "providers", rows);
    api_reply_json(reply, o);
    call_end(&c);
}

void api_provider(const struct api_request *rq, struct api_reply *reply)
{
    const struct config_provider *p;
    struct call c;

    (void)call_begin(&c, rq, reply, NULL, 0);
    p = find(&c, rq->tail);
    if (p)
        reply_one(&c, p);
    call_end(&c);
}

/* ---- changes --------------------------------------------------------------------------------------------------------- */

enum { P_STATE, P_FOR, P_UNTIL, P_REASON, P_COUNT };

static const struct field FIELDS[P_COUNT] = {
    [P_STATE] = {.name = "state",
                 .type = FIELD_CHOICE,
                 .choices = "enabled draining disabled",
                 .is_required = true},
    [P_FOR] = {.name = "for", .type = FIELD_TEXT, .max = 32},
    [P_UNTIL] = {.name = "until", .type = FIELD_TIME},
    [P_REASON] = FIELD_REASON,
};
const struct api_body BODY_PROVIDER = {FIELDS, P_COUNT};

/* How long the state holds, from now on; 0: until it is said otherwise. False after a reply. */
static bool read_length(struct call *c, int64_t *out_us)
{
    bool is_enabled = strcmp(c->v[P_STATE].text, "enabled") == 0;

    *out_us = 0;
    if (c->v[P_FOR].is_given && c->v[P_UNTIL].is_given)
        return call_refuse(c, ERR_BAD_REQUEST, "'for' and 'until' say the same; give one of them");
    if (is_enabled && (c->v[P_FOR].is_given || c->v[P_UNTIL].is_given))
        return call_refuse(c, ERR_BAD_REQUEST, "'for' and 'until' are for 'draining' and 'disabled'");
    if (c->v[P_FOR].is_given && !value_duration(span_of(c->v[P_FOR].text), out_us))
        return call_refuse(c, ERR_BAD_REQUEST, "'for' must be a duration such as '30m'");
    if (c->v[P_UNTIL].is_given)
        *out_us = c->v[P_UNTIL].i * 1000000 - wall_now().us;
    if ((c->v[P_FOR].is_given || c->v[P_UNTIL].is_given) && (*out_us < 1000000 || *out_us > STATE_MAX_US))
        return call_refuse(c, ERR_BAD_REQUEST, "the end must be from a second to a year ahead");
    return true;
}

/* The directory's thread runs one call at a time; the transaction's function gets the call only. */
static _Thread_local int64_t length_at_work_us;

static enum err_code write_state(struct db *db, int64_t now_s, void *user, struct err *err)
{
    const struct call *c = user;
    struct wall now = wall_now();
    char name[sizeof(ROWS_PROVIDER) + sizeof(c->id)], *text;
    enum err_code e;
    json_t *o;

    (void)now_s;
    (void)snprintf(name, sizeof(name), ROWS_PROVIDER "%s", c->id);
    if (strcmp(c->v[P_STATE].text, "enabled") == 0)
        return db_exec(db, "provider_enable", "DELETE FROM settings WHERE name = $1",
                       (struct db_value[]){db_textz(name)}, 1, NULL, err);
    o = json_pack("{s:s, s:I, s:I, s:s, s:s}", "state", c->v[P_STATE].text, "at", (json_int_t)now.us, "until",
                  (json_int_t)(length_at_work_us ? now.us + length_at_work_us : 0), "reason",
                  c->reason ? c->reason : "", "actor", c->rq->actor);
    text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text)
        return err_set(err, ERR_BAD_REQUEST, "the reason is not UTF-8");
    e = db_exec(db, "provider_state",
                "INSERT INTO settings (name, value) VALUES ($1, $2) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (struct db_value[]){db_textz(name), db_textz(text)}, 2, NULL, err);
    free(text);
    return e;
}

static void tell(struct call *c, const char *was, const char *is)
{
    struct event ev;

    if (strcmp(was, is) == 0 || c->is_dry)
        return;
    event_make(&ev, EVENT_PROVIDER, strcmp(is, "enabled") == 0 ? EVENT_INFO : EVENT_WARNING, c->id,
               "was %s and is %s%s%.120s", was, is, c->reason ? ": " : "", c->reason ? c->reason : "");
    event_add_text(&ev, "old", was);
    event_add_text(&ev, "new", is);
    event_add_text(&ev, "actor", c->rq->actor);
    if (length_at_work_us)
        event_add_time(&ev, "until", (struct wall){wall_now().us + length_at_work_us});
    events_tell_mt(gateway_events_mt(c->rq->gw), &ev);
}

static const char *state_name(const struct config *c, label provider)
{
    const struct config_provider_state *s = config_provider_state(c, provider, wall_now().us);

    return provider_state_name(s ? s->state : PROVIDER_ENABLED);
}

static void note_state(struct call *c, const struct config_provider *p)
{
    json_t *o = json_object();

    set_state(o, c->joined, p);
    call_note_was(c, o);
}

void api_provider_change(const struct api_request *rq, struct api_reply *reply)
{
    static const char *const ACTIONS[] = {"provider.enable", "provider.drain", "provider.disable"};
    const struct config_provider *p;
    const char *was, *action = ACTIONS[PROVIDER_ENABLED];
    struct call c;

    if (!call_begin(&c, rq, reply, FIELDS, P_COUNT))
        return;
    for (int s = PROVIDER_ENABLED; s <= PROVIDER_DISABLED; s++)
        if (strcmp(c.v[P_STATE].text, provider_state_name((enum provider_state)s)) == 0)
            action = ACTIONS[s];
    p = find(&c, rq->tail);
    if (p && read_length(&c, &length_at_work_us)) {
        label l = p->label;

        (void)span_copy(c.id, sizeof(c.id), span_of(p->name));
        was = state_name(c.joined, l);
        note_state(&c, p);
        if (call_change(&c, action, c.id, write_state)) {
            tell(&c, was, state_name(c.joined, l));
            p = find(&c, rq->tail);
            if (p)
                reply_one(&c, p);
        }
    }
    call_end(&c);
}

/* ---- probes ---------------------------------------------------------------------------------------------------------- */

void api_provider_probe(const struct api_request *rq, struct api_reply *reply)
{
    static const struct span SUFFIX = {"/probe", 6};
    struct config *c = gateway_config_ref_mt(rq->gw);
    struct health_probed r = {0};
    struct err err = {0};
    struct span name = rq->tail;
    char text[LIMIT_NAME_BYTES + 1];
    struct field_value v[1];
    enum err_code e = ERR_NOT_FOUND;
    json_t *o, *body = NULL;

    if ((e = fields_read(rq->body, BODY_REASON.fields, BODY_REASON.n, v, &body, &err))) {
        config_unref(c);
        api_reply_error(reply, e, "%s", err_text(&err));
        return;
    }
    json_decref(body);
    e = ERR_NOT_FOUND;
    if (name.len > SUFFIX.len && span_eq(span_make(name.p + name.len - SUFFIX.len, SUFFIX.len), SUFFIX))
        name.len -= SUFFIX.len;
    else
        name.len = 0;
    if (name.len && name.len < sizeof(text)) {
        (void)span_copy(text, sizeof(text), name);
        e = tracker_probe_mt(gateway_tracker_mt(rq->gw), text, c->health.probe_timeout_us, &r, &err);
    } else {
        (void)err_set(&err, e, "there is no such path");
    }
    config_unref(c);
    if (e) {
        api_reply_error(reply, e, "%s", err_text(&err));
        return;
    }
    o = json_object();
    (void)json_object_set_new(o, "provider", json_string(text));
    (void)json_object_set_new(o, "outcome",
                              json_string(r.is_unclear ? "unclear"
                                          : r.is_ok    ? "ok"
                                                       : "failed"));
    (void)json_object_set_new(o, "took_ms", json_real((double)r.us / 1000));
    (void)json_object_set_new(o, "detail", json_string(r.text));
    (void)json_object_set_new(o, "at", api_json_time(r.at));
    (void)json_object_set_new(o, "cost_nanousd", json_integer(0));
    api_reply_json(reply, o);
}
