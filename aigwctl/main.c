/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the global options, finds the command's row, lets argp read the rest with both lists of options, runs it. */
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/command.h"
#include "libshared/base/log.h"
#include "libshared/cli/human.h"
#include "libshared/cli/options.h"

enum { KEY_TOKEN_FILE = 0x1000, KEY_URL, KEY_COLOR, KEY_RAW, KEY_EXIT_CODE, KEY_TIMEOUT, KEY_USAGE };

const struct argp_option GLOBAL_OPTIONS[] = {
    {0, 0, 0, 0, "Options of every command:", 100},
    {"url", KEY_URL, "URL", 0, "the gateway: http://HOST:PORT or unix:/PATH (GATEWAYD_URL)", 0},
    {"token-file", KEY_TOKEN_FILE, "FILE", 0,
     "file that holds the admin token (GATEWAYD_TOKEN is the token itself)", 0},
    {"context", 'c', "NAME", 0, "a gateway that registered itself, such as 'demo' (GATEWAYD_CONTEXT)", 0},
    {"output", 'o', "FORMAT", 0, "table, json or csv", 0},
    {"watch", 'w', "TIME", OPTION_ARG_OPTIONAL, "again every TIME (default 2s), until Ctrl-C", 0},
    {"raw", KEY_RAW, 0, 0, "the server's answer as it is", 0},
    {"color", KEY_COLOR, "WHEN", 0, "always, never or auto (NO_COLOR)", 0},
    {"exit-code", KEY_EXIT_CODE, 0, 0, "exit 10 when degraded, 11 when unhealthy", 0},
    {"timeout", KEY_TIMEOUT, "TIME", 0, "give up a call after TIME (default 10s)", 0},
    {"help", 'h', 0, 0, "this page", 0},
    {"usage", KEY_USAGE, 0, OPTION_HIDDEN, 0, 0},
    {0},
};

static const char *const GROUP_NAMES[GROUP_COUNT] = {"Look", "Control", "Data", "Alerts and dashboards",
                                                     "Setup"};

/* The only other names that there are. */
static const char *const ALIASES[][2] = {{"cb", "breakers"}, {"b", "budgets"}};

static const struct command *find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(ALIASES); i++)
        if (strcmp(ALIASES[i][0], name) == 0)
            name = ALIASES[i][1];
    for (const struct command *const *c = COMMANDS; *c; c++)
        if (strcmp((*c)->name, name) == 0)
            return *c;
    return NULL;
}

/* ---- near misses --------------------------------------------------------------------------------------------------- */

/* Edits between two short words. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);

    if (n >= 64 || strlen(a) >= 64)
        return 64;
    for (size_t i = 0; i <= n; i++)
        row[i] = i;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t k = 0; k < n; k++) {
            size_t best = diagonal + (a[i] != b[k]);

            diagonal = row[k + 1];
            if (row[k] + 1 < best)
                best = row[k] + 1;
            if (diagonal + 1 < best)
                best = diagonal + 1;
            row[k + 1] = best;
        }
    }
    return row[n];
}

static int unknown_command(const char *name)
{
    const struct command *best = NULL;
    size_t least = 3;

    for (const struct command *const *c = COMMANDS; *c; c++) {
        size_t d = distance(name, (*c)->name);

        if (d < least) {
            least = d;
            best = *c;
        }
    }
    if (best)
        return ctl_fail(CLI_USAGE, "unknown command \"%s\". Did you mean \"%s\"?", name, best->name);
    return ctl_fail(CLI_USAGE, "unknown command \"%s\". 'aigwctl help' lists them", name);
}

/* ---- help ---------------------------------------------------------------------------------------------------------- */

static void print_overview(FILE *f)
{
    (void)fputs("aigwctl looks at, controls and reports on a gatewayd. To try it: 'aigwctl demo'.\n", f);
    for (unsigned g = 0; g < GROUP_COUNT; g++) {
        bool any = false;

        for (const struct command *const *c = COMMANDS; *c; c++) {
            if ((*c)->group != g)
                continue;
            if (!any)
                (void)fprintf(f, "%s%s\n", g == 0 ? "\n" : "", GROUP_NAMES[g]);
            any = true;
            (void)fprintf(f, "  %-10s %s\n", (*c)->name, (*c)->summary);
        }
    }
    (void)fputs("\n'aigwctl COMMAND --help' explains one; 'aigwctl help exit-codes' and 'help environment' "
                "the rest.\n",
                f);
}

