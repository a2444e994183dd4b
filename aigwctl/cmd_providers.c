/* SPDX-License-Identifier: Apache-2.0 */
/* Providers: list, show, enable, disable, drain, probe. A billed probe is a request like any other, with a tenant's key. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/change.h"
#include "aigwctl/look.h"
#include "libshared/cli/human.h"

enum { KEY_FOR = 0x2000, KEY_UNTIL, KEY_BILLED, KEY_MODEL, KEY_KEY_FILE, KEY_DATA_URL };

static struct {
    const char *length, *until, *model, *key_file, *data_url;
    bool is_billed;
} opt;

static const struct argp_option OPTIONS[] = {
    {"for", KEY_FOR, "TIME", 0, "disable, drain: how long, such as 30m", 0},
    {"until", KEY_UNTIL, "INSTANT", 0, "disable, drain: the same as an RFC 3339 time", 0},
    {"billed", KEY_BILLED, 0, 0, "probe: a request for one token, which costs money", 0},
    {"model", KEY_MODEL, "MODEL", 0, "probe --billed: of this model; otherwise the cheapest", 0},
    {"key-file", KEY_KEY_FILE, "FILE", 0,
     "probe --billed: key of the tenant that pays; otherwise GATEWAYD_KEY", 0},
    {"data-url", KEY_DATA_URL, "URL", 0,
     "probe --billed: where applications connect; otherwise as configured", 0},
    CHANGE_OPTIONS,
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    (void)state;
    switch (key) {
    case KEY_FOR:
        opt.length = arg;
        return 0;
    case KEY_UNTIL:
        opt.until = arg;
        return 0;
    case KEY_BILLED:
        opt.is_billed = true;
        return 0;
    case KEY_MODEL:
        opt.model = arg;
        return 0;
    case KEY_KEY_FILE:
        opt.key_file = arg;
        return 0;
    case KEY_DATA_URL:
        opt.data_url = arg;
        return 0;
    default:
        return change_take(key, arg);
    }
}

const struct table_column PROVIDERS_COLUMNS[] = {
    {"provider", "PROVIDER", FORM_TEXT},
    {"state", "STATE", FORM_TEXT},
    {"kind", "KIND", FORM_TEXT},
    {"health_score", "SCORE", FORM_SCORE},
    {"status", "STATUS", FORM_HEALTH},
    {"in_flight", "IN FLIGHT", FORM_COUNT},
    {"until", "UNTIL", FORM_UNTIL},
    {"reason", "REASON", FORM_TEXT | FORM_WRAP},
    {0},
};
static const struct table_column MODELS[] = {
    {"model", "MODEL", FORM_TEXT},
    {"in_flight", "IN FLIGHT", FORM_COUNT},
    {"latency_ms", "LATENCY", FORM_MS},
    {0},
};
static const struct table_column PROBE[] = {
    {"provider", "PROVIDER", FORM_TEXT},
    {"outcome", "OUTCOME", FORM_TEXT},
    {"took_ms", "TOOK", FORM_MS},
    {"detail", "DETAIL", FORM_TEXT | FORM_WRAP},
    {0},
};

static int path_of(struct buf *path, const char *name, const char *rest)
{
    if (!change_is_name(name))
        return ctl_fail(CLI_NOT_FOUND, "no provider is named '%s'", name);
    buf_addf(path, "/api/admin/providers/%s%s", name, rest);
    return CLI_OK;
}

/* ---- looking --------------------------------------------------------------------------------------------------------- */

static int list(struct ctl *ctl, FILE *f)
{
    json_t *doc;
    int rc = ctl_get(ctl, "/api/admin/providers", &doc);

    if (rc || !doc)
        return rc;
    ctl_print(ctl, f, "providers", PROVIDERS_COLUMNS, json_object_get(doc, "providers"), NULL);
    json_decref(doc);
    return CLI_OK;
}

