/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator changes. */
#include "gatewayd/api/handlers_priv.h"

void api_reload(const struct api_request *rq, struct api_reply *reply)
{
    struct err err = {0};
    struct config *c;
    json_t *o;

    if (gateway_reload_mt(rq->gw, &err)) {
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

void api_config(const struct api_request *rq, struct api_reply *reply)
{
    struct config *c = gateway_config_ref_mt(rq->gw);

    api_reply_json(reply, config_show(c));
    config_unref(c);
}

void api_sim(const struct api_request *rq, struct api_reply *reply)
{
    const char *url = gateway_simulator_mt(rq->gw);
    json_t *o = json_object();

    (void)json_object_set_new(o, "simulator", url ? json_string(url) : json_null());
    api_reply_json(reply, o);
}
