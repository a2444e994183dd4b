/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the global options, finds the command's row, lets argp read the rest with both lists of options, runs it. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/completion.h"
#include "libshared/base/log.h"
#include "libshared/cli/human.h"
#include "libshared/cli/options.h"

enum {
    KEY_TOKEN_FILE = 0x1000,
    KEY_URL,
    KEY_COLOR,
    KEY_RAW,
    KEY_EXIT_CODE,
    KEY_TIMEOUT,
    KEY_USAGE,
    KEY_OUT_FILE,
    KEY_COLUMNS,
    KEY_SORT_BY,
    KEY_FILTER,
    KEY_NO_HEADERS,
    KEY_NO_TRUNC,
    KEY_LIMIT,
    KEY_ALL,
    KEY_EXACT,
    KEY_TIME,
    KEY_UNTIL,
    KEY_MAX_AGE,
    KEY_NAGIOS,
    KEY_NO_PAGER,
};

const struct argp_option GLOBAL_OPTIONS[] = {
    {0, 0, 0, 0, "Which gateway:", 100},
    {"context", 'c', "CONTEXT", 0,
     "one of 'config contexts', or one that registered itself as 'demo' (GATEWAYD_CONTEXT)", 0},
    {"url", KEY_URL, "URL", 0, "the gateway: http://HOST:PORT or unix:/PATH (GATEWAYD_URL)", 0},
    {"token-file", KEY_TOKEN_FILE, "FILE", 0,
     "file that holds the admin token (GATEWAYD_TOKEN is the token itself)", 0},
    {"timeout", KEY_TIMEOUT, "TIME", 0, "give up a call after TIME, 10s by default (GATEWAYD_TIMEOUT)", 0},
    {0, 0, 0, 0, "What is shown, and how ('help formatting', 'help filters'):", 101},
    {"output", 'o', "table|wide|json|ndjson|yaml|csv|tsv|name", 0, "the form (GATEWAYD_OUTPUT)", 0},
    {"filter", KEY_FILTER, "TERMS", 0, "only rows that meet them, as 'err>5% !groq'", 0},
    {"sort-by", KEY_SORT_BY, "COLUMN", 0, "by these columns; -COLUMN: highest first", 0},
    {"columns", KEY_COLUMNS, "COLUMNS", 0, "these columns, by key or heading", 0},
    {"limit", KEY_LIMIT, "N", 0, "at most N rows", 0},
    {"all", KEY_ALL, 0, 0, "all rows that there are", 0},
    {"no-headers", KEY_NO_HEADERS, 0, 0, "rows alone", 0},
    {"no-trunc", KEY_NO_TRUNC, 0, 0, "texts whole, however wide", 0},
    {"exact", KEY_EXACT, 0, 0, "every digit", 0},
    {"time", KEY_TIME, "relative|utc|local|unix", 0, "how times are shown", 0},
    {"raw", KEY_RAW, 0, 0, "the server's answer as it is", 0},
    {"out-file", KEY_OUT_FILE, "FILE", 0, "write there, whole or not at all", 0},
    {"color", KEY_COLOR, "auto|always|never", 0, "colours (NO_COLOR, FORCE_COLOR)", 0},
    {"no-pager", KEY_NO_PAGER, 0, 0, "long tables are not paged (GATEWAYD_PAGER, PAGER)", 0},
    {"quiet", 'q', 0, 0, "no footers, no hints", 0},
    {0, 0, 0, 0, "Again and again, and for monitoring ('help exit-codes'):", 102},
    {"watch", 'w', "TIME", OPTION_ARG_OPTIONAL, "again every TIME (default 2s), until Ctrl-C", 0},
    {"until", KEY_UNTIL, "TERMS", 0, "with --watch: until there are rows and every one meets them", 0},
    {"exit-code", KEY_EXIT_CODE, 0, 0, "exit 10 when degraded, 11 when unhealthy", 0},
    {"max-age", KEY_MAX_AGE, "TIME", 0, "exit 12 when a row is older", 0},
    {"nagios", KEY_NAGIOS, 0, 0, "one line with performance data, exit 0 to 3", 0},
    {0, 0, 0, 0, 0, 103},
    {"help", 'h', 0, 0, "this page", 0},
    {"version", 'V', 0, 0, "the version", 0},
    {"usage", KEY_USAGE, 0, OPTION_HIDDEN, 0, 0},
    {0},
};

