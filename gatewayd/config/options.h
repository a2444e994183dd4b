/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options (options.def) and what is asked of it: which row a path names, what lies below a path,
 * what an unknown key was probably meant to be, and the documentation. */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include "gatewayd/config/config.h"

enum option_type {
    OPT_BOOL,
    OPT_COUNT,    /* whole number; unsigned, uint32_t, uint64_t */
    OPT_SIZE,     /* size_t; with or without a unit */
    OPT_DURATION, /* int64_t microseconds; always with a unit */
    OPT_RATIO,    /* double, 0 to 1 */
    OPT_MONEY,    /* int64_t nano-USD */
    OPT_TEXT,     /* const char * */
    OPT_PATH,     /* const char *, not empty */
    OPT_NAME,     /* const char *: letters, digits, `_ . -` */
    OPT_ZONE,     /* const struct zone *: a time zone by its IANA name */
    OPT_LEVELS,   /* struct config_levels: percentages, one or several */
    OPT_CHOICE,   /* const char *: one of choices */
    OPT_ENUM,     /* an enum: the position in choices */
    OPT_ADDRESS,  /* struct config_address */
    OPT_DSN,      /* const char *: empty or begins with one of choices; may hold a password */
    OPT_DIGEST,   /* unsigned char[SHA256_BYTES] */
    OPT_SECRET,   /* struct secret */
    OPT_CIDRS,    /* the lists: a pointer and a count */
    OPT_NAMES,
    OPT_SECRETS,
};

struct option_row {
    const char *path;
    enum option_type type;
    size_t offset, width, n_offset; /* into the struct that holds the section */
    const char *choices;            /* separated by spaces */
    int64_t min, max;               /* max 0: only the type's own */
    const char *fallback, *shown;
    const char *env, *alias, *alias_unit;
    bool is_live, is_later, is_optional;
    const char *text;
};

#define OPTION_PATH_CAP 128u

extern const struct option_row OPTIONS[];
extern const size_t OPTIONS_LEN;

/* NULL when `path` is no option. */
const struct option_row *option_find(const char *path);
/* Whether options lie below `path` as a mapping ("http" has "http.max_body") or as a list ("models[]…"). */
bool option_has_section(const char *path);
bool option_has_list(const char *path);
/* Not inside a list: such a row can come from the environment. */
bool option_is_root(const struct option_row *row);
/* The key below `prefix` that `key` was probably meant to be; NULL when none is close. Copied to `dst`. */
const char *option_suggest(const char *prefix, struct span key, char dst[OPTION_PATH_CAP]);

/* "1 to 64", in the unit that an operator writes. */
void option_range(struct buf *out, const struct option_row *row);

/* Type and default in words, with Markdown's marks. */
void option_type_text(struct buf *out, const struct option_row *row);
void option_default(struct buf *out, const struct option_row *row);

/* Number of edits (insert, delete, replace, swap of neighbours) from `a` to `b`; large when either is long.
 */
unsigned edit_distance(struct span a, struct span b);
/* Whether a word this far off is worth suggesting. */
bool is_close(unsigned distance, size_t len);

#endif
