/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands share that only look: paths, rows out of an answer, options, and the codes of checks. */
#ifndef AIGWCTL_LOOK_H
#define AIGWCTL_LOOK_H

#include "aigwctl/command.h"

/* "a/b" as part of a path: what is no plain character is escaped; slashes stay. */
void look_add_part(struct buf *b, const char *part);
/* "&name=value" or "?name=value"; nothing for NULL. */
void look_add_param(struct buf *b, const char *name, const char *value);
/* "openrouter/openai/gpt-4" at its first slash; *out_model is NULL without one. `provider` has `cap` bytes. */
bool look_split(const char *target, char *provider, size_t cap, const char **out_model);
/* The rows of an answer: itself, or its member `list`; of a mapping its values, with their keys as member `key`. The caller's. */
json_t *look_rows(const json_t *doc, const char *list, const char *key);
/* An epoch number becomes RFC 3339. */
void look_time(json_t *row, const char *from, const char *to);
/* Nano-dollars from dollars, where the answer has dollars alone. */
void look_money(json_t *row, const char *dollars, const char *nanousd);
/* part / whole as a ratio, null when that says nothing. */
void look_ratio(json_t *row, const char *name, double part, double whole);
double look_number(const json_t *o, const char *name);     /* NaN: none */
const char *look_text(const json_t *o, const char *name);  /* "": none */
const char *look_shown(const json_t *o, const char *name); /* "-": none */
/* The rows in the order of `compare`, which gets what qsort() gives; takes `rows`, the caller's. */
json_t *look_sorted(json_t *rows, int (*compare)(const void *, const void *));
/* Eight blocks a figure, highest full; unknown is a blank. */
void look_spark(struct buf *b, const json_t *rows, const char *name);

/* An option's whole number from `least` to `most`. */
unsigned look_count(struct argp_state *state, const char *name, const char *arg, unsigned least,
                    unsigned most);
/* "5%" or "0.05" as a ratio. */
double look_share(struct argp_state *state, const char *name, const char *arg);

/* 10 when `value` reaches `warning`, 11 when `critical`; only where checks are asked for. */
int look_code(const struct ctl *ctl, double value, double warning, double critical);
/* GET, rows, print. *out_doc: the answer, the caller's; may be NULL. */
/* GET that may be refused without a word: *out is NULL then. An exit code when nobody answers. */
int look_try(struct ctl *ctl, const char *path, json_t **out);

#endif
