/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the parsers of the request path go, in CPU time of this thread: best of several rounds. Not a
 * test; run build/bench/bench_parsers by hand when a scanner changes. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gatewayd/http/sse.h"
#include "libshared/base/buf.h"
#include "libshared/json/json.h"

#define ROUNDS    7
#define ROUND_SEC 0.15

static double cpu_seconds(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void measure(const char *what, const char *on, struct span text, void (*fn)(struct span))
{
    double best = 1e9;

    for (int round = 0; round < ROUNDS; round++) {
        double from = cpu_seconds(), took = 0;
        unsigned n = 0;

        while (took < ROUND_SEC) {
            for (int i = 0; i < 16; i++)
                fn(text);
            n += 16;
            took = cpu_seconds() - from;
        }
        if (took / n < best)
            best = took / n;
    }
    (void)printf("%-12s %-28s %9zu B %10.0f ns %7.2f GB/s\n", what, on, text.len, best * 1e9,
                 (double)text.len / best / 1e9);
}

static void run_check(struct span text)
{
    static const struct json_limits limits = {64, 200000, 256};

    if (json_check(text, &limits, NULL))
        abort();
}

static void run_members(struct span text)
{
    struct json_walk w;
    struct json_member m;
    size_t n = 0;

    if (!json_walk(&w, text))
        abort();
    while (json_next(&w, &m))
        n += m.value.raw.len;
    if (w.bad || !n)
        abort();
}

static void chat_body(struct buf *b, const char *sentence, unsigned messages, unsigned sentences)
{
    buf_addz(
        b, "{\"model\":\"gpt-4o-mini\",\"stream\":true,\"temperature\":0.7,\"max_tokens\":512,\"messages\":["
           "{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"}");
    for (unsigned i = 0; i < messages; i++) {
        buf_addf(b, ",{\"role\":\"%s\",\"content\":\"", i % 2 ? "assistant" : "user");
        for (unsigned k = 0; k < sentences; k++)
            buf_addz(b, sentence);
        buf_addz(b, "\"}");
    }
    buf_addz(b, "],\"stream_options\":{\"include_usage\":true}}");
}

static void bench_json(void)
{
    static const char ENGLISH[] =
        "The quick brown fox jumps over the lazy dog, and then it \\\"rests\\\" a while.\\n";
    static const char CYRILLIC[] =
        "\xd0\x91\xd1\x8b\xd1\x81\xd1\x82\xd1\x80\xd0\xb0\xd1\x8f \xd0\xbb\xd0\xb8\xd1\x81\xd0\xb0. ";
    static const char CHINESE[] =
        "\xe6\x95\x8f\xe6\x8d\xb7\xe7\x9a\x84\xe6\xa3\x95\xe8\x89\xb2\xe7\x8b\x90\xe7\x8b\xb8\xe3\x80\x82";
    static const struct {
        const char *name, *sentence;
        unsigned messages, sentences;
    } BODIES[] = {
        {"chat, one question", ENGLISH, 1, 1},    {"chat, 6 turns", ENGLISH, 6, 8},
        {"chat, 20 long turns", ENGLISH, 20, 60}, {"chat, Cyrillic", CYRILLIC, 6, 40},
        {"chat, Chinese", CHINESE, 6, 40},        {"chat, 1000 tiny turns", "ok", 1000, 1},
    };

    for (size_t i = 0; i < ARRAY_LEN(BODIES); i++) {
        struct buf b AUTO(buf_release) = {0};

        chat_body(&b, BODIES[i].sentence, BODIES[i].messages, BODIES[i].sentences);
        measure("json_check", BODIES[i].name, buf_span(&b), run_check);
        measure("json_next", BODIES[i].name, buf_span(&b), run_members);
    }
}

static size_t slice_bytes; /* of one fed chunk */

static void run_events(struct span text)
{
    struct sse s;
    struct sse_event ev;
    size_t n = 0;

    sse_init(&s, 1 << 20, 16 << 20);
    for (size_t at = 0; at < text.len; at += slice_bytes) {
        size_t len = text.len - at < slice_bytes ? text.len - at : slice_bytes;

        if (sse_feed(&s, span_make(text.p + at, len)))
            abort();
        while (sse_next(&s, &ev) == SSE_EVENT)
            n += ev.data.len;
    }
    if (!n)
        abort();
    sse_release(&s);
}

static void bench_sse(void)
{
    static const size_t SLICES[] = {1, 7, 100, 1400, 16384};
    struct buf b AUTO(buf_release) = {0};

    for (int i = 0; i < 500; i++)
        buf_addf(&b,
                 "data: {\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                 "\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word%d\"},"
                 "\"finish_reason\":null}]}\n\n",
                 i);
    for (size_t i = 0; i < ARRAY_LEN(SLICES); i++) {
        char on[64];

        slice_bytes = SLICES[i];
        (void)snprintf(on, sizeof(on), "500 deltas in %zu B slices", slice_bytes);
        measure("sse", on, buf_span(&b), run_events);
    }
}

int main(void)
{
    bench_json();
    bench_sse();
    return 0;
}