static int fetch(struct ctl *ctl, const char *name, json_t **out)
{
    struct buf path AUTO(buf_release) = {.max = 1024};
    int rc = path_of(&path, name, "");

    *out = NULL;
    return rc ? rc : ctl_get(ctl, path.p, out);
}

static int show(struct ctl *ctl, FILE *f)
{
    json_t *doc, *rows;
    int rc = fetch(ctl, ctl->args[1], &doc);

    if (rc || !doc)
        return rc;
    rows = json_pack("[O]", doc);
    ctl_print(ctl, f, "provider", PROVIDERS_COLUMNS, rows, doc);
    if (ctl->output == OUTPUT_TABLE && json_array_size(json_object_get(doc, "models"))) {
        (void)fputc('\n', f);
        ctl_print(ctl, f, "models", MODELS, json_object_get(doc, "models"), NULL);
    }
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

/* ---- changing -------------------------------------------------------------------------------------------------------- */

static void say_undo(const json_t *was, const char *name)
{
    const char *state = look_text(was, "state"), *until = look_text(was, "until");

    if (strcmp(state, "enabled") == 0)
        (void)printf("undo: aigwctl providers enable %s\n", name);
    else if (strcmp(state, "disabled") == 0 || strcmp(state, "draining") == 0)
        (void)printf("undo: aigwctl providers %s %s%s%s\n",
                     strcmp(state, "disabled") == 0 ? "disable" : "drain", name, *until ? " --until " : "",
                     until);
}

static void say_change(struct ctl *ctl, const json_t *was, const json_t *is)
{
    static const char *const CHANGED[] = {"state", "until", "reason", NULL};
    const char *name = look_text(is, "provider");
    json_t *rows = json_pack("[O]", is);

    if (ctl->output == OUTPUT_TABLE) {
        (void)printf("%s\n", name);
        change_show(stdout, was, is, CHANGED);
        if (json_integer_value(json_object_get(is, "in_flight")) &&
            strcmp(look_text(is, "state"), "draining") == 0)
            (void)printf("%lld attempts in flight on this node may end\n",
                         (long long)json_integer_value(json_object_get(is, "in_flight")));
        if (strcmp(look_text(was, "state"), look_text(is, "state")) != 0)
            say_undo(was, name);
    } else {
        ctl_print(ctl, stdout, "provider", PROVIDERS_COLUMNS, rows, is);
    }
    json_decref(rows);
}

static int change(struct ctl *ctl, const char *verb, const char *name)
{
    bool is_enable = strcmp(verb, "enable") == 0;
    struct buf path AUTO(buf_release) = {.max = 1024};
    char what[40];
    json_t *was, *is = NULL, *body;
    int rc;

    ctl->is_raw = false;
    rc = fetch(ctl, name, &was);
    if (rc)
        return rc;
    (void)path_of(&path, name, "");
    (void)snprintf(what, sizeof(what), "%s provider", verb);
    body = json_pack("{s:s}", "state", is_enable ? "enabled" : verb[1] == 'i' ? "disabled" : "draining");
    if (opt.length)
        (void)json_object_set_new(body, "for", json_string(opt.length));
    if (opt.until)
        (void)json_object_set_new(body, "until", json_string(opt.until));
    rc = change_make(ctl,
                     &(struct change){.danger = is_enable ? DANGER_MILD : DANGER_MODERATE,
                                      .what = what,
                                      .name = name,
                                      .method = "PATCH",
                                      .path = path.p,
                                      .body = body},
                     &is);
    if (!rc && is)
        say_change(ctl, was, is);
    json_decref(was);
    json_decref(is);
    return rc;
}

/* ---- probes ---------------------------------------------------------------------------------------------------------- */

static int print_probe(struct ctl *ctl, json_t *doc)
{
    json_t *rows = json_pack("[O]", doc);
    int rc = strcmp(look_text(doc, "outcome"), "failed") == 0 ? CLI_FAILED : CLI_OK;

    ctl_print(ctl, stdout, "probe", PROBE, rows, doc);
    json_decref(rows);
    json_decref(doc);
    return rc;
}

static int probe_free(struct ctl *ctl, const char *name)
{
    struct buf path AUTO(buf_release) = {.max = 1024};
    json_t *doc;
    int rc = path_of(&path, name, "/probe");

    if (!rc)
        rc = ctl_post(ctl, path.p, &doc);
    return rc || !doc ? rc : print_probe(ctl, doc);
}

/* The model that was asked for, or the cheapest with a price, or the first. */
static const json_t *choose_model(const json_t *provider)
{
    const json_t *rows = json_object_get(provider, "models"), *row, *best = NULL;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        const json_t *cost = json_object_get(row, "probe_cost_nanousd");

        if (opt.model ? strcmp(look_text(row, "model"), opt.model) == 0 : !best)
            best = row;
        else if (!opt.model && json_is_integer(cost) &&
                 (!json_is_integer(json_object_get(best, "probe_cost_nanousd")) ||
                  json_integer_value(cost) < json_integer_value(json_object_get(best, "probe_cost_nanousd"))))
            best = row;
    }
    return best;
}

