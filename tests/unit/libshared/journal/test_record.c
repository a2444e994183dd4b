/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/journal/record.h"

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

static void assert_same_context(const struct fact_context *a, const struct fact_context *b)
{
    assert_memory_equal(a->request.b, b->request.b, 16);
    assert_int_equal(a->arrived.us, b->arrived.us);
    assert_int_equal(a->tenant, b->tenant);
    assert_int_equal(a->key, b->key);
    assert_int_equal(a->op, b->op);
}

static void assert_same_reservation(const struct fact_reservation *a, const struct fact_reservation *b)
{
    assert_int_equal(a->amount_nanousd, b->amount_nanousd);
    assert_int_equal(a->at.us, b->at.us);
    assert_int_equal(a->key_period, b->key_period);
    assert_int_equal(a->tenant_period, b->tenant_period);
    assert_int_equal(a->global_period, b->global_period);
    assert_ptr_equal(a->key_zone, b->key_zone);
    assert_ptr_equal(a->tenant_zone, b->tenant_zone);
    assert_ptr_equal(a->global_zone, b->global_zone);
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
    assert_int_equal(a->cycle.period, b->cycle.period);
    assert_ptr_equal(a->cycle.zone, b->cycle.zone);
}

static void assert_same_request(const struct fact_request *a, const struct fact_request *b)
{
    assert_memory_equal(a->id.b, b->id.b, 16);
    assert_memory_equal(a->trace.b, b->trace.b, 16);
    assert_int_equal(a->arrived.us, b->arrived.us);
    assert_int_equal(a->tenant, b->tenant);
    assert_int_equal(a->key, b->key);
    assert_string_equal(a->user, b->user);
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
    assert_same_reservation(&a->reservation, &b->reservation);
    assert_int_equal(a->is_recovery, b->is_recovery);
    assert_string_equal(a->detail, b->detail);
}

static void decode(unsigned type, const unsigned char *bytes, size_t len, struct journal_record *out)
{
    assert_true(len <= RECORD_PAYLOAD_MAX);
    assert_int_equal(record_decode(type, RECORD_VERSION, span_make(bytes, len), out), ERR_OK);
    assert_int_equal(out->type, type);
}

static void test_every_field_of_a_statement_comes_back(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];

    (void)state;
    for (uint64_t n = 0; n < 200; n++) {
        struct fact_open o = sample_open(n);
        struct journal_record r;

        o.number = (uint8_t)(n % 9);
        o.ended = (uint8_t)(n % 3);
        if (o.ended) {
            o.ended_usage = sample_usage(n + 7);
            o.ended_cost_nanousd = INT64_MAX - (int64_t)n;
        }
        if (n % 5 == 0)
            o.reservation = (struct fact_reservation){0};
        decode(n & 1 ? JOURNAL_RESERVE : JOURNAL_PROGRESS, bytes, record_encode_open(bytes, &o), &r);
        assert_same_context(&o.context, &r.open.context);
        assert_same_reservation(&o.reservation, &r.open.reservation);
        assert_int_equal(o.requested, r.open.requested);
        assert_int_equal(o.is_stream, r.open.is_stream);
        assert_int_equal(o.number, r.open.number);
        assert_int_equal(o.provider, r.open.provider);
        assert_int_equal(o.model, r.open.model);
        assert_int_equal(o.started_us, r.open.started_us);
        assert_same_usage(&o.usage, &r.open.usage);
        assert_int_equal(o.cost_nanousd, r.open.cost_nanousd);
        assert_int_equal(o.is_priced, r.open.is_priced);
        assert_int_equal(o.ended, r.open.ended);
        assert_same_usage(&o.ended_usage, &r.open.ended_usage);
        assert_int_equal(o.ended_cost_nanousd, r.open.ended_cost_nanousd);
    }
}

static void test_every_field_of_an_attempt_comes_back(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];

    (void)state;
    for (uint64_t n = 0; n < 200; n++) {
        struct fact_attempt a = sample_attempt(n);
        struct fact_context c = sample_context(n);
        struct journal_record r;

        decode(JOURNAL_ATTEMPT, bytes, record_encode_attempt(bytes, &c, &a), &r);
        assert_int_equal(sample_number(record_id(&r)), n);
        assert_same_context(&c, &r.attempt.context);
        assert_same_attempt(&a, &r.attempt.a);
    }
}

