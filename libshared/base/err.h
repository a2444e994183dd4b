/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: a code from errors.def, and optionally a text that says which thing failed and what to do.
 * Fallible functions return `enum err_code`; the last parameter may be a `struct err *` (NULL is fine). */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "libshared/base/compiler.h"

enum err_code {
#define ERR(id, status, type, code, retry, text) ERR_##id,
#include "libshared/catalog/errors.def"
#undef ERR
    ERR_COUNT
};

enum err_retry { ERR_RETRY_NEVER, ERR_RETRY_CLIENT, ERR_RETRY_NEXT };

struct err_row {
    const char *name; /* "BAD_KEY" */
    int status;       /* HTTP status when it ends a request */
    const char *type; /* OpenAI error type */
    const char *code; /* stable wire code */
    enum err_retry retry;
    const char *text;
};

struct err {
    enum err_code code;
    char text[320]; /* detail; lower case, subject in single quotes, no full stop, never a secret */
};

const struct err_row *err_row(enum err_code code);
/* Sets `err` (when not NULL) and returns `code`, so that `return err_set(err, ERR_X, "…")` reads well. */
enum err_code err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "context: " in front of the text that is already there. */
enum err_code err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The detail when there is one, else the row's text. */
const char *err_text(const struct err *err);

#endif