static int print_exit_codes(void)
{
    (void)puts("0    done\n"
               "1    failed: the gateway said no, or something unexpected\n"
               "2    usage: unknown command, option or value; nothing was sent\n"
               "3    no answer: the gateway is unreachable or did not answer in time\n"
               "4    authentication missing or refused\n"
               "5    the named object does not exist\n"
               "6    conflict: it is in another state\n"
               "7    not confirmed: nothing was done\n"
               "10   --exit-code, 'aggregate status', 'db verify', 'alerts check', 'dashboards check': "
               "degraded, behind, "
               "findings\n"
               "11   likewise: unhealthy, data about to be lost, a file that cannot work\n"
               "130  interrupted (Ctrl-C); 143 terminated");
    return CLI_OK;
}

static int print_environment(void)
{
    (void)puts("GATEWAYD_URL         the gateway: http://HOST:PORT or unix:/PATH\n"
               "GATEWAYD_TOKEN       the admin token\n"
               "GATEWAYD_TOKEN_FILE  a file that holds it\n"
               "GATEWAYD_CONTEXT     a gateway that registered itself, such as 'demo'\n"
               "NO_COLOR             no colours\n"
               "Options win over variables. With none of them: the admin socket of the system's gateway, "
               "then that of\n"
               "this user's, then http://127.0.0.1:8081.");
    return CLI_OK;
}

static const struct argp_child *children_of(void);
static error_t take_global(int key, char *arg, struct argp_state *state);