static void test_every_field_of_a_request_and_its_attempts_comes_back(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];

    (void)state;
    for (uint64_t n = 0; n < 200; n++) {
        struct fact_request rq = sample_request(n);
        struct fact_attempt a[FACT_ATTEMPTS];
        struct journal_record r;

        rq.attempts = (uint8_t)(n % (FACT_ATTEMPTS + 1));
        sample_attempts(n, a);
        a[n % FACT_ATTEMPTS].provider = intern_z("someone-else");
        a[(n + 1) % FACT_ATTEMPTS].model = 0;
        a[(n + 2) % FACT_ATTEMPTS].usage = sample_usage(n + 1); /* the others have the request's */
        if (n % 7 == 0)
            rq.provider = rq.model = 0;
        decode(JOURNAL_SETTLE, bytes, record_encode_settle(bytes, &rq, a), &r);
        assert_int_equal(sample_number(record_id(&r)), n);
        assert_same_request(&rq, &r.settle.rq);
        for (unsigned i = 0; i < rq.attempts; i++)
            assert_same_attempt(&a[i], &r.settle.a[i]);
    }
}

static void test_what_a_request_and_its_only_attempt_share_is_written_once(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];
    struct fact_request rq = sample_request(5);
    struct fact_attempt a[FACT_ATTEMPTS];
    size_t none, one;

    (void)state;
    sample_attempts(5, a);
    a[0].duration_us = 1000;
    a[0].cost_nanousd = 4200;
    a[0].error = a[0].retry_reason = ERR_OK;
    a[0].from_provider = 0;
    a[0].cycle.zone = NULL;
    rq.attempts = 0;
    none = record_encode_settle(bytes, &rq, a);
    rq.attempts = 1;
    one = record_encode_settle(bytes, &rq, a);
    assert_true(one - none < 24);
}

static void test_every_field_of_a_correction_comes_back(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];

    (void)state;
    for (uint64_t n = 0; n < 50; n++) {
        struct fact_adjust a = sample_adjust(n);
        struct journal_record r;

        decode(JOURNAL_ADJUST, bytes, record_encode_adjust(bytes, &a), &r);
        assert_int_equal(sample_number(record_id(&r)), n);
        assert_int_equal(r.adjust.at.us, a.at.us);
        assert_int_equal(r.adjust.tenant, a.tenant);
        assert_int_equal(r.adjust.key, a.key);
        assert_int_equal(r.adjust.provider, a.provider);
        assert_int_equal(r.adjust.model, a.model);
        assert_int_equal(r.adjust.amount_nanousd, a.amount_nanousd);
        assert_string_equal(r.adjust.who, a.who);
        assert_string_equal(r.adjust.why, a.why);
    }
}

