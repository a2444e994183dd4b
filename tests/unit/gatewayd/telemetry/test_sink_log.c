/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/telemetry/sink_log.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>

#include "tests/unit/gatewayd/journal/facts_sample.h"

#include "tests/unit/cm.h"

static char dir[64], path[96];

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    (void)snprintf(path, sizeof(path), "%s/access.log", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

/* The parser has no unsigned 64-bit integers. */
static struct fact_request request(uint64_t n)
{
    struct fact_request rq = sample_request(n);

    rq.bytes_in = 1000 + n;
    rq.is_recovery = false;
    return rq;
}

static json_t *line_of(const struct recorded *r)
{
    struct buf b AUTO(buf_release) = {0};
    json_error_t why;
    json_t *o;

    sink_log_format(&b, r);
    assert_null(memchr(b.p, '\n', b.len));
    o = json_loadb(b.p, b.len, JSON_REJECT_DUPLICATES, &why);
    if (!o)
        fail_msg("%s: %s", why.text, b.p);
    return o;
}

static void assert_text(json_t *o, const char *name, const char *want)
{
    const char *got = json_string_value(json_object_get(o, name));

    if (!got || strcmp(got, want) != 0)
        fail_msg("%s is '%s', not '%s'", name, got ? got : "(none)", want);
}

static void test_a_line_says_what_happened_with_its_attempts(void **state)
{
    struct fact_request rq = request(9);
    struct fact_attempt a[2] = {sample_attempt(1), sample_attempt(2)};
    struct recorded r = {.rq = &rq, .a = a, .n = 2};
    json_t *o, *second;

    (void)state;
    rq.op = OP_CHAT;
    rq.status = STATUS_SUCCESS;
    rq.error = ERR_OK;
    rq.end = STREAM_COMPLETE;
    rq.cost_nanousd = 4200;
    a[1].retry_reason = ERR_UP_SERVER;
    o = line_of(&r);
    assert_text(o, "tenant", "acme");
    assert_text(o, "key", "web");
    assert_text(o, "operation", "chat");
    assert_text(o, "endpoint", "/v1/chat/completions");
    assert_text(o, "model", "chat-default");
    assert_text(o, "upstream_model", "openai/gpt-4o-mini");
    assert_text(o, "status", "success");
    assert_text(o, "stream_end", "complete");
    assert_text(o, "cost_usd", "0.0000042");
    assert_text(o, "trace_id", "09090909090909090909090909090909");
    assert_true(json_is_null(json_object_get(o, "error")));
    assert_int_equal(json_integer_value(json_object_get(o, "cost_nanousd")), 4200);
    assert_int_equal(strlen(json_string_value(json_object_get(o, "id"))), 36);
    assert_true(json_real_value(json_object_get(o, "duration_ms")) == 123.456);
    assert_null(json_object_get(o, "recovered"));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "usage"), "output")), 13);
    assert_text(json_object_get(o, "usage"), "source", "none");
    assert_int_equal(json_array_size(json_object_get(o, "attempts")), 2);
    second = json_array_get(json_object_get(o, "attempts"), 1);
    assert_text(second, "from_provider", "anthropic");
    assert_text(second, "retry_reason", "upstream_error");
    assert_true(json_is_null(json_object_get(second, "ttft_ms")));
    json_decref(o);
}

static void test_money_is_exact_text(void **state)
{
    static const struct {
        int64_t nano;
        const char *text;
    } CASES[] = {{0, "0"},
                 {1, "0.000000001"},
                 {1500000000, "1.5"},
                 {-20, "-0.00000002"},
                 {10000000000, "10"},
                 {INT64_MAX, "9223372036.854775807"},
                 {INT64_MIN, "-9223372036.854775808"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct fact_request rq = request(0);
        json_t *o;

        rq.cost_nanousd = CASES[i].nano;
        o = line_of(&(struct recorded){.rq = &rq});
        assert_text(o, "cost_usd", CASES[i].text);
        assert_true(json_integer_value(json_object_get(o, "cost_nanousd")) == CASES[i].nano);
        json_decref(o);
    }
}

static void test_hostile_text_stays_one_line_of_json(void **state)
{
    struct fact_request rq = request(0);
    json_t *o;

    (void)state;
    rq.tenant = intern_z("a\"b\\c\nd\x1b[31m\x7f \xff\xfe");
    (void)snprintf(rq.detail, sizeof(rq.detail), "%s", "line1\r\nline2\t\"quoted\" \xc3\x28");
    o = line_of(&(struct recorded){.rq = &rq});
    assert_non_null(strstr(json_string_value(json_object_get(o, "detail")), "line1\r\nline2"));
    json_decref(o);
}

static void test_a_request_that_recovery_ended_says_so(void **state)
{
    struct fact_request rq = request(3);
    struct fact_attempt a = sample_attempt(1);
    json_t *o;

    (void)state;
    rq.is_recovery = true;
    o = line_of(&(struct recorded){.rq = &rq, .a = &a, .n = 1});
    assert_true(json_is_true(json_object_get(o, "unsettled")));
    assert_true(json_is_true(json_object_get(o, "recovered")));
    assert_int_equal(json_array_size(json_object_get(o, "attempts")), 1);
    json_decref(o);
    rq.is_recovery = false;
    o = line_of(&(struct recorded){.rq = &rq, .a = &a, .n = 1, .is_recovered = true});
    assert_null(json_object_get(o, "unsettled"));
    assert_true(json_is_true(json_object_get(o, "recovered")));
    json_decref(o);
}

static size_t count_lines(const char *file)
{
    FILE *f = fopen(file, "re");
    char line[8192];
    size_t n = 0;

    while (f && fgets(line, sizeof(line), f)) {
        json_t *o = json_loads(line, 0, NULL);

        assert_non_null(o);
        json_decref(o);
        n++;
    }
    if (f)
        (void)fclose(f);
    return n;
}

static void write_lines(void *log, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n < to; n++) {
        struct fact_request rq = request(n);

        SINK_LOG.request(log, &(struct recorded){.rq = &rq});
    }
}