/* The only other names that there are. */
static const char *const ALIASES[][2] = {{"cb", "breakers"}, {"b", "budgets"}};

const struct command *command_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(ALIASES); i++)
        if (strcmp(ALIASES[i][0], name) == 0)
            name = ALIASES[i][1];
    for (const struct command *const *c = COMMANDS; *c; c++)
        if (strcmp((*c)->name, name) == 0)
            return *c;
    return NULL;
}

const struct command_verb *command_verb_find(const struct command *c, const char *name)
{
    for (const struct command_verb *v = c->verbs; v->name; v++)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

/* ---- options ------------------------------------------------------------------------------------------------------- */

static error_t take_global(int key, char *arg, struct argp_state *state);

static const struct argp_child *children_of(void)
{
    static const struct argp GLOBAL = {.options = GLOBAL_OPTIONS, .parser = take_global};
    static const struct argp_child CHILDREN[] = {{&GLOBAL, 0, NULL, 100}, {0}};

    return CHILDREN;
}

static error_t take_rest(int key, char *arg, struct argp_state *state)
{
    struct ctl *ctl = state->input;

    (void)arg;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = ctl;
        state->err_stream = NULL; /* where help is, we say ourselves */
    }
    if (key != ARGP_KEY_ARGS)
        return key == ARGP_KEY_INIT ? 0 : ARGP_ERR_UNKNOWN;
    ctl->args = state->argv + state->next;
    ctl->n_args = state->argc - state->next;
    return 0;
}

static const struct command *current;

static error_t take_command(int key, char *arg, struct argp_state *state)
{
    error_t e = take_rest(key, arg, state);

    return e == ARGP_ERR_UNKNOWN && current->take ? current->take(key, arg, state) : e;
}