static bool read_key(char *dst, size_t cap)
{
    const char *key = opt.key_file ? NULL : getenv("GATEWAYD_KEY");
    FILE *f = opt.key_file ? fopen(opt.key_file, "re") : NULL;

    dst[0] = '\0';
    if (f) {
        if (!fgets(dst, (int)cap, f))
            dst[0] = '\0';
        (void)fclose(f);
    } else if (key) {
        (void)snprintf(dst, cap, "%s", key);
    }
    dst[strcspn(dst, "\r\n")] = '\0';
    return dst[0] != '\0';
}

static char *request_body(const char *name, const char *model)
{
    json_t *o = json_pack("{s:o, s:i, s:[{s:s, s:s}]}", "model", json_sprintf("%s/%s", name, model),
                          "max_tokens", 1, "messages", "role", "user", "content", "ping");
    char *body = o ? json_dumps(o, JSON_COMPACT) : NULL;

    json_decref(o);
    return body;
}

static int send_billed(struct ctl *ctl, const json_t *provider, const char *model, const char *key)
{
    const char *name = look_text(provider, "provider");
    bool is_messages = strcmp(look_text(provider, "kind"), "anthropic") == 0;
    struct api_client_options o = {.url = opt.data_url ? opt.data_url : look_text(provider, "data_url"),
                                   .token = span_of(key),
                                   .timeout_ms = ctl->timeout_ms,
                                   .is_over = &ctl_stop};
    struct err err = {0};
    struct api_client *client = api_client_new(&o, &err);
    struct api_answer a = {0};
    char *body = request_body(name, model);
    struct mono began = mono_now();
    enum err_code e =
        client ? api_client_call(client, "POST", is_messages ? "/v1/messages" : "/v1/chat/completions",
                                 span_of(body ? body : ""), &a, &err)
               : err.code;
    struct span cost = e ? (struct span){0} : api_answer_header(&a, "x-gatewayd-cost-usd");
    int rc;

    if (e)
        rc = ctl_fail(CLI_NO_ANSWER, "%s: %s", o.url, err_text(&err));
    else
        rc = print_probe(ctl, json_pack("{s:s, s:s, s:f, s:o}", "provider", name, "outcome",
                                        a.status == 200 ? "ok" : "failed", "took_ms",
                                        (double)mono_diff_us(mono_now(), began) / 1000, "detail",
                                        json_sprintf("HTTP %d, cost $%.*s", a.status,
                                                     cost.len ? (int)cost.len : 1, cost.len ? cost.p : "0")));
    free(body);
    api_answer_release(&a);
    api_client_free(client);
    return rc;
}

