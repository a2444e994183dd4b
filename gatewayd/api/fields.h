/* SPDX-License-Identifier: Apache-2.0 */
/* Members of a JSON body by a table: what is not in it is an error that names the member, and so is a value of the wrong kind. */
#ifndef API_FIELDS_H
#define API_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "libshared/base/err.h"
#include "libshared/base/span.h"

enum field_type {
    FIELD_NAME,   /* letters, digits, '_', '.' and '-', as in the configuration */
    FIELD_TEXT,   /* printable, at most `max` bytes (0: 256) */
    FIELD_BOOL,   /* .i */
    FIELD_COUNT,  /* .i, from `min` to `max` */
    FIELD_USD,    /* .i in nano-USD; a number, or a decimal text for what a number cannot hold exactly */
    FIELD_CHOICE, /* .text, one of `choices` */
    FIELD_MODELS, /* .list of printable texts */
    FIELD_LEVELS, /* .i as levels_pack() makes it; a percentage, a list of them, or text */
    FIELD_TIME,   /* .i in seconds since 1970; RFC 3339 */
    FIELD_HOUR,   /* .i, its first second since 1970; 2026-11-20T13 */
};

struct field {
    const char *name;
    enum field_type type;
    bool is_required, may_be_null;
    int64_t min, max;
    const char *choices; /* separated by spaces */
};

struct field_value {
    bool is_given, is_null;
    int64_t i;
    const char *text;    /* borrowed from the document */
    const json_t *list;  /* likewise */
    const json_t *value; /* as it was given */
};

#define FIELDS_MAX 16u

/* `out` has a place per field. *out_doc is the caller's on ERR_OK. An empty body is an empty object. */
NODISCARD enum err_code fields_read(struct span body, const struct field *fields, size_t n,
                                    struct field_value *out, json_t **out_doc, struct err *err);

#endif
