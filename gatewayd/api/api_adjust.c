/* SPDX-License-Identifier: Apache-2.0 */
/* Corrections of what was booked: a record of their own, in the journal first and in every book behind it. On the
 * directory's thread, since the audit row is written before. */
#include <stdio.h>

#include "gatewayd/api/api_directory_priv.h"
#include "gatewayd/api/bodies_priv.h"
#include "gatewayd/provider/pricing.h"

enum { A_TENANT, A_KEY, A_PROVIDER, A_MODEL, A_KIND, A_AMOUNT, A_REASON, A_COUNT };

static const struct field FIELDS[A_COUNT] = {
    [A_TENANT] = {.name = "tenant", .type = FIELD_NAME, .is_required = true},
    [A_KEY] = {.name = "key", .type = FIELD_NAME},
    [A_PROVIDER] = {.name = "provider", .type = FIELD_NAME, .is_required = true},
    [A_MODEL] = {.name = "model", .type = FIELD_TEXT, .max = 128, .is_required = true},
    [A_KIND] = {.name = "kind", .type = FIELD_CHOICE, .choices = "charge credit", .is_required = true},
    [A_AMOUNT] = {.name = "amount_usd", .type = FIELD_USD, .is_required = true},
    [A_REASON] = {.name = "reason", .type = FIELD_TEXT, .max = 119, .is_required = true},
};
const struct api_body BODY_ADJUST = {FIELDS, A_COUNT};

static enum err_code write_nothing(struct db *db, int64_t now_s, void *user, struct err *err)
{
    (void)db;
    (void)now_s;
    (void)user;
    (void)err;
    return ERR_OK;
}

static const struct config_key *find_key(const struct config *c, const char *tenant, const char *id)
{
    for (size_t i = 0; i < c->n_keys; i++)
        if (strcmp(c->keys[i].id, id) == 0 && strcmp(c->keys[i].tenant->id, tenant) == 0)
            return &c->keys[i];
    return NULL;
}

/* As requests are booked: under the name of the catalogue or of the configuration, else "other". */
static label model_label(const struct config *c, const struct config_provider *p, const char *model)
{
    for (size_t m = 0; m < c->n_models; m++)
        for (size_t t = 0; t < c->models[m].n_targets; t++)
            if (c->models[m].targets[t].provider == p && strcmp(c->models[m].targets[t].model, model) == 0)
                return c->models[m].targets[t].model_label;
    return price_is_known_model(c->prices, span_of(p->name), span_of(model)) ? intern_z(model)
                                                                             : intern_z("other");
}

/* Only names that the books may hold already become labels. */
static bool fill(struct call *c, struct fact_adjust *a)
{
    const struct config_tenant *t = call_tenant(c->joined, c->v[A_TENANT].text);
    const struct config_provider *p = config_find_provider(c->joined, span_of(c->v[A_PROVIDER].text));
    const struct config_key *k = NULL;

    if (!t)
        return call_refuse(c, ERR_NOT_FOUND, "tenant '%s' does not exist", c->v[A_TENANT].text);
    if (c->v[A_KEY].is_given && !(k = find_key(c->joined, t->id, c->v[A_KEY].text)))
        return call_refuse(c, ERR_NOT_FOUND, "tenant '%s' has no key '%s'", t->id, c->v[A_KEY].text);
    if (!p)
        return call_refuse(c, ERR_NOT_FOUND, "provider '%s' is not configured", c->v[A_PROVIDER].text);
    *a = (struct fact_adjust){.at = wall_now(),
                              .tenant = t->label,
                              .key = k ? k->label : 0,
                              .provider = p->label,
                              .model = model_label(c->joined, p, c->v[A_MODEL].text),
                              .amount_nanousd = c->v[A_AMOUNT].i};
    if (strcmp(c->v[A_KIND].text, "credit") == 0)
        a->amount_nanousd = -a->amount_nanousd;
    a->id = id_mint(a->at);
    (void)snprintf(a->who, sizeof(a->who), "%s", c->rq->actor);
    (void)snprintf(a->why, sizeof(a->why), "%s", c->v[A_REASON].text);
    return true;
}

void api_adjust(const struct api_request *rq, struct api_reply *reply)
{
    struct fact_adjust a;
    struct call c;
    char id[ID_TEXT_CAP];
    json_t *o;
    enum err_code e;

    if (!call_begin(&c, rq, reply, FIELDS, A_COUNT))
        return;
    if (fill(&c, &a) && call_change(&c, "adjust", c.v[A_TENANT].text, write_nothing)) {
        e = c.is_dry ? ERR_OK : gateway_adjust_mt(rq->gw, &a, &c.err);
        if (e) {
            call_fail(&c, e);
        } else {
            id_format(&a.id, id);
            o = json_object();
            (void)json_object_set_new(o, "id", c.is_dry ? json_null() : json_string(id));
            (void)json_object_set_new(o, "tenant", api_json_label(a.tenant));
            (void)json_object_set_new(o, "provider", api_json_label(a.provider));
            (void)json_object_set_new(o, "model", api_json_label(a.model));
            api_set_cost(o, "amount_usd", "amount_nanousd", a.amount_nanousd);
            api_reply_json(reply, o);
        }
    }
    call_end(&c);
}
