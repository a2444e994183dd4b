/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that an earlier run left open, in every state; and a recovery that is cut short behind each of its records. */
#include "gatewayd/journal/journal.h"

#include <fcntl.h>

#include "gatewayd/journal/segment_priv.h"
#include "tests/unit/gatewayd/journal/journal_scene.h"

#define REQUESTS 16

static struct journal *open_worker(unsigned worker, size_t max_bytes)
{
    struct err err = {0};
    struct journal *j = journal_open(dir, worker, max_bytes, &err);

    if (!j)
        fail_msg("%s", err_text(&err));
    return j;
}

static size_t recover(size_t max_bytes)
{
    struct journal *j = open_worker(0, max_bytes);
    struct err err = {0};
    size_t n = 99;

    if (journal_recover(j, &n, &err))
        fail_msg("%s", err_text(&err));
    assert_int_equal(journal_stats_mt(j).recovered, n);
    journal_close(j);
    return n;
}

/* ---- what is on record ---- */

struct story {
    unsigned settles, attempt_records;
    unsigned numbers; /* bit set of attempts that have a record */
    int64_t attempt_cost;
    struct fact_request rq;
    struct fact_attempt a[FACT_ATTEMPTS], last;
};

static struct story told[REQUESTS];

static void take(const struct journal_record *r)
{
    uint64_t n = sample_number(record_id(r));
    struct story *s = &told[n];

    assert_true(n < REQUESTS);
    if (r->type == JOURNAL_ATTEMPT) {
        assert_false(s->numbers >> r->attempt.a.number & 1);
        s->numbers |= 1u << r->attempt.a.number;
        s->attempt_cost += r->attempt.a.cost_nanousd;
        s->attempt_records++;
        s->last = r->attempt.a;
    } else if (r->type == JOURNAL_SETTLE) {
        s->settles++;
        s->rq = r->settle.rq;
        memcpy(s->a, r->settle.a, sizeof(s->a));
    }
}

static void read_stories(void)
{
    struct journal *j = open_worker(0, 0);
    struct journal_cursor *c = journal_cursor_new(j, "test");
    struct journal_record r;
    struct err err;
    bool is_read;

    memset(told, 0, sizeof(told));
    (void)journal_cursor_seek(c, 0);
    while ((is_read = journal_cursor_read(c, &r, &err)) || err.code)
        if (is_read)
            take(&r);
    journal_cursor_free(c);
    journal_close(j);
}

/* ---- the requests ---- */

static struct fact_open open_of(uint64_t n)
{
    struct fact_open o = sample_open(n);

    o.context.op = OP_CHAT;
    o.number = 0;
    o.usage = (struct usage){.input = 100, .source = USAGE_ESTIMATED};
    o.cost_nanousd = 1000;
    return o;
}

static void reserve(struct journal *j, uint64_t n)
{
    struct fact_open o = open_of(n);

    assert_int_equal(journal_reserve(j, &o), ERR_OK);
}

/* Attempt `number` is under way, `ended` before it cost 50 each. */
static void progress(struct journal *j, uint64_t n, unsigned number, unsigned ended)
{
    struct fact_open o = open_of(n);

    o.number = (uint8_t)number;
    o.started_us = 500 * number;
    o.ended = (uint8_t)ended;
    o.ended_cost_nanousd = 50 * ended;
    o.ended_usage = (struct usage){.input = 10 * ended, .source = USAGE_REPORTED};
    assert_int_equal(journal_progress(j, &o), ERR_OK);
}

static struct fact_attempt attempt_of(unsigned number)
{
    return (struct fact_attempt){.provider = intern_z("first"),
                                 .model = intern_z("m"),
                                 .status = STATUS_ERROR,
                                 .error = ERR_UP_SERVER,
                                 .http_status = 503,
                                 .number = (uint8_t)number,
                                 .started_us = 100,
                                 .duration_us = 700,
                                 .ttft_us = -1,
                                 .usage = {.input = 10, .source = USAGE_REPORTED},
                                 .cost_nanousd = 50,
                                 .is_priced = true};
}

static void attempt(struct journal *j, uint64_t n, unsigned number)
{
    struct fact_context c = open_of(n).context;
    struct fact_attempt a = attempt_of(number);

    assert_int_equal(journal_attempt(j, &c, &a), ERR_OK);
}

static void settle(struct journal *j, uint64_t n)
{
    struct fact_request rq = sample_request(n);
    struct fact_attempt a[FACT_ATTEMPTS] = {attempt_of(1)};

    rq.is_recovery = false;
    rq.attempts = 1;
    assert_int_equal(journal_settle(j, &rq, a), ERR_OK);
}

enum {
    SETTLED,
    ONLY_RESERVED,
    FIRST_UNDER_WAY,
    FIRST_ENDED,
    SECOND_UNDER_WAY,
    SECOND_ENDED,
    ATTEMPT_WITHOUT_STATEMENT,
    RESTATED,
};

