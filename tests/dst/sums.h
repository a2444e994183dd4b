/* SPDX-License-Identifier: Apache-2.0 */
/* A book as sums by a text: two books are equal when every text has the same sums in both. */
#ifndef DST_SUMS_H
#define DST_SUMS_H

#include <stddef.h>
#include <stdint.h>

#define SUMS_VALUES 16u

struct sums;
struct sums *sums_new(const char *name);
void sums_free(struct sums *s);
/* The values of that key, zero when it is new; valid until the next call. */
int64_t *sums_at(struct sums *s, const char *key);
size_t sums_count(const struct sums *s);
/* Fails the life with the first difference; lines of zeroes are as good as none. */
void sums_must_equal(const struct sums *want, const struct sums *have);
/* Where less is right but more is not: the values of the bits in `which`. */
void sums_must_not_exceed(const struct sums *want, const struct sums *have, unsigned which);

#endif
