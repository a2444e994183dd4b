/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>

/* Length (1..4) of the valid sequence at `p`, or 0 when the bytes there are not one. */
size_t utf8_valid_len(const char *p, size_t len);

#endif
