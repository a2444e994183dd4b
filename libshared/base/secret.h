/* SPDX-License-Identifier: Apache-2.0 */
/* A secret has no print path: it is a struct, its bytes are reached by one function whose name is easy to grep,
 * and they are wiped on release. Never put `secret_expose()` into a log, an error or a metric. */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <stdbool.h>

#include "libshared/base/err.h"
#include "libshared/base/span.h"

struct secret {
    unsigned char *sealed_; /* private */
    size_t len;
};

NODISCARD enum err_code secret_set(struct secret *s, struct span bytes);
void secret_release(struct secret *s);
struct span secret_expose(const struct secret *s);
/* Constant-time in the length of the shorter; false on different lengths. */
bool secret_equal(const struct secret *s, struct span candidate);
/* Constant-time comparison of two blocks of the same length. */
bool mem_equal_ct(const void *a, const void *b, size_t len);

#endif
