/* SPDX-License-Identifier: Apache-2.0 */
/* Reading JSON without building a document: spans into the caller's bytes, no allocation.
 *
 *   json_check()               proves that bytes are one complete JSON value (RFC 8259: strict numbers, literals, escapes,
 *                              UTF-8) within limits on depth and on the number of values, and refuses duplicate keys of
 *                              the top-level object.
 *   json_walk() / json_next()  walk the members of one object, or the elements of an array, in order, skipping values.
 *                              They may be used on bytes that were not checked (provider answers): a malformed byte ends
 *                              the walk with `bad` set, never a read outside the span. They are as strict as
 *                              json_check(), except that they let invalid UTF-8 pass inside strings and do not look for
 *                              duplicates.
 *
 * Nothing here recurses, and the time is linear in the bytes. Documents are only built (jansson, control plane)
 * elsewhere. */
#ifndef JSON_JSON_H
#define JSON_JSON_H

#include "libshared/base/err.h"
#include "libshared/base/span.h"

#define JSON_DEPTH_MAX 1024u /* whatever the limits say, and for walks over unchecked bytes */
#define JSON_KEY_MAX   1024u /* likewise, for top-level keys */

enum json_type {
    JSON_INVALID,
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

struct json_limits {
    unsigned max_depth;     /* nesting of arrays and objects */
    unsigned max_values;    /* values of any type, in total */
    unsigned max_key_bytes; /* of a top-level key, as written (escapes not resolved) */
};

struct json_value {
    enum json_type type;
    struct span raw; /* the value's own bytes: strings with their quotes, containers with their brackets */
};

struct json_member {
    struct span key; /* raw bytes between the quotes; compare with json_key_is(), which understands escapes */
    struct json_value value;
    size_t start; /* offset in the walked bytes of the key's opening quote (object) or of the value (array) */
};

struct json_walk {
    const char *base, *p, *end; /* after a clean end `p` is behind the closing bracket */
    bool is_object;
    bool first; /* private */
    bool done;  /* private */
    bool bad;   /* the bytes were malformed at `p` */
};

/* One complete value with only white space around it; on failure `err` says what, and at which byte offset
 * (ERR_BAD_BODY; ERR_NO_MEMORY is possible only with more than 32 top-level keys). Duplicates are found
 * however they are escaped. Lone surrogates written as escapes are grammar and pass; raw bytes must be UTF-8.
 */
NODISCARD enum err_code json_check(struct span text, const struct json_limits *limits, struct err *err);
/* Type and extent of the value that begins at the first non-space byte (the rest is ignored). */
struct json_value json_value(struct span text);
/* Begins a walk over an object or an array; false when `text` is neither. */
bool json_walk(struct json_walk *w, struct span text);
bool json_next(struct json_walk *w, struct json_member *out);
/* Unescapes as needed; `name` is a plain ASCII literal. */
bool json_key_is(struct span key, const char *name);
/* First member of that name in the object `text`; type JSON_INVALID when absent or when text is no object. */
struct json_value json_get(struct span text, const char *name);
/* json_get along a path of object members: json_path(text, "usage", "prompt_tokens", NULL). */
struct json_value json_path(struct span text, ...) __attribute__((sentinel));
/* Non-negative integer (also when written 12.0 or 1.2e1); false otherwise. */
bool json_u64(struct json_value v, uint64_t *out);
/* The bytes between the quotes as they stand (still escaped); empty span when it is no string. */
struct span json_str_raw(struct json_value v);
/* Unescaped into `dst` (NUL-terminated); false when it is no string, is not valid Unicode, holds NUL or does
 * not fit. */
bool json_str(struct json_value v, char *dst, size_t cap, size_t *out_len);

#endif