static void leave_all_open(void)
{
    struct journal *j = open_worker(0, MAX_BYTES);

    for (unsigned n = SETTLED; n <= RESTATED; n++)
        if (n != ATTEMPT_WITHOUT_STATEMENT)
            reserve(j, n);
    progress(j, SETTLED, 1, 0);
    attempt(j, SETTLED, 1);
    progress(j, FIRST_UNDER_WAY, 1, 0);
    progress(j, FIRST_ENDED, 1, 0);
    attempt(j, FIRST_ENDED, 1);
    settle(j, SETTLED);
    progress(j, SECOND_UNDER_WAY, 1, 0);
    attempt(j, SECOND_UNDER_WAY, 1);
    progress(j, SECOND_UNDER_WAY, 2, 1);
    progress(j, SECOND_ENDED, 1, 0);
    attempt(j, SECOND_ENDED, 1);
    progress(j, SECOND_ENDED, 2, 1);
    attempt(j, SECOND_ENDED, 2);
    attempt(j, ATTEMPT_WITHOUT_STATEMENT, 1);
    progress(j, RESTATED, 3, 2); /* the records of the first two are gone */
    journal_close(j);
}

static const struct expected {
    unsigned attempt_records, attempts;
    int64_t cost; /* of the SETTLE */
    bool gives_back;
} EXPECTED[] = {
    [ONLY_RESERVED] = {0, 0, 0, true},  [FIRST_UNDER_WAY] = {1, 1, 1000, true},
    [FIRST_ENDED] = {1, 1, 50, true},   [SECOND_UNDER_WAY] = {2, 2, 1050, true},
    [SECOND_ENDED] = {2, 2, 100, true}, [ATTEMPT_WITHOUT_STATEMENT] = {1, 1, 50, false},
    [RESTATED] = {1, 3, 1100, true},
};

static void assert_each_ended_once(void)
{
    read_stories();
    assert_int_equal(told[SETTLED].settles, 1);
    assert_int_equal(told[SETTLED].attempt_records, 1);
    assert_false(told[SETTLED].rq.is_recovery);
    for (unsigned n = ONLY_RESERVED; n <= RESTATED; n++) {
        const struct story *s = &told[n];
        const struct expected *e = &EXPECTED[n];
        int64_t sum = 0;

        assert_int_equal(s->settles, 1);
        assert_true(s->rq.is_recovery);
        assert_int_equal(s->rq.status, STATUS_ERROR);
        assert_int_equal(s->rq.error, ERR_CRASHED);
        assert_int_equal(s->attempt_records, e->attempt_records);
        assert_int_equal(s->rq.attempts, e->attempts);
        assert_int_equal(s->rq.cost_nanousd, e->cost);
        assert_int_equal(s->rq.reservation.amount_nanousd, e->gives_back ? (int64_t)n + 1 : 0);
        if (e->gives_back)
            assert_int_equal(s->rq.reservation.at.us, sample_reservation(n).at.us);
        for (unsigned i = 0; i < e->attempts; i++) {
            assert_int_equal(s->a[i].number, i + 1);
            sum += s->a[i].cost_nanousd;
        }
        assert_int_equal(sum, e->cost); /* the story adds up */
    }
}

static void test_every_open_request_is_ended_by_the_rule(void **state)
{
    (void)state;
    leave_all_open();
    assert_int_equal(recover(MAX_BYTES), RESTATED);
    assert_each_ended_once();
    assert_int_equal(recover(MAX_BYTES), 0); /* doing it again changes nothing */
    assert_each_ended_once();
}

static void test_the_attempt_under_way_is_booked_as_it_was_last_stated(void **state)
{
    const struct fact_attempt *a = &told[SECOND_UNDER_WAY].last;

    (void)state;
    leave_all_open();
    (void)recover(MAX_BYTES);
    read_stories();
    assert_int_equal(a->number, 2);
    assert_int_equal(a->provider, intern_z("openrouter"));
    assert_int_equal(a->from_provider, intern_z("first"));
    assert_int_equal(a->retry_reason, ERR_UP_SERVER);
    assert_int_equal(a->status, STATUS_ERROR);
    assert_int_equal(a->error, ERR_CRASHED);
    assert_int_equal(a->started_us, 1000);
    assert_int_equal(a->usage.input, 100);
    assert_int_equal(a->usage.source, USAGE_ESTIMATED);
    assert_int_equal(told[SECOND_UNDER_WAY].rq.usage.input, 110);
    assert_int_equal(told[SECOND_UNDER_WAY].rq.usage.source, USAGE_ESTIMATED);
    assert_int_equal(told[SECOND_UNDER_WAY].rq.op, OP_CHAT);
    assert_int_equal(told[SECOND_UNDER_WAY].rq.tenant, intern_z("acme"));
    assert_int_equal(told[SECOND_UNDER_WAY].rq.requested, intern_z("chat-default"));
    assert_int_equal(told[SECOND_UNDER_WAY].rq.endpoint, intern_z("/v1/chat/completions"));
}

