/* SPDX-License-Identifier: Apache-2.0 */
/* What a command is, and what every command is given. A command lives in cmd_<noun>.c and has one row in commands.c. */
#ifndef AIGWCTL_COMMAND_H
#define AIGWCTL_COMMAND_H

#include <argp.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

#include "libshared/api/client.h"
#include "libshared/cli/context.h"
#include "libshared/cli/table.h"
#include "libshared/cli/term.h"

enum output { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_CSV };

struct ctl { /* global options and what came of them */
    const char *url, *token_file, *context;
    enum output output;
    enum term_color color;
    bool is_watch, is_raw, has_exit_code;
    bool is_gone; /* said already, under --watch, that nobody answers */
    int64_t watch_ms, timeout_ms;
    struct api_client *client; /* made on first use */
    char *found_url;           /* owned */
    char **args;               /* what is left for the command */
    int n_args;
};

/* Which signal asked us to stop, or 0. */
extern _Atomic int ctl_stop;

enum command_group { GROUP_LOOK, GROUP_CONTROL, GROUP_DATA, GROUP_ALERTS, GROUP_SETUP, GROUP_COUNT };

struct command {
    const char *name, *args; /* args as usage shows them */
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

extern const struct command CMD_STATUS, CMD_HEALTH, CMD_COST, CMD_DEMO, CMD_MOCK, CMD_API, CMD_RELOAD,
    CMD_BREAKERS, CMD_PROVIDERS, CMD_TENANTS, CMD_KEYS, CMD_JOURNAL, CMD_AGGREGATE, CMD_DB, CMD_RECONCILE,
    CMD_BUDGETS, CMD_LIMITS, CMD_EVENTS, CMD_EXPLAIN;
extern const struct command CMD_ALERTS, CMD_DASHBOARDS;

/* One table of `health` and `cost`, for the demo. */
int health_show(struct ctl *ctl, FILE *f);
int cost_show(struct ctl *ctl, FILE *f);

/* ---- what commands share (call.c) ---------------------------------------------------------------------------------- */

/* Prints "aigwctl: …" on stderr and returns `code`. */
int ctl_fail(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Calls the gateway and reads its JSON. On failure it has said why, and returns the exit code; on CLI_OK *out is owned by
 * the caller. With --raw the body itself is printed and *out stays NULL. */
int ctl_get(struct ctl *ctl, const char *path, json_t **out);
int ctl_post(struct ctl *ctl, const char *path, json_t **out);
/* Any call; *out is the answer of any status. Says why when there is none. */
int ctl_call(struct ctl *ctl, const char *method, const char *path, struct span body, struct api_answer *out);
/* Exit code of an answer that is not 2xx, after saying what it says. */
int ctl_refused(const struct api_answer *a);
/* The text of a member, "-" without one. */
void ctl_put_member(FILE *f, const json_t *object, const char *name);
/* How `f` shows tables under these options. */
struct table_style ctl_style(const struct ctl *ctl, FILE *f);
/* Prints rows in the chosen form; `data` is what JSON carries (NULL: the rows). */
void ctl_print(const struct ctl *ctl, FILE *f, const char *schema, const struct table_column *columns,
               const json_t *rows, const json_t *data);
/* Runs `show` once, or again and again under --watch until a signal: redrawn in place on a terminal, appended elsewhere. */
typedef int (*ctl_show)(struct ctl *ctl, FILE *f);
int ctl_watch(struct ctl *ctl, ctl_show show);
/* Redraws in place what it drew before: `lines` is its memory, 0 at first. */
void ctl_redraw(FILE *f, const char *text, unsigned *lines);
/* Sleeps; false when a signal came. */
bool ctl_sleep_ms(int64_t ms);

#endif
