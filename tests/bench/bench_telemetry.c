/* SPDX-License-Identifier: Apache-2.0 */
/* What a request costs in fact cells, and a scrape with many series.
 *   bench_telemetry [LINES]      figures
 *   bench_telemetry --print 004|openmetrics [LINES]   the exposition itself, for promtool and parsers */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "gatewayd/telemetry/exposition.h"
#include "libshared/catalog/metrics.h"

static label numbered(const char *prefix, unsigned i)
{
    char text[32];

    return intern(span_make(text, (size_t)snprintf(text, sizeof(text), "%s-%u", prefix, i)));
}

static void make(struct fact_request *rq, struct fact_attempt *a, unsigned tenant, unsigned model,
                 unsigned seed)
{
    *rq = (struct fact_request){
        .arrived = wall_now(),
        .tenant = numbered("tenant", tenant),
        .provider = intern_z("openrouter"),
        .model = numbered("vendor/model", model),
        .requested = intern_z("chat-default"),
        .method = intern_z("POST"),
        .endpoint = intern_z("/v1/chat/completions"),
        .op = OP_CHAT,
        .http_status = 200,
        .attempts = 1,
        .duration_us = 1000 + (int64_t)(seed * 7919u % 3000000),
        .ttft_us = -1,
    };
    memset(rq->trace.b, (int)(seed | 1), sizeof(rq->trace.b));
    *a = (struct fact_attempt){
        .provider = rq->provider,
        .model = rq->model,
        .http_status = 200,
        .number = 1,
        .is_stream = seed % 2,
        .end = seed % 2 ? STREAM_COMPLETE : STREAM_NONE,
        .duration_us = rq->duration_us,
        .ttft_us = seed % 2 ? rq->duration_us / 3 : -1,
        .usage = {.input = 100 + seed % 50, .output = 20 + seed % 9, .source = USAGE_REPORTED},
        .cost_nanousd = 12345,
        .is_priced = true,
    };
}

/* CPU time of this thread: a busy machine does not count. */
static int64_t cpu_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static double ms_since(int64_t start_ns)
{
    return (double)(cpu_ns() - start_ns) / 1e6;
}

static void bench_add(struct facts *f)
{
    enum { N = 2000000, KEYS = 64 };
    static struct fact_request rq[KEYS];
    static struct fact_attempt a[KEYS];
    int64_t start;

    for (unsigned i = 0; i < KEYS; i++)
        make(&rq[i], &a[i], i % 8, i % 5, i * 31);
    for (unsigned i = 0; i < KEYS; i++)
        facts_add(f, &rq[i], &a[i]);
    start = cpu_ns();
    for (unsigned i = 0; i < N; i++)
        facts_add(f, &rq[i % KEYS], &a[i % KEYS]);
    (void)printf("facts_add            %8.1f ns a request (half of them streams)\n",
                 ms_since(start) * 1e6 / N);
}

static size_t count_lines(const struct buf *b)
{
    size_t n = 0;

    for (const char *p = b->p; p < b->p + b->len; p++)
        n += *p == '\n' && p[1] != '#';
    return n;
}

static void add_pair(struct facts *const *f, unsigned tenant, unsigned model)
{
    for (unsigned w = 0; w < 2; w++) {
        struct fact_request rq;
        struct fact_attempt a;

        make(&rq, &a, tenant, model, tenant * 131 + model * 17 + w);
        facts_add(f[w], &rq, &a);
    }
}

/* About 14 lines for each pair of tenant and model, 85 for each model; half of the lines from either. */
static void fill(struct facts *const *f, unsigned lines)
{
    for (unsigned i = 0; i < lines / 2 / 14; i++)
        add_pair(f, i / 20, i % 20);
    for (unsigned m = 20; m < lines / 2 / 90; m++)
        add_pair(f, 0, m);
}

int main(int argc, char **argv)
{
    bool is_print = argc > 2 && strcmp(argv[1], "--print") == 0;
    enum exposition_format format =
        is_print && strcmp(argv[2], "openmetrics") == 0 ? EXPOSITION_OPENMETRICS : EXPOSITION_TEXT_004;
    const char *lines = is_print ? (argc > 3 ? argv[3] : "2000") : argc > 1 ? argv[1] : "100000";
    unsigned want = (unsigned)strtoul(lines, NULL, 10);
    struct facts *f[2] = {facts_new(NULL), facts_new(NULL)};
    static const struct store_tally none;
    struct metrics_state state = {.started = wall_now(),
                                  .version = "0",
                                  .revision = "bench",
                                  .n_workers = 2,
                                  .profiles = METRIC_PROFILES_DEFAULT,
                                  .tally = &none};
    struct buf out = {0};
    struct rusage ru;

    if (!f[0] || !f[1])
        return 1;
    facts_limit_series(want * 2);
    state.now = wall_now();
    if (!is_print)
        bench_add(f[0]);
    fill(f, want);
    for (int i = 0; i < (is_print ? 1 : 9); i++) {
        int64_t start = cpu_ns();

        buf_clear(&out);
        exposition_render(&out, i % 2 ? EXPOSITION_OPENMETRICS : format, f, 2, &state);
        if (!is_print)
            (void)printf("exposition %-11s %7.1f ms, %zu series, %.1f MB\n",
                         i % 2 ? "openmetrics" : "text 0.0.4", ms_since(start), count_lines(&out),
                         (double)out.len / 1e6);
    }
    if (is_print)
        (void)fwrite(out.p, 1, out.len, stdout);
    (void)getrusage(RUSAGE_SELF, &ru);
    if (!is_print)
        (void)printf("peak RSS             %8.1f MiB\n", (double)ru.ru_maxrss / 1024);
    buf_release(&out);
    facts_free(f[0]);
    facts_free(f[1]);
    return 0;
}