/* Booked when it died, not when somebody started it again. */
static void test_a_request_ends_at_the_newest_moment_on_record(void **state)
{
    int64_t end = sample_context(ONLY_RESERVED).arrived.us;

    (void)state;
    leave_all_open();
    (void)recover(MAX_BYTES);
    read_stories();
    for (unsigned n = 1; n <= RESTATED; n++)
        if (fact_request_ended(&told[n].rq).us > end)
            end = fact_request_ended(&told[n].rq).us;
    assert_true(end <= fact_request_ended(&told[SETTLED].rq).us);
    for (unsigned n = 1; n <= RESTATED; n++)
        assert_true(fact_request_ended(&told[n].rq).us == end);
}

/* ---- cut short ---- */

static void copy_file(const char *from, const char *to)
{
    static unsigned char bytes[JOURNAL_SEGMENT];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t n = read(in, bytes, sizeof(bytes));

    assert_true(n >= 0 && write(out, bytes, (size_t)n) == n);
    (void)close(in);
    (void)close(out);
}

static void copy_journal(const char *from, const char *to)
{
    char a[512], b[512];
    DIR *d;

    (void)snprintf(b, sizeof(b), "%s/w0", to);
    (void)mkdir(b, 0700);
    (void)snprintf(a, sizeof(a), "%s/w0", from);
    d = opendir(a);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(a, sizeof(a), "%s/w0/%s", from, e->d_name);
        (void)snprintf(b, sizeof(b), "%s/w0/%s", to, e->d_name);
        copy_file(a, b);
    }
    (void)closedir(d);
}

/* The newest segment with records, and where they begin and end. */
static size_t newest(char path[512], size_t at[64])
{
    static unsigned char bytes[JOURNAL_SEGMENT];
    char sub[128], best[512] = "";
    size_t n = 0;
    DIR *d;

    (void)snprintf(sub, sizeof(sub), "%s/w0", dir);
    d = opendir(sub);
    for (struct dirent *e; (e = readdir(d));) {
        struct walk_header h;
        struct walk_record w;
        int fd;

        if (!strstr(e->d_name, ".seg"))
            continue;
        (void)snprintf(path, 512, "%s/%s", sub, e->d_name);
        fd = open(path, O_RDONLY);
        assert_int_equal(read(fd, bytes, sizeof(bytes)), sizeof(bytes));
        (void)close(fd);
        assert_true(walk_header(bytes, sizeof(bytes), &h));
        if (strcmp(path, best) < 0 ||
            walk_step(bytes, sizeof(bytes), h.sequence, WALK_DATA, &w) != WALK_RECORD)
            continue;
        (void)snprintf(best, sizeof(best), "%s", path);
        n = 0;
        at[n++] = WALK_DATA;
        while (walk_step(bytes, sizeof(bytes), h.sequence, at[n - 1], &w) == WALK_RECORD && n < 63) {
            at[n] = w.next;
            n++;
        }
    }
    (void)closedir(d);
    (void)snprintf(path, 512, "%s", best);
    return n - 1;
}

/* Only the bytes before `at` are left of what recovery wrote; or all but the header word there. */
static void cut(const char *path, size_t at, bool only_word)
{
    static const unsigned char ZEROS[JOURNAL_SEGMENT];
    size_t n = only_word ? 8 : sizeof(ZEROS) - at;
    int fd = open(path, O_WRONLY);

    assert_int_equal(pwrite(fd, ZEROS, n, (off_t)at), n);
    (void)close(fd);
}

static void test_a_recovery_cut_short_anywhere_ends_each_request_exactly_once(void **state)
{
    char whole[64], path[512];
    size_t at[64], n;

    (void)state;
    leave_all_open();
    (void)recover(MAX_BYTES);
    n = newest(path, at);
    assert_int_equal(n, RESTATED + 3); /* an end each, and three attempts that were under way */
    scratch_make(whole);
    copy_journal(dir, whole);
    for (size_t k = 0; k <= n; k++)
        for (int only_word = 0; only_word < 2; only_word++) {
            if (k == n && only_word)
                continue; /* nothing there to be half done */
            scratch_remove(dir);
            (void)mkdir(dir, 0700);
            copy_journal(whole, dir);
            if (only_word) {
                cut(path, at[k + 1], false);
                cut(path, at[k], true);
            } else {
                cut(path, at[k], false);
            }
            (void)recover(MAX_BYTES);
            assert_each_ended_once();
            assert_int_equal(recover(MAX_BYTES), 0);
        }
    scratch_remove(whole);
}

