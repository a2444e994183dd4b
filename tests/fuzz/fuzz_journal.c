/* SPDX-License-Identifier: Apache-2.0 */
/* Payloads of journal records: whatever the bytes, decoding stays inside them; and what was understood is understood the
 * same way once more after it was written again. The first byte of the input is the type. */
#include <string.h>

#include "libshared/journal/record.h"
#include "tests/fuzz/must.h"

static size_t encode(unsigned char *dst, const struct journal_record *r)
{
    switch (r->type) {
    case JOURNAL_ATTEMPT:
        return record_encode_attempt(dst, &r->attempt.context, &r->attempt.a);
    case JOURNAL_SETTLE:
        return record_encode_settle(dst, &r->settle.rq, r->settle.a);
    case JOURNAL_ADJUST:
        return record_encode_adjust(dst, &r->adjust);
    default:
        return record_encode_open(dst, &r->open);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char first[RECORD_PAYLOAD_MAX], second[RECORD_PAYLOAD_MAX];
    struct journal_record r;
    size_t n, m;

    if (!size || record_decode(data[0], RECORD_VERSION, span_make(data + 1, size - 1), &r))
        return 0;
    n = encode(first, &r);
    MUST(n <= sizeof(first));
    MUST(record_decode(data[0], RECORD_VERSION, span_make(first, n), &r) == ERR_OK);
    m = encode(second, &r);
    MUST(n == m && memcmp(first, second, n) == 0);
    return 0;
}