static error_t take_rest(int key, char *arg, struct argp_state *state)
{
    struct ctl *ctl = state->input;

    (void)arg;
    if (key == ARGP_KEY_INIT)
        state->child_inputs[0] = ctl;
    if (key != ARGP_KEY_ARGS)
        return key == ARGP_KEY_INIT || key == ARGP_KEY_ARG ? (key == ARGP_KEY_ARG ? ARGP_ERR_UNKNOWN : 0)
                                                           : ARGP_ERR_UNKNOWN;
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

static struct argp parser_of(const struct command *c)
{
    current = c;
    return (struct argp){.options = c->options,
                         .parser = take_command,
                         .args_doc = c->args,
                         .doc = c->help,
                         .children = children_of()};
}

static int print_help(const struct command *c)
{
    struct argp parser = parser_of(c);
    char name[64];

    (void)snprintf(name, sizeof(name), "aigwctl %s", c->name);
    argp_help(&parser, stdout, ARGP_HELP_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG | ARGP_HELP_POST_DOC,
              name);
    return CLI_OK;
}

static int help(const char *topic)
{
    const struct command *c = topic ? find(topic) : NULL;

    if (!topic) {
        print_overview(stdout);
        return CLI_OK;
    }
    if (strcmp(topic, "exit-codes") == 0)
        return print_exit_codes();
    if (strcmp(topic, "environment") == 0)
        return print_environment();
    return c ? print_help(c) : unknown_command(topic);
}

/* ---- options ------------------------------------------------------------------------------------------------------- */

static bool one_of(const char *arg, const char *const *names, unsigned *out)
{
    for (unsigned i = 0; names[i]; i++)
        if (strcmp(arg, names[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static error_t take_choice(int key, const char *arg, struct ctl *ctl, struct argp_state *state)
{
    static const char *const OUTPUTS[] = {"table", "json", "csv", NULL};
    static const char *const COLORS[] = {"auto", "always", "never", NULL};
    unsigned i = 0;

    if (key == 'o' && one_of(arg, OUTPUTS, &i))
        ctl->output = (enum output)i;
    else if (key == KEY_COLOR && one_of(arg, COLORS, &i))
        ctl->color = (enum term_color)i;
    else
        argp_error(state,
                   key == 'o' ? "-o takes table, json or csv, not '%s'"
                              : "--color takes auto, always or never, not '%s'",
                   arg);
    return 0;
}

static error_t take_time(int key, const char *arg, struct ctl *ctl, struct argp_state *state)
{
    int64_t ms = 2000;

    if (arg && arg[0] == '=') /* -w=5s, which people write although it is -w5s or --watch=5s */
        arg++;
    if (arg && (!human_parse_duration(arg, &ms) || ms < 100))
        argp_error(state, "'%s' is no time: write 500ms, 2s or 1m", arg);
    if (key == 'w') {
        ctl->is_watch = true;
        ctl->watch_ms = ms;
    } else {
        ctl->timeout_ms = ms;
    }
    return 0;
}

static error_t take_global(int key, char *arg, struct argp_state *state)
{
    struct ctl *ctl = state->input;

    switch (key) {
    case KEY_URL:
        ctl->url = arg;
        return 0;
    case KEY_TOKEN_FILE:
        ctl->token_file = arg;
        return 0;
    case 'c':
        ctl->context = arg;
        return 0;
    case 'o':
    case KEY_COLOR:
        return take_choice(key, arg, ctl, state);
    case 'w':
    case KEY_TIMEOUT:
        return take_time(key, arg, ctl, state);
    case KEY_RAW:
        ctl->is_raw = true;
        return 0;
    case KEY_EXIT_CODE:
        ctl->has_exit_code = true;
        return 0;
    case 'h':
    case KEY_USAGE:
        exit(current ? print_help(current) : help(NULL));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child *children_of(void)
{
    static const struct argp GLOBAL = {.options = GLOBAL_OPTIONS, .parser = take_global};
    static const struct argp_child CHILDREN[] = {{&GLOBAL, 0, NULL, 100}, {0}};

    return CHILDREN;
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
        return 0;
    }
    if (key != ARGP_KEY_ARG)
        return ARGP_ERR_UNKNOWN;
    (void)arg;
    *at = state->next - 1;
    state->next = state->argc;
    return 0;
}

static int run(struct ctl *ctl, const struct command *c, int argc, char **argv)
{
    struct argp parser = parser_of(c);
    char name[64];
    int rc;

    (void)snprintf(name, sizeof(name), "aigwctl %s", c->name);
    argv[0] = name; /* what argp calls itself in a complaint */
    (void)argp_parse(&parser, argc, argv, ARGP_NO_HELP, NULL, ctl);
    if (ctl->n_args > c->max_args)
        return ctl_fail(CLI_USAGE, "%s: '%s' is one argument too many", c->name, ctl->args[c->max_args]);
    rc = c->run(ctl);
    if (fflush(stdout) || ferror(stdout))
        rc = rc ? rc : ctl_fail(CLI_FAILED, "the output could not be written");
    return rc;
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

/* Names from a server are UTF-8, so where nothing is said about the locale, neither is about ASCII. */
static void set_locale(void)
{
    const char *names[] = {getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")};
    bool is_said = false;

    for (size_t i = 0; i < 3; i++)
        is_said |= names[i] && *names[i];
    (void)setlocale(LC_CTYPE, is_said ? "" : "C.UTF-8");
}

int main(int argc, char **argv)
{
    static const struct argp FIRST = {.parser = take_first, .children = NULL};
    struct argp first = FIRST;
    struct ctl ctl = {.timeout_ms = 10000};
    int at = 0, rc;
    void *input[2] = {&ctl, &at};

    log_set_name("aigwctl");
    set_locale();
    argp_err_exit_status = CLI_USAGE;
    first.children = children_of();
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return puts("aigwctl " GATEWAYD_VERSION) < 0;
    (void)argp_parse(&first, argc, argv, ARGP_IN_ORDER | ARGP_NO_HELP, NULL, input);
    if (!at)
        return help(NULL);
    if (strcmp(argv[at], "help") == 0)
        return help(argv[at + 1]);
    if (!find(argv[at]))
        return unknown_command(argv[at]);
    if (has_abbreviation(argc, argv, find(argv[at])))
        return CLI_USAGE;
    catch_signals();
    rc = run(&ctl, find(argv[at]), argc - at, argv + at);
    api_client_free(ctl.client);
    free(ctl.found_url);
    return rc;
}