static void test_a_retired_worker_is_recovered_too_and_then_goes_away(void **state)
{
    struct journal *j;
    struct journal_cursor *c;
    struct journal_record r;
    struct err err;
    char path[128];
    size_t ended = 0;

    (void)state;
    leave_all_open();
    assert_int_equal(recover(0), RESTATED);
    assert_each_ended_once();
    assert_int_equal(recover(0), 0);
    j = open_worker(0, 0);
    assert_int_equal(journal_recover(j, NULL, &err), ERR_OK);
    c = journal_cursor_new(j, "log");
    while (journal_cursor_read(c, &r, &err))
        ended += r.type == JOURNAL_SETTLE;
    assert_int_equal(ended, RESTATED + 1);
    journal_cursor_commit(c, journal_cursor_position(c));
    journal_free_committed(j);
    assert_int_equal(journal_sync_mt(j), ERR_OK);
    journal_cursor_free(c);
    journal_close(j);
    (void)snprintf(path, sizeof(path), "%s/w0", dir);
    assert_int_equal(access(path, F_OK), -1);
}

/* In the very run that recovers: the recorder reads to the end although no worker will ever go on. */
static void test_a_retired_worker_is_read_out_in_the_run_that_recovers_it(void **state)
{
    struct journal *j;
    struct journal_cursor *c;
    struct journal_record r;
    struct err err;
    size_t n = 0;

    (void)state;
    leave_all_open();
    j = open_worker(0, 0);
    assert_int_equal(journal_recover(j, &n, &err), ERR_OK);
    assert_int_equal(n, RESTATED);
    c = journal_cursor_new(j, "log");
    n = 0;
    while (journal_cursor_read(c, &r, &err))
        n += r.type == JOURNAL_SETTLE && r.settle.rq.is_recovery;
    assert_int_equal(n, RESTATED);
    journal_cursor_commit(c, journal_cursor_position(c));
    journal_free_committed(j);
    for (int i = 0; i < 3; i++)
        assert_int_equal(journal_sync_mt(j), ERR_OK);
    journal_cursor_free(c);
    journal_close(j);
    assert_int_equal(journal_workers_on_disk(dir), 0);
}

static void test_more_open_requests_than_a_full_journal_has_room_for_are_ended_all_the_same(void **state)
{
    enum { MANY = 30000 };
    struct journal *j = open_worker(0, 4 * JOURNAL_SEGMENT);
    struct err err;
    uint64_t n = 0;
    size_t ended = 0;

    (void)state;
    while (n < MANY) { /* beyond what admission lets in */
        struct fact_open o = open_of(n);

        o.number = 1;
        if (journal_reserve(j, &o))
            break;
        n++;
        (void)journal_tend(j, NULL);
    }
    journal_close(j);
    assert_true(n > 10000);
    j = open_worker(0, 4 * JOURNAL_SEGMENT);
    assert_int_equal(journal_recover(j, &ended, &err), ERR_OK);
    assert_int_equal(ended, n);
    assert_true(journal_stats_mt(j).used_bytes > 4 * JOURNAL_SEGMENT);
    assert_true(journal_has_room(j)); /* and the worker can start */
    assert_int_equal(journal_tend(j, NULL), ERR_OK);
    journal_close(j);
    assert_int_equal(recover(4 * JOURNAL_SEGMENT), 0);
}

static void test_a_torn_tail_does_not_keep_recovery_from_ending_what_is_before_it(void **state)
{
    static const unsigned char GARBAGE[40] = {0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5};
    char path[512];
    size_t at[64], n;
    int fd;

    (void)state;
    leave_all_open();
    n = newest(path, at);
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, GARBAGE, sizeof(GARBAGE), (off_t)at[n]), sizeof(GARBAGE));
    (void)close(fd);
    assert_int_equal(recover(MAX_BYTES), RESTATED);
    assert_each_ended_once();
    assert_int_equal(recover(MAX_BYTES), 0);
}

static void test_an_empty_journal_needs_nothing(void **state)
{
    (void)state;
    assert_int_equal(recover(MAX_BYTES), 0);
    assert_int_equal(recover(0), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_every_open_request_is_ended_by_the_rule),
        T(test_the_attempt_under_way_is_booked_as_it_was_last_stated),
        T(test_a_request_ends_at_the_newest_moment_on_record),
        T(test_a_recovery_cut_short_anywhere_ends_each_request_exactly_once),
        T(test_a_retired_worker_is_recovered_too_and_then_goes_away),
        T(test_a_retired_worker_is_read_out_in_the_run_that_recovers_it),
        T(test_more_open_requests_than_a_full_journal_has_room_for_are_ended_all_the_same),
        T(test_a_torn_tail_does_not_keep_recovery_from_ending_what_is_before_it),
        T(test_an_empty_journal_needs_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
