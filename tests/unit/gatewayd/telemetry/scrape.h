/* SPDX-License-Identifier: Apache-2.0 */
/* Facts to add and scrapes to look into, for the tests of cells and exposition. */
#ifndef TESTS_TELEMETRY_SCRAPE_H
#define TESTS_TELEMETRY_SCRAPE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/telemetry/exposition.h"
#include "libshared/base/compiler.h"

#define NOW_US 1800000000000000 /* a round moment in 2027 */

/* A buffered chat that provider `p` answered in 700 ms at the end of the window's first seconds. */
static inline struct fact_request a_request(const char *tenant, const char *p, const char *model)
{
    return (struct fact_request){
        .arrived = {NOW_US - 700000},
        .tenant = intern_z(tenant),
        .provider = intern_z(p),
        .model = intern_z(model),
        .requested = intern_z("chat-default"),
        .method = intern_z("POST"),
        .endpoint = intern_z("/v1/chat/completions"),
        .op = OP_CHAT,
        .http_status = 200,
        .attempts = 1,
        .duration_us = 700000,
        .ttft_us = -1,
        .is_priced = true,
    };
}

static inline struct fact_attempt an_attempt(const char *p, const char *model)
{
    return (struct fact_attempt){
        .provider = intern_z(p),
        .model = intern_z(model),
        .http_status = 200,
        .number = 1,
        .duration_us = 600000,
        .ttft_us = -1,
        .usage = {.input = 100, .cached = 40, .output = 20, .reasoning = 5, .source = USAGE_REPORTED},
        .cost_nanousd = 1500000,
        .is_priced = true,
    };
}

static inline struct metrics_state a_state(void)
{
    static const struct store_tally NONE;

    return (struct metrics_state){
        .started = {NOW_US - 3600000000},
        .now = {NOW_US},
        .version = "1.2.3",
        .revision = "abc",
        .n_workers = 2,
        .profiles = ~0u,
        .tally = &NONE,
    };
}

/* Lines are searched with the mem functions: under the address sanitizer each str function measures the whole
 * scrape. */
static inline const char *next_line(const struct buf *b, const char *p)
{
    p = memchr(p, '\n', (size_t)(b->p + b->len - p));
    return p && p + 1 < b->p + b->len ? p + 1 : NULL;
}

/* First sample line of the family that a sample of that name belongs to, NULL when it is not there. */
static inline const char *family_of(const struct buf *b, const char *name, size_t name_len)
{
    static const char *const SUFFIXES[] = {"", "_bucket", "_sum", "_count"};

    for (size_t i = 0; i < ARRAY_LEN(SUFFIXES); i++) {
        char type[128];
        size_t cut = strlen(SUFFIXES[i]);
        const char *at;

        if (name_len <= cut || memcmp(name + name_len - cut, SUFFIXES[i], cut) != 0)
            continue;
        (void)snprintf(type, sizeof(type), "# TYPE %.*s ", (int)(name_len - cut), name);
        at = b->len ? memmem(b->p, b->len, type, strlen(type)) : NULL;
        if (at)
            return next_line(b, at);
    }
    return NULL;
}

static inline double number_at(const struct buf *b, const char *p)
{
    char text[40];

    (void)span_copy(text, sizeof(text), span_make(p, (size_t)(b->p + b->len - p)));
    return strtod(text, NULL);
}

static inline bool line_starts(const struct buf *b, const char *p, const char *with, size_t n)
{
    return (size_t)(b->p + b->len - p) > n && memcmp(p, with, n) == 0;
}

/* Value of the sample whose text before the value is `series`; -1 when absent: no sample is negative. */
static inline double value_of(const struct buf *b, const char *series)
{
    size_t n = strlen(series);

    for (const char *p = family_of(b, series, strcspn(series, "{")); p && *p != '#'; p = next_line(b, p))
        if (line_starts(b, p, series, n) && p[n] == ' ')
            return number_at(b, p + n + 1);
    return -1;
}

/* Sum over all samples of that name, and how many there are. */
static inline double sum_of(const struct buf *b, const char *name, size_t *out_n)
{
    size_t n = strlen(name), count = 0;
    double sum = 0;

    for (const char *p = family_of(b, name, n); p && *p != '#'; p = next_line(b, p)) {
        const char *v = p + n;

        if (!line_starts(b, p, name, n) || (*v != '{' && *v != ' '))
            continue;
        if (*v == '{')
            v = (const char *)memmem(v, (size_t)(b->p + b->len - v), "} ", 2) + 1;
        sum += number_at(b, v);
        count++;
    }
    if (out_n)
        *out_n = count;
    return sum;
}

#endif
