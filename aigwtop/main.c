/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the options, hides addresses that may hold a password, and runs the screen or batch mode. */
#include <argp.h>
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwtop/app.h"
#include "aigwtop/batch.h"
#include "libshared/base/log.h"
#include "libshared/cli/human.h"
#include "libshared/cli/options.h"
#include "libshared/cli/term.h"

_Atomic int top_stop;

enum {
    KEY_SOURCE = 0x1000,
    KEY_URL,
    KEY_TOKEN_FILE,
    KEY_RECORD,
    KEY_REPLAY,
    KEY_VIEW,
    KEY_COLUMNS,
    KEY_FILTER,
    KEY_SORT,
    KEY_NO_WARMUP,
    KEY_EXIT_CODE,
    KEY_EXIT_ON_LOSS,
    KEY_THEME,
    KEY_GLYPHS,
    KEY_CONF,
    KEY_NO_CONFIG,
    KEY_LIST_KEYS,
    KEY_LIST_COLUMNS,
    KEY_PRINT_DOCS,
    KEY_USAGE,
};

static const struct argp_option OPTIONS[] = {
    {0, 0, 0, 0, "Where to read:", 1},
    {"source", KEY_SOURCE, "WHICH", 0, "auto, redis or api (auto: Redis when one is named)", 0},
    {"redis", 'u', "URL", 0, "the realtime store (GATEWAYD_REDIS_URL)", 0},
    {"url", KEY_URL, "URL", 0, "the gateway: http://HOST:PORT or unix:/PATH (GATEWAYD_URL)", 0},
    {"token-file", KEY_TOKEN_FILE, "FILE", 0, "file that holds its admin token (GATEWAYD_TOKEN is the token)",
     0},
    {"context", 'c', "NAME", 0, "one of 'aigwctl config contexts', such as 'demo' (GATEWAYD_CONTEXT)", 0},
    {"record", KEY_RECORD, "FILE", 0, "write every sample there", 0},
    {"replay", KEY_REPLAY, "FILE", 0, "show what was recorded", 0},
    {0, 0, 0, 0, "What to show:", 2},
    {"view", KEY_VIEW, "NAME", 0, "providers, models, tenants, breakers, errors, latency or anomalies", 0},
    {"delay", 'd', "SECONDS", 0, "between two readings, 0.2 to 60 (2)", 0},
    {"filter", KEY_FILTER, "TERMS", 0, "as 'err>5 p95>2s !groq'", 0},
    {"sort-by", KEY_SORT, "COLUMN", 0, "-COLUMN: highest first", 0},
    {"columns", KEY_COLUMNS, "LIST", 0, "keys with commas between", 0},
    {"list-columns", KEY_LIST_COLUMNS, 0, 0, "all columns of all views, and end", 0},
    {"list-keys", KEY_LIST_KEYS, 0, 0, "what every key does, and end", 0},
    {0, 0, 0, 0, "How it looks:", 3},
    {"theme", KEY_THEME, "NAME", 0, "default, light, high-contrast, cb (blue and orange) or mono", 0},
    {"no-color", 'C', 0, 0, "no colours (NO_COLOR)", 0},
    {"glyphs", KEY_GLYPHS, "TIER", 0, "auto, block, braille or ascii", 0},
    {"no-unicode", 'U', 0, 0, "the same as --glyphs ascii", 0},
    {"config", KEY_CONF, "FILE", 0, "settings (~/.config/gatewayd/top.conf)", 0},
    {"no-config", KEY_NO_CONFIG, 0, 0, "none", 0},
    {0, 0, 0, 0, "Without a screen:", 4},
    {"batch", 'b', 0, 0, "print instead", 0},
    {"once", '1', 0, 0, "print one sample (-b -n 1)", 0},
    {"count", 'n', "N", 0, "end after N samples", 0},
    {"output", 'o', "FORMAT", 0, "table, csv, json, ndjson or prom", 0},
    {"no-warmup", KEY_NO_WARMUP, 0, 0, "do not wait for rates before the first sample", 0},
    {"exit-code", KEY_EXIT_CODE, 0, 0, "end with 10 when something is degraded, 11 when down, 12 when old",
     0},
    {"exit-on-loss", KEY_EXIT_ON_LOSS, "SECONDS", 0, "end with 3 when nobody answered for so long", 0},
    {0, 0, 0, 0, 0, 5},
    {"help", 'h', 0, 0, "this page", 0},
    {"print-docs", KEY_PRINT_DOCS, "FORM", OPTION_HIDDEN, 0, 0},
    {"usage", KEY_USAGE, 0, OPTION_HIDDEN, 0, 0},
    {"version", 'V', 0, 0, "the version", 0},
    {0},
};

