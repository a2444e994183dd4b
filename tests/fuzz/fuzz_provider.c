/* SPDX-License-Identifier: Apache-2.0 */
/* Everything a provider may say. Input: a byte that picks dialect and operation, then lines that are fed as
 * events
 * ("type TAB data"), the whole once more as a body, as an error answer and as every header that judging
 * reads. */
#include <stdlib.h>

#include "gatewayd/provider/provider.h"
#include "libshared/base/err.h"

#define MUST(claim)                                                                                          \
    do                                                                                                       \
        if (!(claim))                                                                                        \
            abort();                                                                                         \
    while (0)

#define DAY_MS 86400000

static void check_answer(const struct answer *a)
{
    MUST(memchr(a->error_text, '\0', sizeof(a->error_text)));
    MUST(memchr(a->finish, '\0', sizeof(a->finish)));
    MUST(memchr(a->model, '\0', sizeof(a->model)));
    MUST((a->end == ANSWER_ERROR) == (a->error != ERR_OK));
    MUST(a->end != ANSWER_ERROR || a->error_text[0]);
}

static void feed_events(const struct provider_ops *ops, enum operation op, struct span rest)
{
    struct answer a = {0};

    while (rest.len) {
        struct span data = span_split(&rest, '\n');
        struct span type = memchr(data.p, '\t', data.len) ? span_split(&data, '\t') : (struct span){NULL, 0};
        enum answer_end before = a.end;
        uint64_t chars = a.output_chars;

        (void)ops->decode_event(&a, op, type, data);
        check_answer(&a);
        MUST(before != ANSWER_ERROR || a.end == ANSWER_ERROR); /* nothing undoes an error */
        MUST(before != ANSWER_DONE || a.end != ANSWER_OPEN);
        MUST(a.output_chars >= chars && a.output_chars - chars <= data.len * 2);
    }
}

static void feed_body(const struct provider_ops *ops, enum operation op, struct span body,
                      struct span content_type)
{
    struct answer a = {0};

    ops->decode_body(&a, op, content_type, body);
    check_answer(&a);
    MUST(a.end != ANSWER_OPEN);
}

static void feed_refusal(const struct provider_ops *ops, int status, struct span text)
{
    struct answer_headers h = {.retry_after = text, .ratelimit_reset = text, .should_retry = text};
    struct failure f = ops->classify(status, &h, text, 1700000000);

    MUST(f.code != ERR_OK && f.code < ERR_COUNT);
    MUST(f.retry_after_ms >= -1 && f.retry_after_ms <= DAY_MS);
    MUST(memchr(f.reason, '\0', sizeof(f.reason)));
    h.retry_after_ms = text;
    f = ops->classify(status, &h, text, 1700000000);
    MUST(f.retry_after_ms >= -1 && f.retry_after_ms <= DAY_MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const int STATUSES[] = {302, 400, 401, 402, 403, 404, 408, 409, 413, 429, 500, 503, 529, 599};
    const struct provider_ops *ops;
    struct span text;
    enum operation op;

    if (!size)
        return 0;
    ops = provider_ops_find(provider_kinds()[bytes[0] & 1]);
    op = (enum operation)((bytes[0] >> 1) % OP_COUNT);
    text = span_make(bytes + 1, size - 1);
    feed_events(ops, op, text);
    feed_body(ops, op, text, SPAN_LIT("application/json"));
    feed_body(ops, op, text, text);
    feed_refusal(ops, STATUSES[bytes[0] % ARRAY_LEN(STATUSES)], text);
    return 0;
}
