/* SPDX-License-Identifier: Apache-2.0 */
/* What a command is, and what every command is given. A command lives in cmd_<noun>.c and has one row in commands.c. */
#ifndef AIGWCTL_COMMAND_H
#define AIGWCTL_COMMAND_H

#include <argp.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

#pragma GCC poison argp_error /* ctl_usage() keeps to the width of the terminal */

#include "libshared/api/client.h"
#include "libshared/base/secret.h"
#include "libshared/cli/context.h"
#include "libshared/cli/rows.h"
#include "libshared/cli/table.h"
#include "libshared/cli/term.h"

/* What a command prepares: a table with what it has to say around it, one document, or rows. */
enum output { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_CSV };
/* What is written of it. */
enum format {
    FORMAT_TABLE,
    FORMAT_WIDE,
    FORMAT_JSON,
    FORMAT_NDJSON,
    FORMAT_YAML,
    FORMAT_CSV,
    FORMAT_TSV,
    FORMAT_NAME,
};
enum when { WHEN_AUTO, WHEN_RELATIVE, WHEN_UTC, WHEN_LOCAL, WHEN_UNIX };

struct ctl { /* global options and what came of them */
    const char *url, *token_file, *context;
    enum output output;
    enum format format;
    enum term_color color;
    struct rows_wish wish;
    const char *out_file, *until;
    enum when when;
    bool is_watch, is_raw, has_exit_code, is_nagios;
    bool is_quiet, is_exact, is_all, has_no_headers, has_no_trunc, has_no_pager;
    bool is_gone;      /* said already, under --watch, that nobody answers */
    bool is_read_only; /* by its context */
    int64_t watch_ms, timeout_ms, max_age_ms;
    struct api_client *client; /* made on first use */
    char *found_url;           /* owned */
    char *found_context;       /* owned; NULL: none */
    const char *command;       /* its name */
    char **args;               /* what is left for the command */
    int n_args;
};

/* Which signal asked us to stop, or 0. */
extern _Atomic int ctl_stop;

enum command_group { GROUP_LOOK, GROUP_CONTROL, GROUP_DATA, GROUP_ALERTS, GROUP_SETUP, GROUP_COUNT };

enum verb_effect {
    READS,
    MILD,
    MODERATE,
    SEVERE
}; /* what a context that is read-only refuses, but for the first */

/* A way to call a command. The list ends with name NULL; "" is the command without a verb. Words of `args` and of options that are
 * in capitals are kinds of values (complete.c); "a|b" is one of these. */
struct command_verb {
    const char *name, *args, *summary;
    enum verb_effect effect;
    const char *endpoint; /* "GET /path", NULL: none of its own */
};

struct command {
    const char *name;
    const struct command_verb *verbs;
    enum command_group group;
    const char *summary;               /* one line */
    const char *help;                  /* prose with one example */
    const struct argp_option *options; /* NULL: none of its own */
    error_t (*take)(int key, char *arg,
                    struct argp_state *); /* NULL with `options`; state->input is the ctl */
    int (*run)(struct ctl *ctl);          /* an exit code */
    int max_args;
};

extern const struct command *const COMMANDS[]; /* ends with NULL */
extern const struct argp_option GLOBAL_OPTIONS[];

extern const struct command CMD_STATUS, CMD_HEALTH, CMD_EVENTS, CMD_EXPLAIN, CMD_COST, CMD_ERRORS, CMD_STATS,
    CMD_COMPARE, CMD_LATENCY, CMD_ANOMALIES, CMD_TOKENS, CMD_TRIALS, CMD_MODELS, CMD_METRICS, CMD_PING,
    CMD_WAIT, CMD_TOP, CMD_API, CMD_BREAKERS, CMD_PROVIDERS, CMD_TENANTS, CMD_KEYS, CMD_BUDGETS, CMD_LIMITS,
    CMD_RELOAD, CMD_AGGREGATE, CMD_DB, CMD_RECONCILE, CMD_JOURNAL, CMD_AUDIT, CMD_REPORT, CMD_ALERTS,
    CMD_DASHBOARDS, CMD_DOCTOR, CMD_CONFIG, CMD_MOCK, CMD_DEMO, CMD_COMPLETION, CMD_SCHEMA, CMD_VERSION;

/* ---- what there is (main.c, help.c) ---------------------------------------------------------------------------------- */

extern const char *const COMMAND_GROUPS[GROUP_COUNT];
/* By name or alias; NULL. */
const struct command *command_find(const char *name);
/* The verb's row; NULL when the command has none of that name. */
const struct command_verb *command_verb_find(const struct command *c, const char *name);
/* The word of the list that is nearest to a mistyped one; NULL when none is near. */
const char *help_nearest(const char *word, const char *const *list);
int help_unknown_command(const char *name);
/* The overview, a topic or a command's page. */
int help_show(const char *topic);
int help_command(const struct command *c);
/* "list [TARGET]\nshow TARGET" */
const char *help_usage(const struct command *c);
struct argp help_argp(const struct command *c, argp_parser_t parser, const struct argp_child *children);
/* The pages that are files: "man", "markdown", "bash", "zsh", "fish". */
int help_emit(const char *what);