static double seconds_of(struct argp_state *state, const char *name, const char *arg, double least,
                         double most)
{
    char *end;
    double v = strtod(arg, &end);

    if (end != arg && strcmp(end, "s") == 0)
        end++;
    if (end == arg || *end || !(v >= least && v <= most))
        argp_error(state, "--%s takes seconds from %g to %g, not '%s'", name, least, most, arg);
    return v;
}

static error_t take_source(struct options *o, char *arg, struct argp_state *state)
{
    static const char *const NAMES[] = {"auto", "redis", "api"};

    for (int i = 0; i < 3; i++)
        if (strcmp(arg, NAMES[i]) == 0) {
            o->where.choice = (enum source_choice)i;
            return 0;
        }
    argp_error(state, "--source takes auto, redis or api, not '%s'", arg);
    return EINVAL;
}

static void list_keys(void)
{
    for (int g = 0; g < GROUP_COUNT; g++) {
        struct help_line lines[32];
        size_t n = help_lines((enum group)g, lines, 32);

        (void)printf("%s\n", group_title((enum group)g));
        for (size_t i = 0; i < n; i++)
            (void)printf("  %-20s %s\n", lines[i].keys, lines[i].text);
    }
}

static void list_columns(void)
{
    for (int v = 0; v < VIEW_COUNT; v++) {
        size_t n;
        const struct column *c = view_columns((enum view)v, &n);

        (void)printf("%s\n", view_name((enum view)v));
        for (size_t i = 0; i < n; i++)
            (void)printf("  %-24s %s\n", c[i].key, c[i].text);
    }
}

static void put_roff(const char *z)
{
    for (; *z; z++)
        if (strchr("\\-", *z))
            (void)printf(*z == '-' ? "\\-" : "\\e");
        else
            (void)putchar(*z);
}

/* The tables of keys for the manual page and, with the columns, for the documentation. */
static void print_docs(bool is_roff)
{
    if (!is_roff)
        (void)printf("| key | what it does |\n|---|---|\n");
    for (int g = 0; g < GROUP_COUNT; g++) {
        struct help_line lines[32];
        size_t n = help_lines((enum group)g, lines, 32);

        for (size_t i = 0; i < n && is_roff; i++) {
            (void)fputs(".TP\n.B ", stdout);
            put_roff(lines[i].keys);
            (void)putchar('\n');
            put_roff(lines[i].text);
            (void)putchar('\n');
        }
        for (size_t i = 0; i < n && !is_roff; i++)
            (void)printf("| `%s` | %s |\n", lines[i].keys, lines[i].text);
    }
    if (is_roff)
        return;
    (void)printf("\n| view | column | what it holds |\n|---|---|---|\n");
    for (int v = 0; v < VIEW_COUNT; v++) {
        size_t n;
        const struct column *c = view_columns((enum view)v, &n);

        for (size_t i = 0; i < n; i++)
            (void)printf("| %s | `%s` | %s |\n", view_name((enum view)v), c[i].key, c[i].text);
    }
}

