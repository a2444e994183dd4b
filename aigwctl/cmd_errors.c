/* SPDX-License-Identifier: Apache-2.0 */
/* What failed lately, and how much of all. A provider keeps its last errors only, so a full list is no total, and that is said. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/base/buf.h"
#include "libshared/cli/human.h"

#define STORED_MAX 100u /* of one provider */

enum { KEY_LIMIT = 0x2000, KEY_TYPE, KEY_SINCE, KEY_HOURS, KEY_BY, KEY_WARNING, KEY_CRITICAL };

static const struct argp_option OPTIONS[] = {
    {"limit", KEY_LIMIT, "N", 0, "list: of each provider, 100 by default, which is all that is kept", 0},
    {"type", KEY_TYPE, "TYPE", 0, "list: only errors of this kind, as the column TYPE has it", 0},
    {"since", KEY_SINCE, "TIME", 0, "list: how long ago at most, such as 15m", 0},
    {"follow", 'f', 0, 0, "list: go on as they happen", 0},
    {"hours", KEY_HOURS, "N", 0, "rates: the last N hours (default 24)", 0},
    {"by", KEY_BY, "model|provider", 0, "rates: what is added up (default model)", 0},
    {"warning", KEY_WARNING, "SHARE", 0, "rates: exit 10 from here on with --exit-code (default 5%)", 0},
    {"critical", KEY_CRITICAL, "SHARE", 0, "rates: exit 11 from here on (default 20%)", 0},
    {0},
};

static struct {
    unsigned limit, hours;
    const char *type;
    int64_t since_ms;
    bool is_follow, by_provider;
    double warning, critical;
} opt = {.limit = STORED_MAX, .hours = 24, .warning = 0.05, .critical = 0.2};

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_LIMIT:
        opt.limit = look_count(state, "limit", arg, 1, STORED_MAX);
        return 0;
    case KEY_TYPE:
        opt.type = arg;
        return 0;
    case KEY_SINCE:
        if (!human_parse_duration(arg, &opt.since_ms) || opt.since_ms <= 0)
            ctl_usage(state, "--since takes a time such as 15m, not '%s'", arg);
        return 0;
    case 'f':
        opt.is_follow = true;
        return 0;
    case KEY_HOURS:
        opt.hours = look_count(state, "hours", arg, 1, 744);
        return 0;
    case KEY_BY:
        opt.by_provider = strcmp(arg, "provider") == 0;
        if (!opt.by_provider && strcmp(arg, "model") != 0)
            ctl_usage(state, "--by takes model or provider, not '%s'", arg);
        return 0;
    case KEY_WARNING:
        opt.warning = look_share(state, "warning", arg);
        return 0;
    case KEY_CRITICAL:
        opt.critical = look_share(state, "critical", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- list ------------------------------------------------------------------------------------------------------------ */

const struct table_column ERRORS_COLUMNS[] = {
    {"at", "WHEN", FORM_AGE},
    {"provider", "PROVIDER", FORM_TEXT},
    {"model", "MODEL", FORM_TEXT},
    {"type", "TYPE", FORM_TEXT | FORM_WRAP},
    {"error", "ERROR", FORM_TEXT | FORM_WRAP},
    {"http_status", "HTTP", FORM_NUMBER},
    {"latency_ms", "TOOK", FORM_MS},
    {"request_id", "REQUEST", FORM_NAME | FORM_WIDE},
    {0},
};

static bool is_wanted(const json_t *row, const char *model)
{
    const char *is = json_string_value(json_object_get(row, "model"));
    const char *type = json_string_value(json_object_get(row, "type"));
    const char *at = json_string_value(json_object_get(row, "at"));
    struct wall t;

    if (model && (!is || strcmp(is, model) != 0))
        return false;
    if (opt.type && (!type || strcasecmp(type, opt.type) != 0))
        return false;
    return !opt.since_ms || (at && human_parse_time(at, &t) && wall_now().us - t.us <= opt.since_ms * 1000);
}

static int add_errors(struct ctl *ctl, const char *provider, const char *model, json_t *all,
                      unsigned *out_full)
{
    struct buf path AUTO(buf_release) = {.max = 4096};
    json_t *doc, *rows, *row;
    size_t i;
    int rc;

    buf_addz(&path, "/api/monitoring/errors/");
    look_add_part(&path, provider);
    buf_addf(&path, "?limit=%u", opt.limit);
    rc = ctl_get(ctl, path.p, &doc);
    if (rc || !doc)
        return rc;
    rows = look_rows(doc, "errors", NULL);
    *out_full += json_array_size(rows) >= STORED_MAX;
    json_array_foreach(rows, i, row)
    {
        if (!json_object_get(row, "provider"))
            (void)json_object_set_new(row, "provider", json_string(provider));
        look_time(row, "timestamp", "at");
        if (is_wanted(row, model))
            (void)json_array_append(all, row);
    }
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int by_time(const void *a, const void *b)
{
    return strcmp(look_text(*(json_t *const *)b, "at"), look_text(*(json_t *const *)a, "at"));
}

/* Of one provider, or one after the other of all. */
static int collect(struct ctl *ctl, json_t *all, unsigned *out_full)
{
    const char *model = NULL;
    char provider[256];
    json_t *doc, *row;
    size_t i;
    int rc;

    if (ctl->n_args > 1) {
        if (!look_split(ctl->args[1], provider, sizeof(provider), &model))
            return ctl_fail(CLI_USAGE, "errors: '%s' is no PROVIDER or PROVIDER/MODEL", ctl->args[1]);
        return add_errors(ctl, provider, model, all, out_full);
    }
    if (ctl->is_raw)
        return ctl_fail(CLI_USAGE, "errors: --raw needs a provider");
    rc = ctl_get(ctl, "/api/monitoring/health", &doc);
    json_array_foreach(doc, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "provider"));

        if (!rc && name)
            rc = add_errors(ctl, name, NULL, all, out_full);
    }
    json_decref(doc);
    return rc;
}

