/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length (1..4) of the valid sequence at `p`, or 0 when the bytes there are not one. */
size_t utf8_valid_len(const char *p, size_t len);
/* The code point of the valid sequence of `len` bytes at `p`. */
uint32_t utf8_decode(const char *p, size_t len);
/* A character that acts on a terminal or turns the direction of writing instead of being seen: C1 controls, bidi marks,
 * overrides and isolates, line and paragraph separators. */
bool utf8_is_unseen(uint32_t code);

#endif