/* Each field at its longest, so that the bounds which appending relies on are seen to hold. */
static void test_the_longest_record_of_each_type_fits(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];
    struct fact_request rq = sample_request(1);
    struct fact_attempt a[FACT_ATTEMPTS];
    struct usage most = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
                         UINT64_MAX, UINT64_MAX, UINT64_MAX, USAGE_ESTIMATED};
    struct fact_open o = sample_open(1);
    struct fact_adjust adj = sample_adjust(1);
    struct journal_record r;
    char longest[300];
    label x;

    (void)state;
    memset(longest, 'x', sizeof(longest));
    x = intern(span_make(longest, sizeof(longest)));
    rq.tenant = rq.key = rq.provider = rq.model = rq.requested = rq.method = rq.endpoint = x;
    memset(rq.detail, 'y', sizeof(rq.detail) - 1);
    rq.arrived.us = rq.duration_us = rq.ttft_us = rq.queue_us = rq.overhead_us = rq.cost_nanousd = INT64_MIN;
    rq.bytes_out = UINT64_MAX;
    rq.reservation.amount_nanousd = rq.reservation.at.us = INT64_MIN;
    rq.usage = most;
    rq.attempts = FACT_ATTEMPTS;
    longest[0] = 'z';
    x = intern(span_make(longest, sizeof(longest)));
    for (unsigned i = 0; i < FACT_ATTEMPTS; i++) {
        a[i] = sample_attempt(i);
        a[i].provider = a[i].model = a[i].from_provider = x;
        a[i].started_us = a[i].duration_us = a[i].ttft_us = a[i].cost_nanousd = INT64_MIN;
        a[i].usage = most;
        a[i].usage.source = USAGE_REPORTED;
    }
    decode(JOURNAL_SETTLE, bytes, record_encode_settle(bytes, &rq, a), &r);
    assert_same_request(&rq, &r.settle.rq);
    assert_same_attempt(&a[7], &r.settle.a[7]);
    o.context.tenant = o.context.key = o.requested = o.provider = o.model = x;
    o.context.arrived.us = o.started_us = o.cost_nanousd = o.ended_cost_nanousd = INT64_MIN;
    o.reservation = rq.reservation;
    o.usage = o.ended_usage = most;
    o.ended = 255;
    decode(JOURNAL_PROGRESS, bytes, record_encode_open(bytes, &o), &r);
    assert_same_usage(&o.ended_usage, &r.open.ended_usage);
    decode(JOURNAL_ATTEMPT, bytes, record_encode_attempt(bytes, &o.context, &a[0]), &r);
    adj.tenant = adj.key = adj.provider = adj.model = x;
    memset(adj.who, 'w', sizeof(adj.who) - 1);
    memset(adj.why, 'w', sizeof(adj.why) - 1);
    adj.amount_nanousd = adj.at.us = INT64_MIN;
    decode(JOURNAL_ADJUST, bytes, record_encode_adjust(bytes, &adj), &r);
    assert_string_equal(r.adjust.why, adj.why);
}

static size_t encode_sample(unsigned type, unsigned char *bytes)
{
    struct fact_request rq = sample_request(5);
    struct fact_attempt a[FACT_ATTEMPTS];
    struct fact_context c = sample_context(5);
    struct fact_open o = sample_open(5);
    struct fact_adjust adj = sample_adjust(5);

    sample_attempts(5, a);
    rq.attempts = 3;
    switch (type) {
    case JOURNAL_ATTEMPT:
        return record_encode_attempt(bytes, &c, a);
    case JOURNAL_SETTLE:
        return record_encode_settle(bytes, &rq, a);
    case JOURNAL_ADJUST:
        return record_encode_adjust(bytes, &adj);
    default:
        return record_encode_open(bytes, &o);
    }
}

static void test_a_payload_cut_anywhere_or_too_long_is_refused(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX + 1];
    struct journal_record r;

    (void)state;
    for (unsigned type = 1; type < JOURNAL_TYPES; type++) {
        size_t len = encode_sample(type, bytes);

        if (!record_type_name(type))
            continue;
        for (size_t n = 0; n < len; n++) {
            unsigned char *exact =
                malloc(n ? n : 1); /* so that a read past the end is seen by the sanitizer */

            memcpy(exact, bytes, n);
            assert_int_equal(record_decode(type, RECORD_VERSION, span_make(exact, n), &r), ERR_BAD_BODY);
            free(exact);
        }
        bytes[len] = 0;
        assert_int_equal(record_decode(type, RECORD_VERSION, span_make(bytes, len + 1), &r), ERR_BAD_BODY);
    }
}

static void test_types_and_versions_of_another_release_are_unsupported_not_corrupt(void **state)
{
    unsigned char bytes[RECORD_PAYLOAD_MAX];
    struct journal_record r;
    size_t len = encode_sample(JOURNAL_SETTLE, bytes);

    (void)state;
    assert_int_equal(record_decode(0, RECORD_VERSION, span_make(bytes, len), &r), ERR_UNSUPPORTED);
    assert_int_equal(record_decode(5, RECORD_VERSION, span_make(bytes, len), &r), ERR_UNSUPPORTED);
    assert_int_equal(record_decode(JOURNAL_TYPES, RECORD_VERSION, span_make(bytes, len), &r),
                     ERR_UNSUPPORTED);
    assert_int_equal(record_decode(255, RECORD_VERSION, span_make(bytes, len), &r), ERR_UNSUPPORTED);
    assert_int_equal(record_decode(JOURNAL_SETTLE, RECORD_VERSION - 2, span_make(bytes, len), &r),
                     ERR_UNSUPPORTED);
    assert_int_equal(record_decode(JOURNAL_SETTLE, RECORD_VERSION + 1, span_make(bytes, len), &r),
                     ERR_UNSUPPORTED);
}

