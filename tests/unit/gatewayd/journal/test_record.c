/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/journal/record_priv.h"

#include "tests/unit/gatewayd/journal/facts_sample.h"

#include "tests/unit/cm.h"

/* Field by field, since padding bytes may differ. */
static void assert_same_usage(const struct usage *a, const struct usage *b)
{
    assert_int_equal(a->input, b->input);
    assert_int_equal(a->cached, b->cached);
    assert_int_equal(a->cache_write, b->cache_write);
    assert_int_equal(a->output, b->output);
    assert_int_equal(a->reasoning, b->reasoning);
    assert_int_equal(a->images, b->images);
    assert_int_equal(a->searches, b->searches);
    assert_int_equal(a->source, b->source);
}

static void assert_same_attempt(const struct fact_attempt *a, const struct fact_attempt *b)
{
    assert_int_equal(a->provider, b->provider);
    assert_int_equal(a->model, b->model);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->error, b->error);
    assert_int_equal(a->http_status, b->http_status);
    assert_int_equal(a->number, b->number);
    assert_int_equal(a->is_stream, b->is_stream);
    assert_int_equal(a->end, b->end);
    assert_int_equal(a->from_provider, b->from_provider);
    assert_int_equal(a->retry_reason, b->retry_reason);
    assert_int_equal(a->started_us, b->started_us);
    assert_int_equal(a->duration_us, b->duration_us);
    assert_int_equal(a->ttft_us, b->ttft_us);
    assert_same_usage(&a->usage, &b->usage);
    assert_int_equal(a->cost_nanousd, b->cost_nanousd);
    assert_int_equal(a->is_priced, b->is_priced);
}

static void assert_same_request(const struct fact_request *a, const struct fact_request *b)
{
    assert_memory_equal(a->id.b, b->id.b, 16);
    assert_memory_equal(a->trace.b, b->trace.b, 16);
    assert_int_equal(a->arrived.us, b->arrived.us);
    assert_int_equal(a->tenant, b->tenant);
    assert_int_equal(a->key, b->key);
    assert_int_equal(a->user, b->user);
    assert_int_equal(a->provider, b->provider);
    assert_int_equal(a->model, b->model);
    assert_int_equal(a->requested, b->requested);
    assert_int_equal(a->method, b->method);
    assert_int_equal(a->endpoint, b->endpoint);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->error, b->error);
    assert_int_equal(a->http_status, b->http_status);
    assert_int_equal(a->attempts, b->attempts);
    assert_int_equal(a->is_stream, b->is_stream);
    assert_int_equal(a->end, b->end);
    assert_int_equal(a->duration_us, b->duration_us);
    assert_int_equal(a->ttft_us, b->ttft_us);
    assert_int_equal(a->queue_us, b->queue_us);
    assert_int_equal(a->overhead_us, b->overhead_us);
    assert_int_equal(a->bytes_in, b->bytes_in);
    assert_int_equal(a->bytes_out, b->bytes_out);
    assert_same_usage(&a->usage, &b->usage);
    assert_int_equal(a->cost_nanousd, b->cost_nanousd);
    assert_int_equal(a->is_priced, b->is_priced);
    assert_string_equal(a->detail, b->detail);
}

static void test_every_field_of_an_attempt_comes_back(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];

    (void)state;
    for (uint64_t n = 0; n < 200; n++) {
        struct fact_attempt a = sample_attempt(n);
        struct id id = sample_id(n);
        struct journal_record r;
        size_t len = record_encode_attempt(bytes, &id, intern_z("acme"), intern_z("web"), &a);

        assert_int_equal(record_decode(JOURNAL_ATTEMPT, RECORD_VERSION, span_make(bytes, len), &r), ERR_OK);
        assert_int_equal(r.type, JOURNAL_ATTEMPT);
        assert_int_equal(sample_number(&r.request), n);
        assert_int_equal(r.attempt.tenant, intern_z("acme"));
        assert_int_equal(r.attempt.key, intern_z("web"));
        assert_same_attempt(&a, &r.attempt.a);
    }
}