static int list(struct ctl *ctl, FILE *f)
{
    json_t *all = json_array(), *rows;
    unsigned full = 0;
    int rc = collect(ctl, all, &full);

    rows = look_sorted(all, by_time);
    if (!rc && !ctl->is_raw)
        ctl_print(ctl, f, "errors", ERRORS_COLUMNS, rows, NULL);
    if (!rc && !ctl->is_raw)
        ctl_put_none(ctl, rows, "No error is kept.");
    if (!rc && full && f == stdout && ctl->output == OUTPUT_TABLE && !ctl->is_quiet)
        (void)fprintf(stderr, "Showing what is kept: the last %u errors of each provider, and %u %s full.\n",
                      STORED_MAX, full, full == 1 ? "list is" : "lists are");
    json_decref(rows);
    return rc;
}

/* Oldest first, those that were not shown yet: `seen` holds them by request, model and time. */
static void put_new(const struct ctl *ctl, const json_t *rows, json_t *seen)
{
    for (size_t i = json_array_size(rows); i-- > 0;) {
        const json_t *row = json_array_get(rows, i);
        char key[700], line[1024];

        (void)snprintf(key, sizeof(key), "%.40s %.200s %.200s %.200s", look_shown(row, "at"),
                       look_shown(row, "provider"), look_shown(row, "model"), look_shown(row, "request_id"));
        if (json_object_get(seen, key))
            continue;
        (void)json_object_set_new(seen, key, json_true());
        if (ctl->output == OUTPUT_JSON) {
            table_print_line(stdout, row);
            continue;
        }
        (void)snprintf(line, sizeof(line), "%.24s  %s/%s  %s", look_shown(row, "at"),
                       look_shown(row, "provider"), look_shown(row, "model"), look_shown(row, "error"));
        term_put(stdout, line);
        (void)putchar('\n');
    }
    (void)fflush(stdout);
}