/* Journals of the release before have no zones: what they hold is not lost with it. */
static void test_records_without_time_zones_are_read(void **state)
{
    struct fact_request rq = {.reservation = {.amount_nanousd = 7,
                                              .at = {5000000},
                                              .key_period = PERIOD_DAY,
                                              .tenant_period = PERIOD_HOUR,
                                              .global_period = PERIOD_TOTAL}};
    unsigned char bytes[RECORD_SETTLE_MAX(0)], old[RECORD_SETTLE_MAX(0)];
    struct journal_record r;
    size_t len = record_encode_settle(bytes, &rq, NULL), n = 0;

    (void)state;
    for (size_t i = 0; i < len; i++) /* behind each of the three periods an empty zone */
        if (i != len - 1 && i != len - 3 && i != len - 5)
            old[n++] = bytes[i];
    assert_int_equal(n, len - 3);
    assert_int_equal(record_decode(JOURNAL_SETTLE, 2, span_make(old, n), &r), ERR_OK);
    assert_int_equal(r.settle.rq.reservation.key_period, PERIOD_DAY);
    assert_int_equal(r.settle.rq.reservation.tenant_period, PERIOD_HOUR);
    assert_int_equal(r.settle.rq.reservation.global_period, PERIOD_TOTAL);
    assert_int_equal(record_decode(JOURNAL_SETTLE, 3, span_make(old, n), &r), ERR_BAD_BODY);
}

static void test_random_payloads_never_read_outside(void **state)
{
    struct journal_record r;

    (void)state;
    srand(7);
    for (int i = 0; i < 30000; i++) {
        size_t n = (size_t)rand() % 400;
        unsigned char *p = malloc(n ? n : 1);

        for (size_t k = 0; k < n; k++)
            p[k] = (unsigned char)(rand() % 3 ? rand() % 8 : rand() % 256);
        if (record_decode((unsigned)i % JOURNAL_TYPES, RECORD_VERSION, span_make(p, n), &r) == ERR_OK)
            (void)record_time(&r);
        free(p);
    }
}

static void test_the_time_of_a_record_is_the_latest_moment_it_speaks_of(void **state)
{
    struct journal_record r = {.type = JOURNAL_ATTEMPT};

    (void)state;
    r.attempt.context.arrived.us = 1000;
    r.attempt.a.started_us = 10;
    r.attempt.a.duration_us = 5;
    assert_int_equal(record_time(&r).us, 1015);
    r.attempt.a.duration_us = INT64_MAX; /* no such time */
    assert_int_equal(record_time(&r).us, 1010);
    r = (struct journal_record){.type = JOURNAL_PROGRESS};
    r.open.context.arrived.us = 1000;
    r.open.started_us = -7;
    assert_int_equal(record_time(&r).us, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_of_a_statement_comes_back),
        cmocka_unit_test(test_every_field_of_an_attempt_comes_back),
        cmocka_unit_test(test_every_field_of_a_request_and_its_attempts_comes_back),
        cmocka_unit_test(test_what_a_request_and_its_only_attempt_share_is_written_once),
        cmocka_unit_test(test_every_field_of_a_correction_comes_back),
        cmocka_unit_test(test_the_longest_record_of_each_type_fits),
        cmocka_unit_test(test_a_payload_cut_anywhere_or_too_long_is_refused),
        cmocka_unit_test(test_types_and_versions_of_another_release_are_unsupported_not_corrupt),
        cmocka_unit_test(test_records_without_time_zones_are_read),
        cmocka_unit_test(test_random_payloads_never_read_outside),
        cmocka_unit_test(test_the_time_of_a_record_is_the_latest_moment_it_speaks_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
