/* SPDX-License-Identifier: Apache-2.0 */
/* Identifiers: UUIDv7 (time-ordered, 74 random bits) for requests, random hex for traces, random keys. */
#ifndef BASE_ID_H
#define BASE_ID_H

#include "libshared/base/clock.h"

struct id {
    unsigned char b[16];
};

#define ID_TEXT_CAP 37

/* From the kernel; aborts when the kernel has none, since no safe continuation exists. */
void random_bytes(void *dst, size_t n);
struct id id_mint(struct wall now);
/* Canonical 36 characters and a NUL. */
void id_format(const struct id *id, char dst[ID_TEXT_CAP]);

/* A new API key: "gw-" and 43 letters and digits, which hold 256 random bits. The first KEY_PREFIX_LEN characters may be
 * shown. */
#define KEY_TEXT_CAP   47
#define KEY_PREFIX_LEN 8
void key_mint(char dst[KEY_TEXT_CAP]);

#endif