static int follow(struct ctl *ctl)
{
    json_t *seen = json_object();
    int rc;

    do {
        json_t *all = json_array(), *rows;
        unsigned full = 0;

        rc = collect(ctl, all, &full);
        rows = look_sorted(all, by_time);
        put_new(ctl, rows, seen);
        if (json_object_size(seen) > 100000) /* an old one may be shown again; memory ends somewhere */
            (void)json_object_clear(seen);
        json_decref(rows);
        ctl->is_watch = true;
    } while ((rc == CLI_OK || rc == CLI_NO_ANSWER) && ctl_sleep_ms(1000));
    json_decref(seen);
    return ctl_stop ? 128 + ctl_stop : rc;
}

/* ---- rates ----------------------------------------------------------------------------------------------------------- */

#define RATES                                                                                                \
    {"total_requests", "ATTEMPTS", FORM_COUNT}, {"failed_requests", "FAILED", FORM_COUNT},                   \
        {"error_rate", "ERR", FORM_PERCENT},

const struct table_column RATES_BY_MODEL[] = {
    {"provider", "PROVIDER", FORM_TEXT}, {"model", "MODEL", FORM_TEXT}, RATES{0}};
static const struct table_column RATES_BY_PROVIDER[] = {{"provider", "PROVIDER", FORM_TEXT}, RATES{0}};

static void add_count(json_t *sum, const json_t *row, const char *name)
{
    (void)json_object_set_new(sum, name,
                              json_integer(json_integer_value(json_object_get(sum, name)) +
                                           json_integer_value(json_object_get(row, name))));
}

static json_t *by_provider(const json_t *rows)
{
    json_t *sums = json_object(), *out, *row, *sum;
    const char *name;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        const char *provider = look_shown(row, "provider");

        if (!json_object_get(sums, provider))
            (void)json_object_set_new(sums, provider, json_object());
        sum = json_object_get(sums, provider);
        add_count(sum, row, "total_requests");
        add_count(sum, row, "failed_requests");
    }
    json_object_foreach(sums, name, sum) look_ratio(sum, "error_rate", look_number(sum, "failed_requests"),
                                                    look_number(sum, "total_requests"));
    out = look_rows(sums, NULL, "provider");
    json_decref(sums);
    return out;
}

static int rates(struct ctl *ctl, FILE *f)
{
    char path[64];
    json_t *doc, *rows, *row, *sums;
    double worst = NAN;
    size_t i;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/monitoring/error-rates?hours=%u", opt.hours);
    rc = ctl_get(ctl, path, &doc);
    if (rc || !doc)
        return rc;
    rows = look_rows(doc, "models", "model");
    if (opt.by_provider) {
        sums = by_provider(rows);
        json_decref(rows);
        rows = sums;
    }
    json_array_foreach(rows, i, row) worst = fmax(worst, look_number(row, "error_rate"));
    ctl_print(ctl, f, "error-rates", opt.by_provider ? RATES_BY_PROVIDER : RATES_BY_MODEL, rows,
              opt.by_provider ? NULL : doc);
    json_decref(rows);
    json_decref(doc);
    return look_code(ctl, worst, opt.warning, opt.critical);
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "list";

    if (strcmp(verb, "rates") == 0)
        return ctl->n_args > 1 ? ctl_fail(CLI_USAGE, "errors: rates takes no argument")
                               : ctl_watch(ctl, rates);
    return opt.is_follow ? follow(ctl) : ctl_watch(ctl, list);
}

static const struct command_verb VERBS[] = {
    {"list", "[TARGET]", "the last errors, newest first", READS, "GET /api/monitoring/errors/{provider}"},
    {"rates", "", "failed attempts by model or provider", READS, "GET /api/monitoring/error-rates"},
    {0},
};

const struct command CMD_ERRORS = {
    .name = "errors",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "what failed lately, and how much of all",
    .help = "The last 100 errors of each provider are kept. -o wide shows the request, which 'aigwctl "
            "explain' tells the story of.\v"
            "  aigwctl errors list openrouter --since 15m\n"
            "  aigwctl errors rates --by provider --exit-code --warning 2%",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
