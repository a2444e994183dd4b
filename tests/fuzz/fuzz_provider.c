/* SPDX-License-Identifier: Apache-2.0 */
/* Everything a provider may say: the same bytes as a stream, as a body and as a refusal, through every dialect. The first
 * byte of the input chooses the operation ('a' is the first); the first line after it also serves as the
 * value of the headers that are judged. */
#include <string.h>

#include "gatewayd/http/sse.h"
#include "gatewayd/provider/provider.h"
#include "tests/fuzz/must.h"

#define DAY_MS 86400000

static void must_be_sane(const struct answer *a)
{
    MUST(memchr(a->error_text, '\0', sizeof(a->error_text)));
    MUST(memchr(a->finish, '\0', sizeof(a->finish)));
    MUST(memchr(a->model, '\0', sizeof(a->model)));
    MUST(a->usage.source == USAGE_NONE || a->usage.source == USAGE_REPORTED);
    MUST((a->end == ANSWER_ERROR) == (a->error != ERR_OK) && a->error < ERR_COUNT);
    MUST(a->end != ANSWER_ERROR || a->error_text[0]);
}

static struct answer decode_stream(const struct provider_ops *ops, enum operation op, struct span text)
{
    struct answer a;
    struct sse s;
    struct sse_event ev;

    memset(&a, 0, sizeof(a)); /* padding too: answers are compared byte by byte */
    sse_init(&s, 1 << 16, 1 << 17);
    MUST(sse_feed(&s, text) == ERR_OK);
    while (sse_next(&s, &ev) == SSE_EVENT) {
        struct answer before = a;
        struct event_view view = ops->decode_event(&a, op, ev.type, ev.data);

        must_be_sane(&a);
        MUST(before.end == ANSWER_OPEN || a.end != ANSWER_OPEN); /* an end is not taken back */
        MUST(before.end != ANSWER_ERROR || a.end == ANSWER_ERROR);
        MUST(a.output_chars >= before.output_chars && a.output_chars - before.output_chars <= ev.data.len);
        MUST(!(view.is_usage_only && view.has_content));
    }
    sse_release(&s);
    return a;
}

static struct answer decode_body(const struct provider_ops *ops, enum operation op, struct span type,
                                 struct span body)
{
    struct answer a;

    memset(&a, 0, sizeof(a));
    ops->decode_body(&a, op, type, body);
    must_be_sane(&a);
    MUST(a.end != ANSWER_OPEN);
    return a;
}

static void must_be_sane_failure(const struct failure *f)
{
    MUST(f->code != ERR_OK && f->code < ERR_COUNT);
    MUST(f->retry_after_ms >= -1 && f->retry_after_ms <= DAY_MS);
    MUST(memchr(f->reason, '\0', sizeof(f->reason)));
}

static void classify(const struct provider_ops *ops, struct span text)
{
    static const int STATUSES[] = {301, 400, 401, 402, 403, 404, 408, 409, 413,
                                   422, 429, 499, 500, 503, 504, 529, 599};
    struct span rest = text, line = span_split(&rest, '\n');

    for (size_t i = 0; i < ARRAY_LEN(STATUSES); i++) {
        struct answer_headers h = {.retry_after = line, .ratelimit_reset = line, .should_retry = line};
        struct failure f = ops->classify(STATUSES[i], &h, text, 1700000000);

        must_be_sane_failure(&f);
        h.retry_after_ms = line;
        f = ops->classify(STATUSES[i], &h, text, 1700000000);
        must_be_sane_failure(&f);
    }
}

static void decode_all(const struct provider_ops *ops, enum operation op, struct span text)
{
    struct answer once = decode_stream(ops, op, text), again = decode_stream(ops, op, text);

    MUST(memcmp(&once, &again, sizeof(once)) == 0);
    once = decode_body(ops, op, SPAN_LIT("application/json"), text);
    again = decode_body(ops, op, SPAN_LIT("application/json"), text);
    MUST(memcmp(&once, &again, sizeof(once)) == 0);
    (void)decode_body(ops, op, text, text);
    classify(ops, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum operation op;

    if (size < 1 || size > 1 << 16)
        return 0;
    op = (enum operation)((unsigned)(data[0] - 'a') % OP_COUNT);
    for (const char *const *kind = provider_kinds(); *kind; kind++)
        decode_all(provider_ops_find(*kind), op, span_make(data + 1, size - 1));
    return 0;
}
