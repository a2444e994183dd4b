/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/journal/recorder.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "libshared/base/clock.h"
#include "tests/unit/gatewayd/journal/facts_sample.h"

#include "tests/unit/cm.h"

#define MAX_BYTES (16 * JOURNAL_SEGMENT)

static char dir[64];

/* A sink that remembers; lives in shared memory where a test kills its process. */
struct seen {
    _Atomic uint64_t requests, attempts, recovered, unsettled, repeated, flushes, reopens, freed;
    _Atomic uint64_t bad; /* requests whose attempts are not those that were made */
    _Atomic bool is_stuck;
    _Atomic unsigned char times[200000]; /* by request number */
};

static struct seen *seen;

static void on_request(void *self, const struct recorded *r)
{
    struct seen *s = self;
    uint64_t number = sample_number(&r->rq->id);

    atomic_fetch_add(&s->requests, 1);
    atomic_fetch_add(&s->attempts, r->n);
    atomic_fetch_add(&s->recovered, r->is_recovered);
    atomic_fetch_add(&s->unsettled, r->rq->is_recovery);
    if (!r->rq->is_recovery && r->n != number % 4)
        atomic_fetch_add(&s->bad, 1);
    for (size_t i = 0; i < r->n; i++)
        if (r->a[i].number != i + 1 || r->a[i].started_us != (int64_t)number)
            atomic_fetch_add(&s->bad, 1);
    if (number < ARRAY_LEN(s->times) && atomic_fetch_add(&s->times[number], 1) && !r->is_recovered)
        atomic_fetch_add(&s->repeated, 1);
}

static bool on_flush(void *self)
{
    struct seen *s = self;

    atomic_fetch_add(&s->flushes, 1);
    return !atomic_load(&s->is_stuck);
}

static void on_reopen(void *self)
{
    atomic_fetch_add(&((struct seen *)self)->reopens, 1);
}
static void on_free(void *self)
{
    atomic_fetch_add(&((struct seen *)self)->freed, 1);
}

static const struct sink_ops SEEN = {"seen", on_request, on_flush, on_reopen, NULL, on_free};

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return seen == MAP_FAILED;
}

static int teardown(void **state)
{
    (void)state;
    (void)munmap(seen, sizeof(*seen));
    scratch_remove(dir);
    return 0;
}

static void eventually_at_least(_Atomic uint64_t *value, uint64_t want)
{
    struct mono end = mono_add_us(mono_now(), 20000000);

    while (atomic_load(value) < want && mono_diff_us(end, mono_now()) > 0)
        (void)usleep(1000);
    assert_true(atomic_load(value) >= want);
}

static struct journal *open_it(unsigned worker)
{
    struct err err = {0};
    struct journal *j = journal_open(dir, worker, MAX_BYTES, &err);

    if (!j)
        fail_msg("%s", err_text(&err));
    return j;
}

static struct recorder *start(struct journal **j, size_t n)
{
    struct recorder *r = recorder_new(j, n, NULL);

    recorder_add_sink(r, &SEEN, seen);
    assert_int_equal(recorder_start(r, NULL), ERR_OK);
    return r;
}

static struct fact_attempt attempt_of(uint64_t number, unsigned i)
{
    struct fact_attempt a = sample_attempt(i);

    a.started_us = (int64_t)number;
    a.cost_nanousd = 100 * i;
    return a;
}

static uint64_t reserved[64]; /* sequence numbers of the newest RESERVE records, by request number */

static enum err_code begin(struct journal *j, uint64_t number)
{
    struct fact_context c = sample_context(number);
    struct fact_open o = sample_open(number);
    enum err_code e = journal_reserve(j, &o);

    reserved[number % ARRAY_LEN(reserved)] = journal_last(j);
    for (unsigned i = 1; !e && i <= number % 4; i++) {
        struct fact_attempt a = attempt_of(number, i);

        e = journal_attempt(j, &c, &a);
    }
    return e;
}

static enum err_code settle(struct journal *j, uint64_t number)
{
    struct fact_request rq = sample_request(number);
    struct fact_attempt a[FACT_ATTEMPTS];

    rq.attempts = number % 4;
    rq.is_recovery = false;
    for (unsigned i = 0; i < rq.attempts; i++)
        a[i] = attempt_of(number, i + 1);
    return journal_settle(j, &rq, a);
}