static int probe_billed(struct ctl *ctl, const char *name)
{
    json_t *provider;
    const json_t *model, *cost;
    char key[512], what[256];
    int rc;

    ctl->is_raw = false;
    if (!read_key(key, sizeof(key)))
        return ctl_fail(CLI_USAGE, "providers probe --billed: whose money? Give --key-file, or GATEWAYD_KEY");
    rc = fetch(ctl, name, &provider);
    if (rc)
        return rc;
    model = choose_model(provider);
    cost = json_object_get(model, "probe_cost_nanousd");
    if (!model) {
        rc = ctl_fail(CLI_NOT_FOUND, "provider '%s' has no model '%s' in the configuration", name,
                      opt.model ? opt.model : "");
    } else {
        if (json_is_integer(cost))
            (void)fprintf(stderr, "one token of %s/%s costs at most $%.6f\n", name, look_text(model, "model"),
                          (double)json_integer_value(cost) / 1e9);
        else
            (void)fprintf(stderr, "what %s/%s costs is not known\n", name, look_text(model, "model"));
        (void)snprintf(what, sizeof(what), "send a billed request to");
        rc = change_confirm(DANGER_MODERATE, what, name);
        if (!rc)
            rc = send_billed(ctl, provider, look_text(model, "model"), key);
    }
    explicit_bzero(key, sizeof(key));
    json_decref(provider);
    return rc;
}

/* ---- the command ----------------------------------------------------------------------------------------------------- */

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "list", *name = ctl->n_args == 2 ? ctl->args[1] : NULL;
    bool is_stop = strcmp(verb, "disable") == 0 || strcmp(verb, "drain") == 0;

    if (!is_stop && strcmp(verb, "list") && strcmp(verb, "show") && strcmp(verb, "enable") &&
        strcmp(verb, "probe"))
        return ctl_fail(CLI_USAGE,
                        "providers: the verbs are list, show, enable, disable, drain and probe, not '%s'",
                        verb);
    if ((opt.length || opt.until) && !is_stop)
        return ctl_fail(CLI_USAGE, "providers %s: --for and --until are for disable and drain", verb);
    if (opt.length && opt.until)
        return ctl_fail(CLI_USAGE, "providers %s: --for and --until say the same", verb);
    if (opt.is_billed && strcmp(verb, "probe") != 0)
        return ctl_fail(CLI_USAGE, "providers %s: --billed is for probe", verb);
    if (strcmp(verb, "list") == 0)
        return ctl_watch(ctl, list);
    if (!name)
        return ctl_fail(CLI_USAGE, "providers %s: name a provider", verb);
    if (strcmp(verb, "show") == 0)
        return ctl_watch(ctl, show);
    if (strcmp(verb, "probe") == 0)
        return opt.is_billed ? probe_billed(ctl, name) : probe_free(ctl, name);
    return change(ctl, verb, name);
}

static const struct command_verb VERBS[] = {
    {"list", "", "states, health and attempts in flight", READS, "GET /api/admin/providers"},
    {"show", "PROVIDER", "one provider, with its models", READS, "GET /api/admin/providers/{name}"},
    {"enable", "PROVIDER", "use it again", MODERATE, "PATCH /api/admin/providers/{name}"},
    {"disable", "PROVIDER", "send nothing, cut what is under way", MODERATE,
     "PATCH /api/admin/providers/{name}"},
    {"drain", "PROVIDER", "send nothing new", MODERATE, "PATCH /api/admin/providers/{name}"},
    {"probe", "PROVIDER", "ask it now", MODERATE, "POST /api/admin/providers/{name}/probe"},
    {0},
};

const struct command CMD_PROVIDERS = {
    .name = "providers",
    .verbs = VERBS,
    .group = GROUP_CONTROL,
    .summary = "providers: their states, stopping them, and asking them whether they are there",
    .help = "What is known of each provider. `disable` routes nothing to it any more and cuts what is under "
            "way, `drain` lets that "
            "end; both hold on all nodes and over restarts, until --for or --until is over or `enable` ends "
            "them. `probe` asks "
            "it now for its list of models, which is free; with --billed it sends a request for one token, "
            "which goes through "
            "limits, budget and books of the key's tenant.\v"
            "  aigwctl providers drain openrouter --for 30m --reason 'maintenance'",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
