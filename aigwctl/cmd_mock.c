/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the demo's simulated providers misbehave. The gateway says where their control is; the calls go there. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/command.h"
#include "libshared/cli/human.h"

enum { KEY_ERROR_RATE = 0x2000, KEY_ERROR, KEY_LATENCY };

static struct {
    double error_rate; /* below 0: not given */
    const char *error;
    int64_t latency_ms; /* below 0: not given */
} opt = {.error_rate = -1, .error = "500", .latency_ms = -1};

static const struct argp_option OPTIONS[] = {
    {"error-rate", KEY_ERROR_RATE, "SHARE", 0, "share of requests that fail, such as 30%", 0},
    {"error", KEY_ERROR, "FAULT", 0, "how they fail: 429, 500, 503, timeout, reset, cut_mid … (default 500)",
     0},
    {"latency", KEY_LATENCY, "TIME", 0, "time until the answer begins", 0},
    {0},
};

static error_t take_share(const char *arg, struct argp_state *state)
{
    char *end;

    opt.error_rate = strtod(arg, &end);
    if (*end == '%') {
        opt.error_rate /= 100;
        end++;
    }
    if (end == arg || *end || !(opt.error_rate >= 0 && opt.error_rate <= 1))
        ctl_usage(state, "--error-rate takes 0%% to 100%%, not '%s'", arg);
    return 0;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_ERROR_RATE:
        return take_share(arg, state);
    case KEY_ERROR:
        opt.error = arg;
        return 0;
    case KEY_LATENCY:
        if (!human_parse_duration(arg, &opt.latency_ms))
            ctl_usage(state, "'%s' is no time: write 500ms or 2s", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct table_column COLUMNS[] = {
    {"provider", "PROVIDER", FORM_TEXT}, {"latency_ms", "LATENCY", FORM_MS},
    {"jitter_ms", "JITTER", FORM_MS},    {"error_rate", "FAILS", FORM_PERCENT},
    {"faults", "HOW", FORM_TEXT},        {0},
};

/* A client of the simulator's control, or NULL after saying why. */
static struct api_client *control(struct ctl *ctl, int *rc)
{
    json_t *doc;
    const char *url;
    struct api_client *c = NULL;
    struct err err = {0};

    *rc = ctl_get(ctl, "/api/admin/sim", &doc);
    url = json_string_value(json_object_get(doc, "simulator"));
    if (!*rc && !url)
        *rc = ctl_fail(CLI_FAILED,
                       "this gateway has no simulated providers; 'aigwctl demo' starts one that has");
    else if (!*rc &&
             !(c = api_client_new(&(struct api_client_options){.url = url, .is_over = &ctl_stop}, &err)))
        *rc = ctl_fail(CLI_FAILED, "%s", err_text(&err));
    json_decref(doc);
    return c;
}

static int call(struct api_client *c, const char *method, const char *path, const json_t *body, json_t **out)
{
    struct api_answer a = {0};
    struct err err = {0};
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    int rc = CLI_OK;

    *out = NULL;
    if (api_client_call(c, method, path, span_of(text), &a, &err))
        rc = ctl_fail(CLI_NO_ANSWER, "no answer from the simulator at %s: %s", api_client_url(c),
                      err_text(&err));
    else if (a.status != 200)
        rc = ctl_refused(&a);
    else
        *out = json_loadb(a.body.p ? a.body.p : "", a.body.len, 0, NULL);
    free(text);
    api_answer_release(&a);
    return rc;
}

static json_t *row_of(const char *name, const json_t *profile)
{
    json_t *row = json_object(), *v;
    struct buf how AUTO(buf_release) = {.max = 1024};
    double sum = 0;
    const char *key;

    json_object_foreach((json_t *)(uintptr_t)json_object_get(profile, "faults"), key, v)
    {
        if (json_number_value(v) <= 0)
            continue;
        sum += json_number_value(v);
        buf_addf(&how, "%s%s", how.len ? " " : "", key);
    }
    (void)json_object_set_new(row, "provider", json_string(name));
    (void)json_object_set(row, "latency_ms", json_object_get(profile, "latency_ms"));
    (void)json_object_set(row, "jitter_ms", json_object_get(profile, "jitter_ms"));
    (void)json_object_set_new(row, "error_rate", json_real(sum));
    (void)json_object_set_new(row, "faults", how.len ? json_string(how.p) : json_null());
    return row;
}

static int list(struct ctl *ctl, struct api_client *c)
{
    json_t *doc, *rows = json_array(), *profile;
    const char *name;
    int rc = call(c, "GET", "/_sim/profiles", NULL, &doc);

    json_object_foreach(doc, name, profile)(void) json_array_append_new(rows, row_of(name, profile));
    if (!rc)
        ctl_print(ctl, stdout, "mock", COLUMNS, rows, NULL);
    json_decref(rows);
    json_decref(doc);
    return rc;
}

static json_t *change(bool is_heal)
{
    json_t *body = json_object(), *faults = json_object();

    if (is_heal || opt.error_rate >= 0) {
        if (!is_heal && opt.error_rate > 0)
            (void)json_object_set_new(faults, opt.error, json_real(opt.error_rate));
        (void)json_object_set(body, "faults", faults);
    }
    if (!is_heal && opt.latency_ms >= 0)
        (void)json_object_set_new(body, "latency_ms", json_integer(opt.latency_ms));
    json_decref(faults);
    return body;
}

static int set(struct ctl *ctl, struct api_client *c, const char *name, bool is_heal)
{
    json_t *body = change(is_heal), *doc, *rows;
    struct buf path AUTO(buf_release) = {0};
    int rc;

    buf_addf(&path, "/_sim/profiles/%s", name);
    rc = call(c, "PATCH", path.p, body, &doc);
    if (!rc) {
        rows = json_pack("[o]", row_of(name, doc));
        ctl_print(ctl, stdout, "mock", COLUMNS, rows, NULL);
        json_decref(rows);
    }
    json_decref(body);
    json_decref(doc);
    return rc;
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "list";
    bool is_set = strcmp(verb, "set") == 0, is_heal = strcmp(verb, "heal") == 0;
    struct api_client *c;
    int rc;

    if (!is_set && !is_heal && strcmp(verb, "list") != 0)
        return ctl_fail(CLI_USAGE, "mock: the verbs are list, set and heal, not '%s'", verb);
    if ((is_set || is_heal) != (ctl->n_args == 2))
        return ctl_fail(CLI_USAGE, "mock %s: %s", verb,
                        is_set || is_heal ? "name a provider" : "takes no provider");
    if (is_set && opt.error_rate < 0 && opt.latency_ms < 0)
        return ctl_fail(CLI_USAGE, "mock set: say what to change: --error-rate, --latency");
    c = control(ctl, &rc);
    if (c)
        rc = is_set || is_heal ? set(ctl, c, ctl->args[1], is_heal) : list(ctl, c);
    api_client_free(c);
    return rc;
}

static const struct command_verb VERBS[] = {
    {"list", "", "what each one does now", READS, "GET /api/admin/sim"},
    {"set", "PROVIDER", "let it fail or be slow", MILD, "GET /api/admin/sim"},
    {"heal", "PROVIDER", "end that", MILD, "GET /api/admin/sim"},
    {0},
};

const struct command CMD_MOCK = {
    .name = "mock",
    .verbs = VERBS,
    .group = GROUP_SETUP,
    .summary = "make the demo's simulated providers fail or slow down",
    .help = "Changes how a simulated provider behaves, while requests run; 'heal' ends its failures.\v"
            "  aigwctl -c demo mock set sim-fast --error-rate 100%",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
