/* SPDX-License-Identifier: Apache-2.0 */
/* Waits until something holds. A term is WHAT(OF)OPVALUE; what it reads is one answer of the API, and how it compares is the filter
 * of all tables. */
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/base/buf.h"
#include "libshared/cli/human.h"

enum { KEY_TIMEOUT = 0x2000 };

static const struct argp_option OPTIONS[] = {
    {"timeout", KEY_TIMEOUT, "TIME", 0, "give up after TIME (default 10m), exit 11", 0},
    {"interval", 'i', "TIME", 0, "between two looks (default 2s)", 0},
    {0},
};

static int64_t timeout_ms = 600000, interval_ms = 2000;

static error_t take(int key, char *arg, struct argp_state *state)
{
    int64_t *to = key == KEY_TIMEOUT ? &timeout_ms : key == 'i' ? &interval_ms : NULL;

    if (!to)
        return ARGP_ERR_UNKNOWN;
    if (!human_parse_duration(arg, to) || *to < 1)
        ctl_usage(state, "'%s' is no time: write 30s or 10m", arg);
    return 0;
}

static const struct subject {
    const char *name, *path; /* "%" stands for what is in brackets */
    bool needs_target;
    const char *list; /* member of the answer that holds the rows, or NULL */
    struct table_column column[2];
} SUBJECTS[] = {
    {"health", "/api/monitoring/health/%", true, NULL, {{"health_score", "health", FORM_SCORE}, {0}}},
    {"state", "/api/monitoring/health/%", true, NULL, {{"status", "state", FORM_HEALTH}, {0}}},
    {"errors", "/api/monitoring/health/%", true, NULL, {{"error_rate", "errors", FORM_PERCENT}, {0}}},
    {"p95", "/api/monitoring/health/%", true, NULL, {{"latency_p95_ms", "p95", FORM_MS}, {0}}},
    {"rate", "/api/monitoring/health/%", true, NULL, {{"requests_per_s", "rate", FORM_RATE}, {0}}},
    {"breaker", "/api/monitoring/circuit-breakers/%", true, NULL, {{"state", "breaker", FORM_TEXT}, {0}}},
    {"status", "/health/dashboard", false, "summary", {{"status", "status", FORM_TEXT}, {0}}},
    {"streams", "/health/dashboard", false, "summary", {{"active_streams", "streams", FORM_COUNT}, {0}}},
    {"requests", "/health/dashboard", false, "summary", {{"total_requests", "requests", FORM_COUNT}, {0}}},
    {"ready", "/readyz", false, NULL, {{"status", "ready", FORM_TEXT}, {0}}},
};

struct term {
    const struct subject *subject;
    char target[300], filter[128];
};

static int read_term(const char *text, struct term *out)
{
    size_t n = strcspn(text, "(<>=!~ ");
    const char *rest = text + n, *close;

    *out = (struct term){0};
    for (size_t i = 0; i < ARRAY_LEN(SUBJECTS); i++)
        if (strlen(SUBJECTS[i].name) == n && strncmp(SUBJECTS[i].name, text, n) == 0)
            out->subject = &SUBJECTS[i];
    if (!out->subject)
        return ctl_fail(
            CLI_USAGE,
            "wait: '%.*s' is nothing to wait for; there are health, state, errors, p95, rate, breaker, "
            "status, streams, requests and ready",
            (int)n, text);
    if (*rest == '(') {
        close = strrchr(rest, ')');
        if (!close || close == rest + 1)
            return ctl_fail(CLI_USAGE, "wait: '%s' has no name in its brackets", text);
        (void)span_copy(out->target, sizeof(out->target), span_make(rest + 1, (size_t)(close - rest - 1)));
        rest = close + 1;
    }
    if (out->subject->needs_target != (out->target[0] != '\0'))
        return ctl_fail(CLI_USAGE,
                        out->subject->needs_target ? "wait: %s(NAME) needs a name" : "wait: %s takes no name",
                        out->subject->name);
    if (!*rest && strcmp(out->subject->name, "ready") != 0)
        return ctl_fail(CLI_USAGE, "wait: '%s' compares with nothing; write %s>=80 or the like", text, text);
    (void)snprintf(out->filter, sizeof(out->filter), "%s%.100s", out->subject->column[0].heading,
                   *rest ? rest : "!=none");
    return CLI_OK;
}

