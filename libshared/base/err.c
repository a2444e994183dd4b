/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct err_row ROWS[] = {
#define ERR(id, status, type, code, retry, text) {#id, status, type, code, ERR_RETRY_##retry, text},
#include "libshared/catalog/errors.def"
#undef ERR
};
_Static_assert(ARRAY_LEN(ROWS) == ERR_COUNT, "errors.def is complete");

const struct err_row *err_row(enum err_code code)
{
    return &ROWS[(unsigned)code < ERR_COUNT ? code : ERR_INTERNAL];
}

enum err_code err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    if (err) {
        va_list ap;

        err->code = code;
        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
    }
    return code;
}

enum err_code err_prefix(struct err *err, const char *fmt, ...)
{
    char old[sizeof(err->text)];
    va_list ap;
    int n;

    if (!err)
        return ERR_INTERNAL;
    memcpy(old, err->text, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n + 2 < sizeof(err->text)) {
        size_t at = (size_t)n + 2, len = strnlen(old, sizeof(err->text) - at - 1);

        memcpy(err->text + n, ": ", 2);
        memcpy(err->text + at, old, len); /* the tail of a long story is cut */
        err->text[at + len] = '\0';
    }
    return err->code;
}

const char *err_text(const struct err *err)
{
    return err->text[0] ? err->text : err_row(err->code)->text;
}