static void test_each_request_is_handed_over_once_with_its_attempts(void **state)
{
    struct journal *j[2] = {open_it(0), open_it(1)};
    struct recorder *r = start(j, 2);

    (void)state;
    for (uint64_t n = 0; n < 2000; n++) {
        assert_int_equal(begin(j[n % 2], n), ERR_OK);
        if (n >= 50) /* 50 are under way at any time */
            assert_int_equal(settle(j[n % 2], n - 50), ERR_OK);
        journal_set_needed(j[n % 2], UINT64_MAX);
    }
    for (uint64_t n = 1950; n < 2000; n++)
        assert_int_equal(settle(j[n % 2], n), ERR_OK);
    recorder_stop(r);
    assert_int_equal(atomic_load(&seen->requests), 2000);
    assert_int_equal(atomic_load(&seen->attempts), 3000);
    assert_int_equal(atomic_load(&seen->bad), 0);
    assert_int_equal(atomic_load(&seen->freed), 1);
    journal_close(j[0]);
    journal_close(j[1]);
}

static void test_after_a_clean_stop_nothing_is_delivered_again(void **state)
{
    struct journal *j = open_it(0);
    struct recorder *r = start(&j, 1);

    (void)state;
    for (uint64_t n = 0; n < 20; n++) {
        assert_int_equal(begin(j, n), ERR_OK);
        assert_int_equal(settle(j, n), ERR_OK);
    }
    recorder_stop(r);
    journal_close(j);
    j = open_it(0);
    r = start(&j, 1);
    recorder_stop(r);
    journal_close(j);
    assert_int_equal(atomic_load(&seen->requests), 20);
}

static void test_a_request_that_never_ended_is_told_of_by_the_next_run_only(void **state)
{
    struct journal *j = open_it(0);
    struct recorder *r = start(&j, 1);
    uint64_t flushes;

    (void)state;
    assert_int_equal(begin(j, 3), ERR_OK);
    flushes = atomic_load(&seen->flushes);
    eventually_at_least(&seen->flushes, flushes + 3); /* read and committed; the journal keeps what is open */
    recorder_stop(r);
    journal_close(j);
    assert_int_equal(atomic_load(&seen->requests), 0);
    for (int run = 0; run < 2; run++) {
        j = open_it(0);
        assert_int_equal(journal_recover(j, NULL, NULL), ERR_OK);
        r = start(&j, 1);
        recorder_stop(r);
        journal_close(j);
        assert_int_equal(atomic_load(&seen->requests), 1); /* once, in the first of the two */
        assert_int_equal(atomic_load(&seen->unsettled), 1);
        assert_int_equal(atomic_load(&seen->attempts), 3);
    }
}

static void test_the_journal_keeps_what_a_sink_does_not_call_safe(void **state)
{
    struct journal *j = open_it(0);
    struct journal_cursor *c;
    struct journal_record rec;
    struct recorder *r;
    struct err err;
    pid_t pid;
    int status;

    (void)state;
    journal_close(j);
    atomic_store(&seen->is_stuck, true);
    pid = fork();
    if (pid == 0) {
        j = open_it(0);
        r = start(&j, 1);
        for (uint64_t n = 0; n < 40; n += 4) /* without attempts */
            (void)settle(j, n);
        eventually_at_least(&seen->requests, 10);
        eventually_at_least(&seen->flushes, atomic_load(&seen->flushes) + 3);
        (void)kill(getpid(), SIGKILL);
        recorder_stop(r);
    }
    (void)waitpid(pid, &status, 0);
    j = open_it(0);
    c = journal_cursor_new(j, "log");
    journal_cursor_keep(c);
    for (int n = 0; n < 10; n++)
        assert_true(journal_cursor_read(c, &rec, &err));
    assert_false(journal_cursor_read(c, &rec, &err));
    journal_cursor_free(c);
    journal_close(j);
}

static void test_reopen_reaches_the_sinks(void **state)
{
    struct journal *j = open_it(0);
    struct recorder *r = start(&j, 1);

    (void)state;
    recorder_reopen_mt(r);
    eventually_at_least(&seen->reopens, 1);
    recorder_stop(r);
    journal_close(j);
}

static void test_a_recorder_that_was_never_started_can_be_stopped(void **state)
{
    struct journal *j = open_it(0);
    struct recorder *r = recorder_new(&j, 1, NULL);

    (void)state;
    recorder_add_sink(r, &SEEN, seen);
    recorder_stop(r);
    assert_int_equal(atomic_load(&seen->freed), 1);
    journal_close(j);
}