static void path_of(const struct term *t, struct buf *out, const char **out_model)
{
    char provider[256] = "";

    *out_model = NULL;
    if (strcmp(t->subject->name, "breaker") == 0)
        (void)look_split(t->target, provider, sizeof(provider), out_model);
    for (const char *z = t->subject->path; *z; z++)
        if (*z == '%')
            look_add_part(out, provider[0] ? provider : t->target);
        else
            buf_addc(out, *z);
}

/* Rows of one model, where one is named. */
static json_t *of_model(json_t *rows, const char *model)
{
    json_t *kept = json_array(), *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        const char *is = json_string_value(json_object_get(row, "model"));

        if (!model || (is && strcmp(is, model) == 0))
            (void)json_array_append(kept, row);
    }
    json_decref(rows);
    return kept;
}

static int look(struct ctl *ctl, const struct term *t, bool *out_holds, char *now, size_t cap)
{
    static const struct table_style STYLE = {0};
    struct buf path AUTO(buf_release) = {.max = 4096};
    struct err err = {0};
    const char *model;
    json_t *doc = NULL, *rows;
    int rc;

    *out_holds = false;
    path_of(t, &path, &model);
    rc = ctl_get(ctl, path.p, &doc);
    if (rc)
        return rc;
    rows = of_model(look_rows(doc, t->subject->list, NULL), model);
    table_cell(now, cap, t->subject->column[0].form,
               json_object_get(json_array_get(rows, 0), t->subject->column[0].key), &STYLE);
    if (rows_all_meet(t->subject->column, rows, t->filter, wall_now(), out_holds, &err))
        rc = ctl_fail(CLI_USAGE, "wait: %s", err_text(&err));
    json_decref(rows);
    json_decref(doc);
    return rc;
}

static int run(struct ctl *ctl)
{
    struct mono end = mono_add_us(mono_now(), timeout_ms * 1000);
    struct term t;
    char now[64] = "-";
    bool holds = false;
    int64_t left;
    int rc = ctl->n_args ? read_term(ctl->args[0], &t)
                         : ctl_fail(CLI_USAGE, "wait: for what? See 'aigwctl wait --help'");

    if (rc)
        return rc;
    ctl->is_watch = true; /* a silence is said once, and waited out */
    ctl->is_raw = false;
    for (;;) {
        rc = look(ctl, &t, &holds, now, sizeof(now));
        if ((rc && rc != CLI_NO_ANSWER) || holds || ctl_stop)
            break;
        left = mono_diff_us(end, mono_now()) / 1000;
        if (left <= 0 || !ctl_sleep_ms(left < interval_ms ? left : interval_ms))
            break;
    }
    if (ctl_stop)
        return 128 + ctl_stop;
    if (rc && rc != CLI_NO_ANSWER)
        return rc;
    if (!holds)
        return ctl_fail(CLI_CRITICAL, "'%s' did not come true; it is %s now", ctl->args[0],
                        rc ? "not known" : now);
    if (!ctl->is_quiet)
        (void)printf("%s is %s\n", t.subject->name, now);
    return CLI_OK;
}

static const struct command_verb VERBS[] = {
    {"", "EXPR", "until it holds", READS, NULL},
    {0},
};

const struct command CMD_WAIT = {
    .name = "wait",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "until something holds",
    .help = "EXPR is health(PROVIDER)>=80, state(PROVIDER)=healthy, errors(PROVIDER)<5%, p95(PROVIDER)<2s, "
            "rate(PROVIDER)>0, "
            "breaker(PROVIDER/MODEL)=closed, status=healthy, streams=0, requests>1000 or ready. Exit 0 once "
            "it holds, 11 "
            "when it did not in time; a gateway that does not answer is waited for, too.\v"
            "  aigwctl wait 'health(fireworks)>=80' --timeout 10m",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 1,
};
