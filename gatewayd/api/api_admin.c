/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator changes. A reload is in the audit log once the database answers: it must work without it. */
#include "gatewayd/api/bodies_priv.h"
#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/config/config_show.h"

static const struct field REASON[] = {{.name = "reason", .type = FIELD_TEXT, .max = 512}};
const struct api_body BODY_REASON = {REASON, ARRAY_LEN(REASON)};

void api_reload(const struct api_request *rq, struct api_reply *reply)
{
    struct field_value v[1];
    struct err err = {0};
    struct config *c;
    json_t *o, *body = NULL;
    enum err_code e = fields_read(rq->body, BODY_REASON.fields, BODY_REASON.n, v, &body, &err);

    if (e) {
        api_reply_error(reply, e, "%s", err_text(&err));
        return;
    }
    e = gateway_reload_mt(rq->gw, rq->actor, v[0].text, &err);
    json_decref(body);
    if (e) {
        /* A mistake in the file, not in the gateway: the one in use stays. */
        api_reply_error(reply, ERR_CONFLICT, "the configuration in use stays: %s", err_text(&err));
        return;
    }
    c = gateway_config_ref_mt(rq->gw);
    o = json_object();
    (void)json_object_set_new(o, "status", json_string("reloaded"));
    (void)json_object_set_new(o, "config_version", api_json_count(c->version));
    config_unref(c);
    api_reply_json(reply, o);
}

static void take_option(void *user, const struct config_value *v)
{
    (void)json_array_append_new(user, config_option_json(v->path, v));
}

/* What is in force, and where each value comes from. Lists are served by routes of their own. */
void api_config(const struct api_request *rq, struct api_reply *reply)
{
    struct config *c = gateway_config_ref_mt(rq->gw);
    json_t *o = json_object(), *options = json_array();

    config_describe(c, take_option, options);
    (void)json_object_set_new(o, "version", api_json_count(c->version));
    (void)json_object_set_new(o, "path", c->path ? json_string(c->path) : json_null());
    (void)json_object_set_new(o, "options", options);
    (void)json_object_set_new(o, "providers", api_json_count(c->n_providers));
    (void)json_object_set_new(o, "models", api_json_count(c->n_models));
    (void)json_object_set_new(o, "tenants", api_json_count(c->n_tenants));
    (void)json_object_set_new(o, "keys", api_json_count(c->n_keys));
    config_unref(c);
    api_reply_json(reply, o);
}

void api_sim(const struct api_request *rq, struct api_reply *reply)
{
    const char *url = gateway_simulator_mt(rq->gw);
    json_t *o = json_object();

    (void)json_object_set_new(o, "simulator", url ? json_string(url) : json_null());
    api_reply_json(reply, o);
}
