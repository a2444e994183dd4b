/* SPDX-License-Identifier: Apache-2.0 */
/* Facts with every field set, made from a number; and a scratch directory. */
#ifndef TESTS_FACTS_SAMPLE_H
#define TESTS_FACTS_SAMPLE_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libshared/base/buf.h"
#include "libshared/catalog/fact.h"

static inline struct id sample_id(uint64_t n)
{
    struct id id = {{0}};

    memcpy(id.b, &n, sizeof(n));
    id.b[15] = 0x77;
    return id;
}

static inline uint64_t sample_number(const struct id *id)
{
    uint64_t n;

    memcpy(&n, id->b, sizeof(n));
    return n;
}

static inline struct usage sample_usage(uint64_t n)
{
    return (struct usage){.input = n + 1,
                          .cached = n + 2,
                          .cache_write = n + 3,
                          .output = n + 4,
                          .reasoning = n + 5,
                          .images = n + 6,
                          .searches = n + 7,
                          .source = (enum usage_source)(n % 3)};
}

static inline const struct zone *sample_zone(uint64_t n)
{
    const struct zone *z = NULL;

    if (n % 3 &&
        zone_find_mt(n % 3 == 1 ? SPAN_LIT("Asia/Kolkata") : SPAN_LIT("America/Argentina/ComodRivadavia"), &z,
                     NULL))
        abort();
    return z;
}

static inline struct fact_attempt sample_attempt(uint64_t n)
{
    return (struct fact_attempt){.provider = intern_z("openrouter"),
                                 .model = intern_z("openai/gpt-4o-mini"),
                                 .status = (enum fact_status)(n % STATUS_COUNT),
                                 .error = (enum err_code)(n % ERR_COUNT),
                                 .http_status = (uint16_t)(n * 7),
                                 .number = (uint8_t)n,
                                 .is_stream = n & 1,
                                 .end = (enum stream_end)(n % STREAM_END_COUNT),
                                 .from_provider = intern_z("anthropic"),
                                 .retry_reason = (enum err_code)((n + 3) % ERR_COUNT),
                                 .started_us = (int64_t)n * 1000,
                                 .duration_us = INT64_MAX,
                                 .ttft_us = -1,
                                 .usage = sample_usage(n),
                                 .cost_nanousd = INT64_MIN + (int64_t)n,
                                 .is_priced = !(n & 1),
                                 .cycle = {(enum period)((n + 1) % PERIOD_COUNT), sample_zone(n)}};
}

static inline struct fact_context sample_context(uint64_t n)
{
    return (struct fact_context){.request = sample_id(n),
                                 .arrived = {1790000000123456 + (int64_t)n},
                                 .tenant = intern_z("acme"),
                                 .key = intern_z("web"),
                                 .op = (enum operation)(n % (OP_COUNT + 1))};
}

static inline struct fact_reservation sample_reservation(uint64_t n)
{
    return (struct fact_reservation){.amount_nanousd = (int64_t)n + 1,
                                     .at = {1790000000123450 + (int64_t)n},
                                     .key_period = (enum period)(n % PERIOD_COUNT),
                                     .tenant_period = (enum period)((n + 1) % PERIOD_COUNT),
                                     .global_period = (enum period)((n + 2) % PERIOD_COUNT),
                                     .key_zone = sample_zone(n),
                                     .tenant_zone = sample_zone(n + 1),
                                     .global_zone = sample_zone(n + 2)};
}

static inline struct fact_open sample_open(uint64_t n)
{
    return (struct fact_open){.context = sample_context(n),
                              .reservation = sample_reservation(n),
                              .requested = intern_z("chat-default"),
                              .is_stream = n & 1,
                              .number = 1,
                              .provider = intern_z("openrouter"),
                              .model = intern_z("openai/gpt-4o-mini"),
                              .started_us = (int64_t)n,
                              .usage = sample_usage(n),
                              .cost_nanousd = (int64_t)n * 3,
                              .is_priced = true};
}