static void test_every_field_of_a_request_comes_back(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];

    (void)state;
    for (uint64_t n = 0; n < 200; n++) {
        struct fact_request rq = sample_request(n);
        struct journal_record r;
        size_t len = record_encode_settle(bytes, &rq);

        assert_int_equal(record_decode(JOURNAL_SETTLE, RECORD_VERSION, span_make(bytes, len), &r), ERR_OK);
        assert_int_equal(r.type, JOURNAL_SETTLE);
        assert_int_equal(sample_number(&r.request), n);
        assert_same_request(&rq, &r.rq);
    }
}

static void test_the_longest_labels_and_detail_fit(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];
    struct fact_request rq = sample_request(1);
    struct journal_record r;
    char longest[300];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    rq.tenant = rq.key = rq.user = rq.provider = rq.model = rq.requested = rq.method = rq.endpoint =
        intern(span_make(longest, sizeof(longest)));
    memset(rq.detail, 'y', sizeof(rq.detail) - 1);
    assert_int_equal(
        record_decode(JOURNAL_SETTLE, RECORD_VERSION, span_make(bytes, record_encode_settle(bytes, &rq)), &r),
        ERR_OK);
    assert_same_request(&rq, &r.rq);
}

static void test_a_payload_cut_anywhere_or_too_long_is_refused(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];
    struct fact_request rq = sample_request(5);
    struct fact_attempt a = sample_attempt(5);
    struct journal_record r;
    size_t len = record_encode_settle(bytes, &rq);

    (void)state;
    for (size_t n = 0; n < len; n++) {
        unsigned char *exact = malloc(n ? n : 1); /* so that a read past the end is seen by the sanitizer */

        memcpy(exact, bytes, n);
        assert_int_equal(record_decode(JOURNAL_SETTLE, RECORD_VERSION, span_make(exact, n), &r),
                         ERR_BAD_BODY);
        free(exact);
    }
    bytes[len] = 0;
    assert_int_equal(record_decode(JOURNAL_SETTLE, RECORD_VERSION, span_make(bytes, len + 1), &r),
                     ERR_BAD_BODY);
    len = record_encode_attempt(bytes, &rq.id, rq.tenant, rq.key, &a);
    for (size_t n = 0; n < len; n++)
        assert_int_equal(record_decode(JOURNAL_ATTEMPT, RECORD_VERSION, span_make(bytes, n), &r),
                         ERR_BAD_BODY);
}

static void test_types_and_versions_of_another_release_are_unsupported_not_corrupt(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];
    struct fact_request rq = sample_request(5);
    struct journal_record r;
    size_t len = record_encode_settle(bytes, &rq);

    (void)state;
    assert_int_equal(record_decode(JOURNAL_RESERVE, RECORD_VERSION, span_make(bytes, len), &r),
                     ERR_UNSUPPORTED);
    assert_int_equal(record_decode(JOURNAL_SETTLE, RECORD_VERSION + 1, span_make(bytes, len), &r),
                     ERR_UNSUPPORTED);
}

static void test_random_payloads_never_read_outside(void **state)
{
    struct journal_record r;

    (void)state;
    srand(7);
    for (int i = 0; i < 20000; i++) {
        size_t n = (size_t)rand() % 400;
        unsigned char *p = malloc(n ? n : 1);

        for (size_t k = 0; k < n; k++)
            p[k] = (unsigned char)(rand() % 3 ? rand() % 8 : rand() % 256);
        (void)record_decode(i & 1 ? JOURNAL_SETTLE : JOURNAL_ATTEMPT, RECORD_VERSION, span_make(p, n), &r);
        free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_of_an_attempt_comes_back),
        cmocka_unit_test(test_every_field_of_a_request_comes_back),
        cmocka_unit_test(test_the_longest_labels_and_detail_fit),
        cmocka_unit_test(test_a_payload_cut_anywhere_or_too_long_is_refused),
        cmocka_unit_test(test_types_and_versions_of_another_release_are_unsupported_not_corrupt),
        cmocka_unit_test(test_random_payloads_never_read_outside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
