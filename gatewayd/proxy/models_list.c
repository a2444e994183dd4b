/* SPDX-License-Identifier: Apache-2.0 */
/* Listed are the aliases, and `provider/model` of every target that an alias names. */
#include "gatewayd/proxy/models_list.h"

#include <stdio.h>

static void add(struct buf *out, bool *first, const char *id, const char *owner)
{
    if (!*first)
        buf_addc(out, ',');
    *first = false;
    buf_addz(out, "{\"id\":");
    buf_add_json(out, span_of(id));
    buf_addz(out, ",\"object\":\"model\",\"created\":0,\"owned_by\":");
    buf_add_json(out, span_of(owner));
    buf_addc(out, '}');
}

static bool is_listed_before(const struct config *c, size_t model, size_t target)
{
    const struct config_target *want = &c->models[model].targets[target];

    for (size_t m = 0; m <= model; m++)
        for (size_t t = 0; t < (m == model ? target : c->models[m].n_targets); t++)
            if (c->models[m].targets[t].provider == want->provider &&
                strcmp(c->models[m].targets[t].model, want->model) == 0)
                return true;
    return false;
}

static void list_all(struct request *rq)
{
    const struct config *c = rq->config;
    bool first = true;

    buf_addz(&rq->reply, "{\"object\":\"list\",\"data\":[");
    for (size_t m = 0; m < c->n_models; m++)
        if (config_tenant_may_use(rq->key->tenant, span_of(c->models[m].name)))
            add(&rq->reply, &first, c->models[m].name, "gatewayd");
    for (size_t m = 0; m < c->n_models; m++)
        for (size_t t = 0; t < c->models[m].n_targets; t++) {
            const struct config_target *target = &c->models[m].targets[t];
            char name[600];

            (void)snprintf(name, sizeof(name), "%s/%s", target->provider->name, target->model);
            if (!is_listed_before(c, m, t) && config_tenant_may_use(rq->key->tenant, span_of(name)))
                add(&rq->reply, &first, name, target->provider->name);
        }
    buf_addz(&rq->reply, "]}");
}

/* The raw and the percent-encoded form name the same model. */
static bool decode_id(struct span raw, char *dst, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.p[i];

        if (c == '%') {
            unsigned char byte;

            if (i + 2 >= raw.len || !hex_decode(span_make(raw.p + i + 1, 2), &byte, 1) || !byte)
                return false;
            c = (char)byte;
            i += 2;
        }
        if (n + 1 >= cap)
            return false;
        dst[n++] = c;
    }
    dst[n] = '\0';
    return n > 0;
}

static enum step answer_one(struct request *rq)
{
    struct config_target direct;
    char id[LIMIT_MODEL_BYTES + 1];
    const char *owner = NULL;
    bool first = true;

    if (!decode_id(rq->model_from_path, id, sizeof(id)))
        return request_fail(rq, ERR_NO_MODEL, "the model id in the path is malformed");
    if (config_tenant_may_use(rq->key->tenant, span_of(id))) {
        if (config_find_model(rq->config, span_of(id)))
            owner = "gatewayd";
        else if (config_resolve_direct(rq->config, span_of(id), rq->arena, &direct))
            owner = direct.provider->name;
    }
    if (!owner)
        return request_fail(rq, ERR_NO_MODEL, "model '%s' does not exist here", id);
    add(&rq->reply, &first, id, owner);
    return STEP_DONE;
}

enum step models_list_answer(struct request *rq)
{
    if (rq->op == OP_MODEL)
        return answer_one(rq);
    list_all(rq);
    return STEP_DONE;
}
