/* SPDX-License-Identifier: Apache-2.0 */
/* Figures as people read them: 812ms, 25.2B, $1,533.20, 3s ago. Pure. `dst` has HUMAN_CAP bytes. */
#ifndef CLI_HUMAN_H
#define CLI_HUMAN_H

#include <stdbool.h>

#include "libshared/base/clock.h"

#define HUMAN_CAP 48

void human_count(char dst[HUMAN_CAP], uint64_t v); /* 999, 1.20K, 15.8M, 25.2B */
void human_bytes(char dst[HUMAN_CAP], uint64_t v); /* 999 B, 1.2 KiB */
void human_usd(char dst[HUMAN_CAP],
               int64_t nanousd);               /* $1,533.20; $0.0488; below a cent four significant digits */
void human_ms(char dst[HUMAN_CAP], double ms); /* 0.4ms, 812ms, 4.76s, 2m14s */
void human_percent(char dst[HUMAN_CAP], double ratio);     /* 0.4% */
void human_rate(char dst[HUMAN_CAP], double v);            /* 61.2 */
void human_duration(char dst[HUMAN_CAP], int64_t seconds); /* 41s, 2m14s, 3h27m, 10d */
/* RFC 3339 as the API writes it (with or without a fraction); false when it is not. */
bool human_parse_time(const char *z, struct wall *out);
/* "15s", "2m", "1h30m", "250ms", "15": milliseconds; false when it is not a duration. */
bool human_parse_duration(const char *z, int64_t *out_ms);

#endif