static error_t take_where(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case KEY_SOURCE:
        return take_source(o, arg, state);
    case 'u':
        o->where.redis = cli_hidden(arg);
        return 0;
    case KEY_URL:
        o->where.url = cli_hidden(arg);
        return 0;
    case KEY_TOKEN_FILE:
        o->where.token_file = arg;
        return 0;
    case 'c':
        o->where.context = arg;
        return 0;
    case KEY_RECORD:
        o->record = arg;
        return 0;
    case KEY_REPLAY:
        o->where.replay = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t take_look(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    enum theme theme;
    enum glyphs glyphs;

    switch (key) {
    case KEY_VIEW:
        if (!view_find(arg, &o->view))
            argp_error(state, "there is no view '%s'", arg);
        return 0;
    case 'd':
        o->interval_ms = (int64_t)(seconds_of(state, "delay", arg, 0.2, 60) * 1000 + 0.5);
        return 0;
    case KEY_FILTER:
        o->filter = arg;
        return 0;
    case KEY_SORT:
        o->sort = arg;
        return 0;
    case KEY_COLUMNS:
        o->columns = arg;
        return 0;
    case KEY_THEME:
        if (!theme_parse(arg, &theme))
            argp_error(state, "there is no theme '%s'", arg);
        o->theme = arg;
        return 0;
    case 'C':
        o->is_mono = true;
        return 0;
    case KEY_GLYPHS:
        if (!glyphs_parse(arg, &glyphs))
            argp_error(state, "--glyphs takes auto, block, braille or ascii, not '%s'", arg);
        o->glyphs = arg;
        return 0;
    case 'U':
        o->glyphs = "ascii";
        return 0;
    case KEY_CONF:
        o->conf = arg;
        return 0;
    case KEY_NO_CONFIG:
        o->no_config = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t take_batch(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case 'b':
        o->is_batch = true;
        return 0;
    case '1':
        o->is_batch = true;
        o->n = 1;
        return 0;
    case 'n':
        if (!span_to_u64(span_of(arg), &o->n) || !o->n)
            argp_error(state, "-n takes a number from 1, not '%s'", arg);
        o->is_batch = true;
        return 0;
    case 'o':
        if (!export_parse(arg, &o->form))
            argp_error(state, "-o takes table, csv, json, ndjson or prom, not '%s'", arg);
        o->is_batch = true;
        return 0;
    case KEY_NO_WARMUP:
        o->has_warmup = false;
        return 0;
    case KEY_EXIT_CODE:
        o->has_exit_code = true;
        return 0;
    case KEY_EXIT_ON_LOSS:
        o->exit_on_loss_s = (int64_t)seconds_of(state, "exit-on-loss", arg, 1, 86400);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    error_t e = take_where(key, arg, state);

    e = e == ARGP_ERR_UNKNOWN ? take_look(key, arg, state) : e;
    e = e == ARGP_ERR_UNKNOWN ? take_batch(key, arg, state) : e;
    if (e != ARGP_ERR_UNKNOWN)
        return e;
    switch (key) {
    case 'h':
        argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
        return 0;
    case KEY_USAGE:
        argp_state_help(state, stdout, ARGP_HELP_USAGE | ARGP_HELP_EXIT_OK);
        return 0;
    case 'V':
        (void)puts("aigwtop " GATEWAYD_VERSION);
        exit(CLI_OK);
    case KEY_LIST_KEYS:
        list_keys();
        exit(CLI_OK);
    case KEY_LIST_COLUMNS:
        list_columns();
        exit(CLI_OK);
    case KEY_PRINT_DOCS:
        print_docs(strcmp(arg, "man") == 0);
        exit(CLI_OK);
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected word '%s'", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void on_signal(int signo)
{
    top_stop = signo;
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};

    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    (void)sigaction(SIGHUP, &sa, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL); /* a write then fails, and batch mode ends quietly */
}

static int check_beginnings(int argc, char **argv)
{
    const struct argp_option *lists[] = {OPTIONS, NULL};
    const char *whole, *part = cli_abbreviated(argc, argv, lists, &whole);

    if (!part)
        return CLI_OK;
    (void)fprintf(stderr, "aigwtop: there is no option '%s'; did you mean '--%s'?\n", part, whole);
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    static const struct argp ARGP = {
        .options = OPTIONS,
        .parser = take,
        .doc = "Shows live what a gatewayd does. It only looks: no key changes anything.",
    };
    static struct options o = {.has_warmup = true}; /* keeps the hidden addresses */

    (void)setlocale(LC_CTYPE, "");
    log_set_name("aigwtop");
    log_set_level(isatty(STDERR_FILENO) ? LOG_ERROR : LOG_INFO);
    argp_err_exit_status = CLI_USAGE;
    if (check_beginnings(argc, argv))
        return CLI_USAGE;
    if (argp_parse(&ARGP, argc, argv, ARGP_NO_HELP, NULL, &o))
        return CLI_USAGE;
    catch_signals();
    if (o.is_batch)
        return batch_run(&o);
    return app_run(&o);
}
