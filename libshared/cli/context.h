/* SPDX-License-Identifier: Apache-2.0 */
/* Where to find a gateway that nobody named, and the token for it. */
#ifndef CLI_CONTEXT_H
#define CLI_CONTEXT_H

#include "libshared/base/err.h"
#include "libshared/base/secret.h"

/* The home directory; cron and systemd may set no HOME. "" when there is none. */
const char *context_home(void);

/* Where a running gateway registered itself under a name: a file that holds {"url","pid"} and may hold "redis" and "database". */
bool context_path(const char *name, char *dst, size_t cap);
bool context_read(const char *name, char *url, size_t cap, int *out_pid);

/* ---- ctl.yaml (contexts.c) ------------------------------------------------------------------------------------------- */

#define CONTEXTS_MAX     64u
#define CONTEXT_NAME_CAP 65u
#define CONTEXT_TEXT_CAP 1024u

struct context { /* empty texts: not said */
    char name[CONTEXT_NAME_CAP];
    char url[CONTEXT_TEXT_CAP]; /* a `socket` is unix:/PATH here */
    char token_file[CONTEXT_TEXT_CAP], redis[CONTEXT_TEXT_CAP], database[CONTEXT_TEXT_CAP],
        prometheus[CONTEXT_TEXT_CAP];
    char file[CONTEXT_TEXT_CAP]; /* what said so; filled by context_load() alone */
    bool is_read_only;
    bool is_running; /* not of ctl.yaml: a gateway registered itself */
};

struct contexts {
    struct context *list; /* owned */
    size_t n;
    char current[CONTEXT_NAME_CAP];
    char path[CONTEXT_TEXT_CAP]; /* the file that was read, or that would be written */
};

/* $XDG_CONFIG_HOME/gatewayd/ctl.yaml, else /etc/gatewayd/ctl.yaml; none is an empty list. */
NODISCARD enum err_code contexts_read(struct contexts *out, struct err *err);
void contexts_release(struct contexts *c);
struct context *contexts_find(struct contexts *c, const char *name);
/* Replaces the user's file, 0600; comments in it are lost. */
NODISCARD enum err_code contexts_write(const struct contexts *c, struct err *err);
/* A gateway that registered itself, or a context of the file; `name` NULL: the current one. ERR_NOT_FOUND when there is none. */
NODISCARD enum err_code context_load(const char *name, struct context *out, struct err *err);
/* Gateways that registered themselves and live, in no order. */
void contexts_running(void (*fn)(void *user, const struct context *c), void *user);
/* `'KEY' of context 'NAME' in`, and on a second line its file as one types it. */
void context_place(const struct context *c, const char *key, char *dst, size_t cap);
/* Letters, digits and `_.-`. */
bool context_is_name(const char *z);

/* ---- what is in force: options over a context that is named, that over variables, those over the current context -------- */

/* The context that is meant by the options --url and --context; no name: none is. */
NODISCARD enum err_code context_find(const char *url, const char *name, struct context *out,
                                     bool *out_is_named, struct err *err);
/* The variable, else its alias (NULL: none); one that is empty is none. */
const char *context_variable(const char *name, const char *alias);
/* Whether its stores are meant, before options; else those of the variables are. */
bool context_gives_stores(const struct context *c, bool is_named);
/* A variable switches the realtime store off, which an option or a context that is named overrules. */
bool context_redis_is_off(void);
/* `file` is the option's. Of tokens the variables win over every context. */
NODISCARD enum err_code context_token(const struct context *c, const char *file, struct secret *out,
                                      struct err *err);

/* A socket of this user's or the system's gateway, which needs no token; TCP is the last guess. */
void context_guess_url(char *dst, size_t cap);
/* Without the line's end. */
NODISCARD enum err_code context_token_file(const char *path, struct secret *out, struct err *err);

#endif