struct help_topic {
    const char *name, *summary, *text;
};
extern const struct help_topic HELP_TOPICS[]; /* ends with name NULL */

/* Columns that `schema` describes, too. */
extern const struct table_column STATUS_COLUMNS[], HEALTH_COLUMNS[], EVENTS_COLUMNS[], BREAKERS_COLUMNS[],
    PROVIDERS_COLUMNS[], TENANTS_COLUMNS[], KEYS_COLUMNS[], LIMITS_COLUMNS[], BUDGETS_COLUMNS[],
    ERRORS_COLUMNS[], RATES_BY_MODEL[], STATS_NOW[], STATS_HOURLY[], COMPARE_COLUMNS[], LATENCY_COLUMNS[],
    TREND_COLUMNS[], ANOMALY_COLUMNS[], COST_COLUMNS[], TOKENS_COLUMNS[], TRIALS_COLUMNS[], MODELS_COLUMNS[],
    CARDINALITY_COLUMNS[], METRICS_CHECK_COLUMNS[], PING_COLUMNS[], AUDIT_COLUMNS[], CONFIG_COLUMNS[],
    CONTEXT_COLUMNS[];

/* One table of `health` and `cost`, for the demo. */
int health_show(struct ctl *ctl, FILE *f);
int cost_show(struct ctl *ctl, FILE *f);

/* ---- what commands share (call.c) ---------------------------------------------------------------------------------- */

/* Prints "aigwctl: …" on stderr and returns `code`. */
int ctl_fail(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The same about an option, with where help is; ends the program with CLI_USAGE. */
_Noreturn void ctl_usage(const struct argp_state *state, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Says where help of "aigwctl cost" is; CLI_USAGE. */
int ctl_usage_hint(const char *name);
/* Text from column `indent` on, in lines of the terminal's width where stdout is one. */
void ctl_put_text(FILE *f, const char *text, unsigned indent);
/* A line on stderr, in lines of its width where that is a terminal. */
void ctl_note(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* In place of a table without rows: that there is nothing, and what to do about it. */
void ctl_put_none(const struct ctl *ctl, const json_t *rows, const char *text);
/* Calls the gateway and reads its JSON. On failure it has said why, and returns the exit code; on CLI_OK *out is owned by
 * the caller. With --raw the body itself is printed and *out stays NULL. */
int ctl_get(struct ctl *ctl, const char *path, json_t **out);
int ctl_post(struct ctl *ctl, const char *path, json_t **out);
/* Any call; *out is the answer of any status. Says why when there is none. */
int ctl_call(struct ctl *ctl, const char *method, const char *path, struct span body, struct api_answer *out);
/* Whether anybody answers there, with whatever; says nothing when nobody does. */
bool ctl_answers(struct ctl *ctl);
/* Refuses what changes something under a context that is read-only. */
int ctl_read_only(const struct ctl *ctl);
/* Exit code of an answer that is not 2xx, after saying what it says. */
int ctl_refused(const struct api_answer *a);
/* The text of a member, "-" without one. */
void ctl_put_member(FILE *f, const json_t *object, const char *name);
/* The context in force, its name "" when there is none; `is_named`: by -c or GATEWAYD_CONTEXT. An exit code. */
int ctl_find_context(struct ctl *ctl, struct context *out, bool *is_named);
/* The token of options, variables or the context; an exit code. */
int ctl_find_token(struct ctl *ctl, struct secret *out);
/* Where the gateway is, in ctl->found_url; an exit code. */
int ctl_find_url(struct ctl *ctl);

/* ---- output (output.c) ----------------------------------------------------------------------------------------------- */

/* How `f` shows tables under these options. */
struct table_style ctl_style(const struct ctl *ctl, FILE *f);
/* Prints rows in the chosen form; `data` is what JSON carries (NULL: the rows). */
void ctl_print(const struct ctl *ctl, FILE *f, const char *schema, const struct table_column *columns,
               const json_t *rows, const json_t *data);
/* A document that has no rows, as JSON, YAML or one line. */
void ctl_print_document(const struct ctl *ctl, FILE *f, const char *schema, const json_t *data);
/* Whether footers and hints on stderr have a reader. */
bool ctl_talks(const struct ctl *ctl);
/* The code of what was printed: of options that make no sense, or of data that is too old; CLI_OK. */
int ctl_print_code(void);
/* The last line of --nagios. */
int ctl_print_nagios(const struct ctl *ctl, int code);
/* What ctl_fail() said last; "". */
const char *ctl_last_complaint(void);
/* Runs `show` once, or again and again under --watch until a signal: redrawn in place on a terminal, appended elsewhere. */
typedef int (*ctl_show)(struct ctl *ctl, FILE *f);
int ctl_watch(struct ctl *ctl, ctl_show show);
/* Redraws in place what it drew before: `lines` is its memory, 0 at first. */
void ctl_redraw(FILE *f, const char *text, unsigned *lines);
/* Sleeps; false when a signal came. */
bool ctl_sleep_ms(int64_t ms);

#endif