/* A worker at full speed: what it could append is delivered whole, in a bounded number of segments. */
static void test_a_fast_worker_is_kept_up_with(void **state)
{
    struct journal *j = open_it(0);
    struct recorder *r = start(&j, 1);

    (void)state;
    for (uint64_t n = 0; n < 100000;) {
        if (!journal_has_room(j)) {
            (void)usleep(200);
            continue;
        }
        assert_int_equal(begin(j, n), ERR_OK);
        assert_int_equal(settle(j, n), ERR_OK);
        journal_set_needed(j, UINT64_MAX);
        n++;
    }
    recorder_stop(r);
    assert_int_equal(atomic_load(&seen->requests), 100000);
    assert_int_equal(atomic_load(&seen->bad), 0);
    assert_true(journal_stats_mt(j).used_bytes <= MAX_BYTES);
    journal_close(j);
}

/* ---- death amid everything ---- */

struct progress {
    _Atomic uint64_t next;    /* first number that was not begun */
    _Atomic uint64_t settled; /* all below were settled */
};

#define WINDOW 30 /* requests under way */

static _Noreturn void child(struct progress *p, uint64_t first)
{
    struct journal *j = journal_open(dir, 0, MAX_BYTES, NULL);
    struct recorder *r = j ? recorder_new(&j, 1, NULL) : NULL;

    if (!r)
        _exit(3);
    recorder_add_sink(r, &SEEN, seen);
    if (recorder_start(r, NULL))
        _exit(3);
    for (uint64_t n = first;; n++) {
        while (!journal_has_room(j))
            (void)usleep(100);
        atomic_store(&p->next, n + 1);
        if (begin(j, n))
            _exit(4);
        if (n >= first + WINDOW) {
            if (settle(j, n - WINDOW))
                _exit(4);
            atomic_store(&p->settled, n - WINDOW + 1);
            journal_set_needed(j, reserved[(n - WINDOW + 1) % ARRAY_LEN(reserved)]);
        }
    }
}

static void test_kill_9_loses_no_request_and_repeats_only_what_it_calls_recovered(void **state)
{
    struct progress *p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t begun = 0, settled = 0;

    (void)state;
    srand(13);
    for (int i = 0; i < 12; i++) {
        uint64_t first = begun, before = atomic_load(&seen->requests);
        struct journal *j;
        pid_t pid = fork();
        int status;

        if (pid == 0)
            child(p, first);
        while (atomic_load(&p->next) == begun && waitpid(pid, &status, WNOHANG) == 0)
            ;
        (void)usleep((unsigned)(rand() % 350000));
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
        begun = atomic_load(&p->next);
        settled = atomic_load(&p->settled);
        j = open_it(0);
        assert_int_equal(journal_recover(j, NULL, NULL), ERR_OK);
        recorder_stop(start(&j, 1)); /* one run that only recovers */
        journal_close(j);
        assert_int_equal(atomic_load(&seen->bad), 0);
        for (uint64_t n = first; n < settled && n < ARRAY_LEN(seen->times); n++)
            if (atomic_load(&seen->times[n]) == 0)
                fail_msg("request %lu of run %d was lost", (unsigned long)n, i);
        for (uint64_t n = settled > first ? settled : first; n + 1 < begun && n < ARRAY_LEN(seen->times); n++)
            if (atomic_load(&seen->times[n]) == 0)
                fail_msg("request %lu of run %d was under way and is not told of", (unsigned long)n, i);
        assert_int_equal(atomic_load(&seen->repeated), 0);
        assert_true(atomic_load(&seen->requests) >= before);
    }
    (void)munmap(p, sizeof(*p));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_each_request_is_handed_over_once_with_its_attempts),
        T(test_after_a_clean_stop_nothing_is_delivered_again),
        T(test_a_request_that_never_ended_is_told_of_by_the_next_run_only),
        T(test_the_journal_keeps_what_a_sink_does_not_call_safe),
        T(test_reopen_reaches_the_sinks),
        T(test_a_recorder_that_was_never_started_can_be_stopped),
        T(test_a_fast_worker_is_kept_up_with),
        T(test_kill_9_loses_no_request_and_repeats_only_what_it_calls_recovered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