static void flush_until_safe(void *log)
{
    for (int i = 0; i < 100 && !SINK_LOG.flush(log); i++)
        ;
    assert_true(SINK_LOG.flush(log));
}

static void test_lines_reach_a_private_file_that_is_appended_to(void **state)
{
    struct sink_stats now = {0};
    struct stat st;
    void *log;

    (void)state;
    for (uint64_t run = 0; run < 2; run++) {
        log = sink_log_new(path, NULL);
        write_lines(log, 0, 500);
        flush_until_safe(log);
        SINK_LOG.stats(log, &now);
        assert_int_equal(now.written, 500);
        assert_int_equal(now.dropped, 0);
        assert_int_equal(now.queued, 0);
        assert_true(now.last_written.us > 0);
        SINK_LOG.free(log);
        assert_int_equal(count_lines(path), 500 * (run + 1));
    }
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_a_line_that_a_killed_process_left_unfinished_is_ended(void **state)
{
    FILE *f = fopen(path, "we");
    char line[64];
    void *log;

    (void)state;
    assert_non_null(f);
    assert_true(fputs("{\"at\":\"2026", f) >= 0);
    assert_int_equal(fclose(f), 0);
    log = sink_log_new(path, NULL);
    write_lines(log, 0, 3);
    flush_until_safe(log);
    SINK_LOG.free(log);

    f = fopen(path, "re");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof(line), f));
    assert_string_equal(line, "{\"at\":\"2026\n");
    (void)fclose(f);
}

static void test_reopen_follows_a_rotation_and_loses_no_line(void **state)
{
    void *log = sink_log_new(path, NULL);
    char moved[128];

    (void)state;
    (void)snprintf(moved, sizeof(moved), "%s.1", path);
    write_lines(log, 0, 10);
    flush_until_safe(log);
    assert_int_equal(rename(path, moved), 0);
    SINK_LOG.reopen(log);
    flush_until_safe(log);
    for (int i = 0; i < 2000 && access(path, F_OK); i++)
        (void)usleep(1000);
    write_lines(log, 10, 30);
    SINK_LOG.free(log);
    assert_int_equal(count_lines(moved), 10);
    assert_int_equal(count_lines(path), 20);
}

static void test_a_file_that_cannot_be_opened_is_an_error(void **state)
{
    struct err err = {0};

    (void)state;
    assert_null(sink_log_new("/nonexistent-dir/access.log", &err));
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.text, "/nonexistent-dir/access.log"));
}

/* The file may not grow beyond 20 KB, as on a full disk. */
static void test_a_full_disk_drops_and_counts_lines_and_cuts_none_in_the_middle(void **state)
{
    struct rlimit old, tight = {20000, 0};
    struct sink_stats now = {0};
    void *log = sink_log_new(path, NULL);

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight.rlim_max = old.rlim_max;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    write_lines(log, 0, 100);
    flush_until_safe(log); /* what cannot be written must not hold the journal */
    write_lines(log, 0, 1);
    flush_until_safe(log);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    SINK_LOG.stats(log, &now);
    assert_true(now.written > 5 && now.dropped > 5);
    assert_int_equal(now.written + now.dropped, 101);
    write_lines(log, 100, 110);
    flush_until_safe(log);
    SINK_LOG.stats(log, &now);
    SINK_LOG.free(log);
    assert_int_equal(now.written + now.dropped, 111);
    {
        FILE *f = fopen(path, "re"); /* one cut line, and every line after it whole */
        char line[8192];
        size_t whole = 0, cut = 0;

        while (fgets(line, sizeof(line), f)) {
            json_t *o = json_loads(line, 0, NULL);

            *(o ? &whole : &cut) += 1;
            json_decref(o);
        }
        (void)fclose(f);
        assert_int_equal(whole, now.written);
        assert_true(cut <= 1);
    }
}

static void test_a_reader_that_stands_still_costs_lines_but_never_blocks(void **state)
{
    struct mono start;
    struct sink_stats now = {0};
    int fd;
    void *log;

    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    fd = open(path, O_RDWR | O_CLOEXEC); /* a reader that never reads */
    log = sink_log_new(path, NULL);
    start = mono_now();
    write_lines(log, 0, 20000); /* about 12 MB into a pipe of 64 KiB and a buffer of 4 MiB */
    (void)SINK_LOG.flush(log);
    SINK_LOG.stats(log, &now);
    assert_true(now.dropped > 1000);
    while (!SINK_LOG.flush(log)) /* gives up waiting after a while, so that the journal can go on */
        assert_true(mono_diff_us(mono_now(), start) < 60000000);
    SINK_LOG.free(log);
    (void)close(fd);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_line_says_what_happened_with_its_attempts),
        T(test_money_is_exact_text),
        T(test_hostile_text_stays_one_line_of_json),
        T(test_a_request_that_recovery_ended_says_so),
        T(test_lines_reach_a_private_file_that_is_appended_to),
        T(test_a_line_that_a_killed_process_left_unfinished_is_ended),
        T(test_reopen_follows_a_rotation_and_loses_no_line),
        T(test_a_file_that_cannot_be_opened_is_an_error),
        T(test_a_full_disk_drops_and_counts_lines_and_cuts_none_in_the_middle),
        T(test_a_reader_that_stands_still_costs_lines_but_never_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
