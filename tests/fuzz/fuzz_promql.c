/* SPDX-License-Identifier: Apache-2.0 */
/* PromQL of any bytes: nothing is read outside them, and what is valid stays valid, with the same metrics, once every selector
 * got another matcher. */
#include "libshared/catalog/promql.h"
#include "tests/fuzz/must.h"

static void add(struct span name, void *ctx)
{
    buf_addf(ctx, "%.*s ", (int)name.len, name.p);
}

static const char *more(struct span name, void *ctx)
{
    (void)name;
    (void)ctx;
    return "job=~\"$job\"";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_make(data, size);
    struct buf narrowed = {0}, before = {0}, after = {0};
    bool is_valid = promql_check(text, NULL) == ERR_OK;

    promql_metrics(text, add, &before);
    promql_narrow(&narrowed, text, more, NULL);
    if (is_valid) {
        MUST(promql_check(buf_span(&narrowed), NULL) == ERR_OK);
        promql_metrics(buf_span(&narrowed), add, &after);
        MUST(span_eq(buf_span(&before), buf_span(&after)));
    }
    buf_release(&narrowed);
    buf_release(&before);
    buf_release(&after);
    return 0;
}