static inline struct fact_adjust sample_adjust(uint64_t n)
{
    return (struct fact_adjust){.id = sample_id(n),
                                .at = {1790000000123456},
                                .tenant = intern_z("acme"),
                                .key = intern_z("web"),
                                .provider = intern_z("openrouter"),
                                .model = intern_z("openai/gpt-4o-mini"),
                                .amount_nanousd = -(int64_t)n,
                                .who = "operator",
                                .why = "refund of a double charge"};
}

static inline struct fact_request sample_request(uint64_t n)
{
    struct fact_request rq = {.id = sample_id(n),
                              .arrived = {1790000000123456 + (int64_t)n},
                              .tenant = intern_z("acme"),
                              .key = intern_z("web"),
                              .user = "00112233445566778899aabbccddeeff",
                              .provider = intern_z("openrouter"),
                              .model = intern_z("openai/gpt-4o-mini"),
                              .requested = intern_z("chat-default"),
                              .method = intern_z("POST"),
                              .endpoint = intern_z("/v1/chat/completions"),
                              .op = (enum operation)(n % (OP_COUNT + 1)),
                              .status = (enum fact_status)(n % STATUS_COUNT),
                              .error = (enum err_code)(n % ERR_COUNT),
                              .http_status = 200,
                              .attempts = (uint8_t)(n % FACT_ATTEMPTS),
                              .is_stream = n & 1,
                              .end = (enum stream_end)(n % STREAM_END_COUNT),
                              .duration_us = 123456,
                              .ttft_us = (int64_t)n - 1,
                              .queue_us = 17,
                              .overhead_us = 130,
                              .bytes_in = UINT64_MAX,
                              .bytes_out = n,
                              .usage = sample_usage(n),
                              .cost_nanousd = 4200,
                              .is_priced = n & 1,
                              .reservation = sample_reservation(n),
                              .is_recovery = n % 3 == 0,
                              .detail = "provider 'openrouter' answered 503"};

    memset(rq.trace.b, (int)(n & 0xff), sizeof(rq.trace.b));
    return rq;
}

/* Those that sample_request(n) says it had. */
static inline void sample_attempts(uint64_t n, struct fact_attempt a[FACT_ATTEMPTS])
{
    for (unsigned i = 0; i < FACT_ATTEMPTS; i++) {
        a[i] = sample_attempt(n);
        a[i].number = (uint8_t)(i + 1);
    }
}

static inline void scratch_make(char dir[64])
{
    (void)snprintf(dir, 64, "/tmp/gatewayd-unit-XXXXXX");
    if (!mkdtemp(dir))
        abort();
}

static inline void scratch_remove(const char *dir)
{
    DIR *d = opendir(dir);

    for (struct dirent *e; d && (e = readdir(d));) {
        char path[512];
        struct stat st;

        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (!lstat(path, &st) && S_ISDIR(st.st_mode))
            scratch_remove(path);
        else
            (void)unlink(path);
    }
    if (d)
        (void)closedir(d);
    (void)rmdir(dir);
}

/* The one segment file under `dir`/w0 whose records are not all released, or whichever comes first by name.
 */
static inline size_t scratch_segments(const char *dir, char first[512])
{
    char sub[256];
    size_t n = 0;
    DIR *d;

    (void)snprintf(sub, sizeof(sub), "%s/w0", dir);
    d = opendir(sub);
    first[0] = '\0';
    for (struct dirent *e; d && (e = readdir(d));)
        if (strstr(e->d_name, ".seg") && !strstr(e->d_name, ".bad")) {
            char path[512];

            (void)snprintf(path, sizeof(path), "%s/%s", sub, e->d_name);
            if (!first[0] || strcmp(path, first) < 0)
                (void)snprintf(first, 512, "%s", path);
            n++;
        }
    if (d)
        (void)closedir(d);
    return n;
}

#endif