static bool one_of(const char *arg, const char *const *names, unsigned *out)
{
    for (unsigned i = 0; names[i]; i++)
        if (strcmp(arg, names[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static const char *const FORMATS[] = {"table", "wide", "json", "ndjson", "yaml", "csv", "tsv", "name", NULL};
static const char *const COLORS[] = {"auto", "always", "never", NULL};
static const char *const TIMES[] = {"auto", "relative", "utc", "local", "unix", NULL};

static void set_format(struct ctl *ctl, enum format format)
{
    ctl->format = format;
    ctl->output = format <= FORMAT_WIDE ? OUTPUT_TABLE : format <= FORMAT_YAML ? OUTPUT_JSON : OUTPUT_CSV;
}

static error_t take_choice(int key, const char *arg, struct ctl *ctl, struct argp_state *state)
{
    unsigned i = 0;

    if (key == 'o' && one_of(arg, FORMATS, &i))
        set_format(ctl, (enum format)i);
    else if (key == KEY_COLOR && one_of(arg, COLORS, &i))
        ctl->color = (enum term_color)i;
    else if (key == KEY_TIME && one_of(arg, TIMES, &i))
        ctl->when = (enum when)i;
    else
        ctl_usage(state,
                  key == 'o'         ? "-o takes table, wide, json, ndjson, yaml, csv, tsv or name, not '%s'"
                  : key == KEY_COLOR ? "--color takes auto, always or never, not '%s'"
                                     : "--time takes relative, utc, local or unix, not '%s'",
                  arg);
    return 0;
}

static error_t take_time(int key, const char *arg, struct ctl *ctl, struct argp_state *state)
{
    int64_t ms = 2000;

    if (arg && arg[0] == '=') /* -w=5s, which people write although it is -w5s or --watch=5s */
        arg++;
    if (arg && (!human_parse_duration(arg, &ms) || ms < 100))
        ctl_usage(state, "'%s' is no time: write 500ms, 2s or 1m", arg);
    if (key == 'w') {
        ctl->is_watch = true;
        ctl->watch_ms = ms;
    } else if (key == KEY_MAX_AGE) {
        ctl->max_age_ms = ms;
    } else {
        ctl->timeout_ms = ms;
    }
    return 0;
}

static error_t take_limit(const char *arg, struct ctl *ctl, struct argp_state *state)
{
    uint64_t n = 0;

    if (!span_to_u64(span_of(arg), &n) || n < 1 || n > 1000000)
        ctl_usage(state, "--limit takes a number from 1 to 1000000, not '%s'", arg);
    ctl->wish.limit = (size_t)n;
    return 0;
}

static error_t take_text(int key, char *arg, struct ctl *ctl)
{
    const char **to = key == KEY_URL          ? &ctl->url
                      : key == KEY_TOKEN_FILE ? &ctl->token_file
                      : key == 'c'            ? &ctl->context
                      : key == KEY_OUT_FILE   ? &ctl->out_file
                      : key == KEY_COLUMNS    ? &ctl->wish.columns
                      : key == KEY_SORT_BY    ? &ctl->wish.sort_by
                      : key == KEY_FILTER     ? &ctl->wish.filter
                      : key == KEY_UNTIL      ? &ctl->until
                                              : NULL;

    if (to)
        *to = arg;
    return to ? 0 : ARGP_ERR_UNKNOWN;
}

static error_t take_flag(int key, struct ctl *ctl)
{
    bool *to = key == KEY_RAW          ? &ctl->is_raw
               : key == KEY_EXIT_CODE  ? &ctl->has_exit_code
               : key == KEY_NAGIOS     ? &ctl->is_nagios
               : key == KEY_NO_HEADERS ? &ctl->has_no_headers
               : key == KEY_NO_TRUNC   ? &ctl->has_no_trunc
               : key == KEY_NO_PAGER   ? &ctl->has_no_pager
               : key == KEY_EXACT      ? &ctl->is_exact
               : key == KEY_ALL        ? &ctl->is_all
               : key == 'q'            ? &ctl->is_quiet
                                       : NULL;

    if (to)
        *to = true;
    return to ? 0 : ARGP_ERR_UNKNOWN;
}

static error_t take_global(int key, char *arg, struct argp_state *state)
{
    struct ctl *ctl = state->input;

    switch (key) {
    case 'o':
    case KEY_COLOR:
    case KEY_TIME:
        return take_choice(key, arg, ctl, state);
    case 'w':
    case KEY_TIMEOUT:
    case KEY_MAX_AGE:
        return take_time(key, arg, ctl, state);
    case KEY_LIMIT:
        return take_limit(arg, ctl, state);
    case 'V':
        exit(puts("aigwctl " GATEWAYD_VERSION) < 0);
    case 'h':
    case KEY_USAGE:
        exit(current ? help_command(current) : help_show(NULL));
    default:
        return arg ? take_text(key, arg, ctl) : take_flag(key, ctl);
    }
}

/* Below options in rank. */
static int take_variables(struct ctl *ctl)
{
    const char *output = getenv("GATEWAYD_OUTPUT"), *timeout = getenv("GATEWAYD_TIMEOUT");
    unsigned i = 0;

    if (output && *output) {
        if (!one_of(output, FORMATS, &i))
            return ctl_fail(CLI_USAGE, "GATEWAYD_OUTPUT is '%s', which is no form", output);
        set_format(ctl, (enum format)i);
    }
    if (timeout && *timeout && (!human_parse_duration(timeout, &ctl->timeout_ms) || ctl->timeout_ms < 100))
        return ctl_fail(CLI_USAGE, "GATEWAYD_TIMEOUT is '%s', which is no time", timeout);
    return CLI_OK;
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

static void on_signal(int signo)
{
    ctl_stop = signo;
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal};

    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    (void)sigaction(SIGHUP, &sa, NULL); /* the terminal is gone: a demo still has to be cleaned up */
    (void)signal(SIGPIPE, SIG_DFL);
}

/* Stops at the first word that is no option: the command. */
static error_t take_first(int key, char *arg, struct argp_state *state)
{
    int *at = ((void **)state->input)[1];

    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = ((void **)state->input)[0];
        state->err_stream = NULL;
        return 0;
    }
    if (key != ARGP_KEY_ARG)
        return ARGP_ERR_UNKNOWN;
    (void)arg;
    *at = state->next - 1;
    state->next = state->argc;
    return 0;
}

/* A first word that is no verb of a command whose ways all begin with one. */
static int check_verb(const struct ctl *ctl, const struct command *c)
{
    const char *names[32];
    const char *nearest;
    size_t n = 0;

    if (command_verb_find(c, "") || !ctl->n_args || command_verb_find(c, ctl->args[0]))
        return CLI_OK;
    for (const struct command_verb *v = c->verbs; v->name && n + 1 < ARRAY_LEN(names); v++)
        names[n++] = v->name;
    names[n] = NULL;
    nearest = help_nearest(ctl->args[0], names);
    if (nearest)
        return ctl_fail(CLI_USAGE, "%s: unknown verb \"%s\". Did you mean \"%s\"?", c->name, ctl->args[0],
                        nearest);
    return ctl_fail(CLI_USAGE, "%s: unknown verb \"%s\". 'aigwctl %s --help' lists them", c->name,
                    ctl->args[0], c->name);
}

/* What changes something and is no call of the gateway (ctl_call() looks at those itself). */
static int check_effect(struct ctl *ctl, const struct command *c)
{
    const struct command_verb *v = command_verb_find(c, ctl->n_args ? ctl->args[0] : "");
    struct secret token = {0};
    int rc;

    if (!v || v->effect == READS || v->endpoint)
        return CLI_OK;
    rc = ctl_find_token(ctl, &token); /* finds the context, too */
    secret_release(&token);
    return rc ? rc : ctl->is_read_only ? ctl_read_only(ctl) : CLI_OK;
}

/* --out-file: standard output goes into a new file, which takes the name of the old one once all is well. */
static int redirect(const char *path, char *temp, size_t cap)
{
    int fd;

    (void)snprintf(temp, cap, "%s.%ld.new", path, (long)getpid());
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
        return ctl_fail(CLI_FAILED, "cannot write '%s': %s", path, strerror(errno));
    (void)close(fd);
    return CLI_OK;
}

static int finish_file(const char *path, const char *temp, int rc)
{
    bool is_done = rc == CLI_OK || rc >= CLI_WARNING;

    if (is_done && rename(temp, path) == 0)
        return rc;
    if (is_done)
        rc = ctl_fail(CLI_FAILED, "cannot write '%s': %s", path, strerror(errno));
    (void)unlink(temp);
    return rc;
}

static int run_it(struct ctl *ctl, const struct command *c)
{
    bool has_file = ctl->out_file && strcmp(ctl->out_file, "-") != 0;
    char temp[4200];
    int rc = has_file ? redirect(ctl->out_file, temp, sizeof(temp)) : CLI_OK;

    if (rc)
        return rc;
    rc = c->run(ctl);
    if (rc == CLI_OK || rc == CLI_WARNING || rc == CLI_CRITICAL)
        rc = ctl_print_code() ? ctl_print_code() : rc;
    if (ctl->is_nagios)
        rc = ctl_print_nagios(ctl, rc);
    if (fflush(stdout) || ferror(stdout))
        rc = rc ? rc : ctl_fail(CLI_FAILED, "the output could not be written");
    return has_file ? finish_file(ctl->out_file, temp, rc) : rc;
}

static int run(struct ctl *ctl, const struct command *c, int argc, char **argv)
{
    struct argp parser;
    char name[64];
    int rc;

    current = c;
    ctl->command = c->name;
    parser = help_argp(c, take_command, children_of());

    (void)snprintf(name, sizeof(name), "aigwctl %s", c->name);
    argv[0] = name; /* what argp calls itself in a complaint */
    if (argp_parse(&parser, argc, argv, ARGP_NO_HELP, NULL, ctl))
        return ctl_usage_hint(name);
    if (ctl->n_args > c->max_args)
        return ctl_fail(CLI_USAGE, "%s: '%s' is one argument too many", c->name, ctl->args[c->max_args]);
    if (ctl->is_nagios) { /* no table, and what a check says */
        ctl->has_exit_code = true;
        set_format(ctl, FORMAT_CSV);
    }
    if (ctl->until && !ctl->is_watch)
        return ctl_fail(CLI_USAGE, "%s: --until is for --watch", c->name);
    rc = check_verb(ctl, c);
    rc = rc ? rc : check_effect(ctl, c);
    return rc ? rc : run_it(ctl, c);
}

static bool has_abbreviation(int argc, char **argv, const struct command *c)
{
    static const struct argp_option NONE = {0};
    const struct argp_option *lists[] = {GLOBAL_OPTIONS, c->options ? c->options : &NONE, NULL};
    const char *whole, *word = cli_abbreviated(argc, argv, lists, &whole);

    if (word)
        (void)ctl_fail(CLI_USAGE, "%s: no option is '%s'; did you mean '--%s'?", c->name, word, whole);
    return word != NULL;
}

/* "--outptu" is named with what it was probably meant to be; argp only says that it does not know it. */
static bool has_unknown(int argc, char **argv, const struct command *c)
{
    static const struct argp_option NONE = {0};
    const struct argp_option *lists[] = {c->options ? c->options : &NONE, GLOBAL_OPTIONS};
    const char *names[128], *nearest;
    size_t n = 0;

    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (const struct argp_option *o = lists[l];
             (o->name || o->key || o->doc || o->group) && n + 1 < ARRAY_LEN(names); o++)
            if (o->name)
                names[n++] = o->name;
    names[n] = NULL;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        char word[64];
        bool is_known = strncmp(argv[i], "--", 2) != 0;

        (void)span_copy(word, sizeof(word),
                        span_make(argv[i] + (is_known ? 0 : 2), strcspn(argv[i] + (is_known ? 0 : 2), "=")));
        for (size_t k = 0; k < n && !is_known; k++)
            is_known = strcmp(names[k], word) == 0;
        nearest = is_known ? NULL : help_nearest(word, names);
        if (!is_known && nearest) {
            (void)ctl_fail(CLI_USAGE, "%s: no option is '--%s'. Did you mean '--%s'?", c->name, word,
                           nearest);
            return true;
        }
    }
    return false;
}

/* Names from a server are UTF-8, so where nothing is said about the locale, neither is about ASCII. */
static void set_locale(void)
{
    const char *names[] = {getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")};
    bool is_said = false;

    for (size_t i = 0; i < 3; i++)
        is_said |= names[i] && *names[i];
    (void)setlocale(LC_CTYPE, is_said ? "" : "C.UTF-8");
}

/* A stream that the caller closed must not become a connection or a file of ours: what is written to it is an error. */
static void hold_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open(fd == STDIN_FILENO ? "/dev/null" : "/dev/full", O_RDWR);
}

int main(int argc, char **argv)
{
    static const struct argp FIRST = {.parser = take_first, .children = NULL};
    struct argp first = FIRST;
    struct ctl ctl = {.timeout_ms = 10000};
    int at = 0, rc;
    void *input[2] = {&ctl, &at};

    hold_streams();
    log_set_name("aigwctl");
    set_locale();
    argp_err_exit_status = CLI_USAGE;
    first.children = children_of();
    rc = take_variables(&ctl);
    if (rc)
        return rc;
    if (argp_parse(&first, argc, argv, ARGP_IN_ORDER | ARGP_NO_HELP, NULL, input))
        return ctl_usage_hint("aigwctl");
    if (!at)
        return help_show(NULL);
    if (strcmp(argv[at], "help") == 0)
        return help_show(argv[at + 1]);
    if (strcmp(argv[at], "__emit") == 0 && argv[at + 1])
        return help_emit(argv[at + 1]);
    if (strcmp(argv[at], "__complete") == 0 && argv[at + 1]) {
        completion_print(&ctl, argv + at + 2, argc - at - 2);
        api_client_free(ctl.client);
        free(ctl.found_url);
        free(ctl.found_context);
        return CLI_OK;
    }
    if (!command_find(argv[at]))
        return help_unknown_command(argv[at]);
    if (has_abbreviation(argc, argv, command_find(argv[at])) ||
        has_unknown(argc, argv, command_find(argv[at])))
        return CLI_USAGE;
    catch_signals();
    rc = run(&ctl, command_find(argv[at]), argc - at, argv + at);
    api_client_free(ctl.client);
    free(ctl.found_url);
    free(ctl.found_context);
    return rc;
}
