/* SPDX-License-Identifier: Apache-2.0 */
/* What commands share that change something: they say what was and what is now, ask before they do harm, and can show the call
 * instead of making it. */
#ifndef AIGWCTL_CHANGE_H
#define AIGWCTL_CHANGE_H

#include "aigwctl/command.h"

enum danger {
    DANGER_MILD,     /* no question */
    DANGER_MODERATE, /* [y/N]; --yes answers it */
    DANGER_SEVERE    /* the name has to be typed, or given with --confirm; --yes is not enough */
};

enum { KEY_YES = 'y', KEY_CONFIRM = 0x3000, KEY_DRY_RUN, KEY_REASON, KEY_NO_INPUT };

#define CHANGE_OPTIONS                                                                                       \
    {"yes", KEY_YES, 0, 0, "do not ask before what is easily undone", 90},                                   \
        {"confirm", KEY_CONFIRM, "NAME", 0, "the name again, before what is not undone", 90},                \
        {"dry-run",                                                                                          \
         KEY_DRY_RUN,                                                                                        \
         "client|server",                                                                                    \
         OPTION_ARG_OPTIONAL,                                                                                \
         "show the call and make none; =server: have the gateway check it and say what would change",        \
         90},                                                                                                \
        {"reason", KEY_REASON, "TEXT", 0, "for the audit log", 90},                                          \
    {                                                                                                        \
        "no-input", KEY_NO_INPUT, 0, 0, "never ask: fail instead (exit 7)", 90                               \
    }

/* In the command's own take(). */
error_t change_take(int key, char *arg);

/* Members that options gave, for the body of the change; NULL while there are none. */
extern json_t *change_given;
void change_give(const char *name, json_t *value); /* takes the value */
/* A limit out of an option of that name: a whole number, or 'plan' for null. */
error_t change_give_limit(const char *name, const char *arg, struct argp_state *state);

struct change {
    enum danger danger;
    const char *what, *name; /* "delete tenant", "acme" */
    const char *method, *path;
    json_t *body; /* taken; NULL: none, and the reason goes into the query */
};

/* Asks, calls. *out is the caller's; NULL after --dry-run. An exit code; it has said why when it is not CLI_OK. */
int change_make(struct ctl *ctl, const struct change *c, json_t **out);
/* The question alone, for what is no call of the admin interface; CLI_OK: go on. */
int change_confirm(enum danger danger, const char *what, const char *name);
/* "plan: gold → silver" for each member of `names` (ended by NULL) that differs, or "nothing changed". */
void change_show(FILE *f, const json_t *was, const json_t *is, const char *const *names);
/* A name as one part of a path. */
bool change_is_name(const char *z);

#endif
