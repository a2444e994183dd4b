/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "gatewayd/journal/journal_priv.h"
#include "libshared/base/clock.h"
#include "tests/unit/gatewayd/journal/journal_scene.h"

static struct journal_cursor *cursor; /* of the journal that is open */

static struct journal *open_worker(unsigned worker, size_t max_bytes)
{
    struct err err = {0};
    struct journal *j = journal_open(dir, worker, max_bytes, &err);

    if (!j)
        fail_msg("%s", err_text(&err));
    cursor = journal_cursor_new(j, "test");
    return j;
}

static struct journal *open_it(size_t max_bytes)
{
    return open_worker(0, max_bytes);
}

static void close_it(struct journal *j)
{
    journal_cursor_free(cursor);
    cursor = NULL;
    journal_close(j);
}

/* All that was read is safe elsewhere. */
static void forget(struct journal *j)
{
    journal_cursor_commit(cursor, journal_cursor_position(cursor));
    journal_free_committed(j);
}

static enum err_code try_settle(struct journal *j, uint64_t n)
{
    struct fact_request rq = sample_request(n);
    struct fact_attempt a[FACT_ATTEMPTS];

    sample_attempts(n, a);
    return journal_settle(j, &rq, a);
}

static void settle(struct journal *j, uint64_t n)
{
    assert_int_equal(try_settle(j, n), ERR_OK);
}

/* Reads all that is there; numbers must come in order from `first`. Returns how many; reports are counted. */
static uint64_t read_all(uint64_t first, unsigned *reports)
{
    struct journal_record r;
    struct err err;
    uint64_t n = 0;

    for (;;) {
        if (journal_cursor_read(cursor, &r, &err)) {
            assert_int_equal(sample_number(record_id(&r)), first + n);
            n++;
        } else if (err.code) {
            if (!reports)
                fail_msg("%s", err_text(&err));
            ++*reports;
        } else {
            return n;
        }
    }
}

static void test_records_come_back_in_order_and_only_once(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_record r;
    struct fact_attempt a = sample_attempt(3);
    struct fact_context c = sample_context(0);
    struct err err;
    uint64_t seq;

    (void)state;
    assert_int_equal(journal_attempt(j, &c, &a), ERR_OK);
    settle(j, 0);
    assert_true(journal_cursor_read(cursor, &r, &err));
    assert_int_equal(r.type, JOURNAL_ATTEMPT);
    assert_false(r.is_recovered);
    seq = r.seq;
    assert_true(journal_cursor_read(cursor, &r, &err));
    assert_int_equal(r.type, JOURNAL_SETTLE);
    assert_true(r.seq > seq);
    assert_false(journal_cursor_read(cursor, &r, &err));
    assert_int_equal(err.code, ERR_OK);
    assert_int_equal(journal_stats_mt(j).appended, 2);
    assert_int_equal(journal_stats_mt(j).read, 2);
    close_it(j);
}

static void test_what_was_not_released_is_read_again_by_the_next_run_as_recovered(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_record r;
    struct err err;

    (void)state;
    for (uint64_t n = 0; n < 10; n++)
        settle(j, n);
    for (int i = 0; i < 4; i++)
        assert_true(journal_cursor_read(cursor, &r, &err));
    forget(j);
    assert_true(journal_cursor_read(cursor, &r, &err)); /* read, not released */
    close_it(j);

    j = open_it(MAX_BYTES);
    settle(j, 10); /* a new record waits behind the old ones */
    for (uint64_t n = 4; n < 10; n++) {
        assert_true(journal_cursor_read(cursor, &r, &err));
        assert_true(r.is_recovered);
        assert_int_equal(sample_number(record_id(&r)), n);
    }
    assert_true(journal_cursor_read(cursor, &r, &err));
    assert_false(r.is_recovered);
    assert_int_equal(sample_number(record_id(&r)), 10);
    forget(j);
    close_it(j);

    j = open_it(MAX_BYTES);
    assert_int_equal(read_all(0, NULL), 0);
    close_it(j);
}

static void test_what_is_appended_behind_a_released_end_is_read_by_the_next_run(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    uint64_t needed;

    (void)state;
    journal_set_needed(j, journal_last(j) + 1); /* nothing was appended yet */
    settle(j, 0);
    needed = journal_last(j) + 1; /* no request is open */
    settle(j, 1);                 /* and while that is told there is one more record */
    journal_set_needed(j, needed);
    assert_int_equal(read_all(0, NULL), 2);
    forget(j);
    journal_set_needed(j, journal_last(j) + 1);
    settle(j, 2);
    close_it(j);
    j = open_it(MAX_BYTES);
    assert_int_equal(read_all(0, NULL), 3);
    forget(j);
    settle(j, 3);
    close_it(j);
    j = open_it(MAX_BYTES);
    assert_int_equal(read_all(3, NULL), 1);
    close_it(j);
}

static void test_a_second_process_is_refused(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct err err = {0};

    (void)state;
    assert_null(journal_open(dir, 0, MAX_BYTES, &err));
    assert_int_equal(err.code, ERR_CONFLICT);
    close_it(j);
}

static void test_a_full_journal_refuses_early_and_recovers_when_it_is_released(void **state)
{
    struct journal *j = open_it(4 * JOURNAL_SEGMENT);
    struct err err = {0};
    uint64_t n = 0, more = 0;

    (void)state;
    while (journal_has_room(j)) {
        settle(j, n++);
        assert_int_equal(journal_tend(j, &err), ERR_OK);
    }
    assert_true(n > 2000);
    assert_true(journal_stats_mt(j).full_refusals > 0);
    assert_true(journal_stats_mt(j).used_bytes <= 4 * JOURNAL_SEGMENT);
    while (try_settle(j, n + more) == ERR_OK)
        more++;
    assert_true(more > 300); /* what is under way can still be settled */
    assert_int_equal(try_settle(j, n + more), ERR_JOURNAL_FULL);
    assert_int_equal(read_all(0, NULL), n + more);
    forget(j);
    assert_int_equal(journal_tend(j, &err), ERR_OK);
    assert_true(journal_has_room(j));
    settle(j, n + more);
    assert_int_equal(read_all(n + more, NULL), 1);
    close_it(j);
}

static void test_what_is_open_when_the_journal_is_full_can_still_be_settled(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct fact_open o = sample_open(1);
    uint64_t n = 0;

    o.reservation.at = wall_now();
    (void)state;
    for (; journal_has_room(j); n++)
        assert_int_equal(journal_reserve(j, &o) + journal_tend(j, NULL), ERR_OK);
    assert_true(n > 500);
    while (journal_progress(j, &o) == ERR_OK)
        ;
    for (uint64_t i = 0; i < n; i++) {
        struct fact_request rq = sample_request(i);
        struct fact_attempt a[FACT_ATTEMPTS];

        sample_attempts(i, a);
        rq.reservation = o.reservation;
        assert_int_equal(journal_attempt(j, &o.context, &a[0]), ERR_OK);
        assert_int_equal(journal_settle(j, &rq, a), ERR_OK);
    }
    close_it(j);
}

static void test_a_journal_left_full_does_not_keep_the_next_run_from_starting(void **state)
{
    struct journal *j = open_it(4 * JOURNAL_SEGMENT);
    uint64_t n = 0;

    (void)state;
    while (journal_has_room(j)) {
        settle(j, n++);
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
    }
    close_it(j);
    j = open_it(4 * JOURNAL_SEGMENT);
    assert_true(journal_has_room(j));
    settle(j, n);
    assert_int_equal(read_all(0, NULL), n + 1);
    forget(j);
    assert_int_equal(journal_tend(j, NULL), ERR_OK);
    assert_true(journal_stats_mt(j).used_bytes <= 4 * JOURNAL_SEGMENT);
    close_it(j);
}

static void test_segments_are_recycled_and_files_stay_few(void **state)
{
    struct journal *j = open_it(64 * JOURNAL_SEGMENT);
    char first[512];
    uint64_t n = 0;

    (void)state;
    for (int round = 0; round < 100; round++) {
        uint64_t from = n;

        for (int i = 0; i < 1000; i++)
            settle(j, n++);
        assert_int_equal(read_all(from, NULL), 1000);
        forget(j);
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
    }
    assert_true(journal_stats_mt(j).bytes > 20 * JOURNAL_SEGMENT);
    assert_true(journal_stats_mt(j).used_bytes <= 24 * JOURNAL_SEGMENT); /* ready for more of the same */
    for (int i = 0; i < 40; i++)
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
    assert_true(scratch_segments(dir, first) <= 14);
    close_it(j);
}

static void test_fewer_workers_find_what_more_workers_left(void **state)
{
    struct journal *j = open_worker(5, MAX_BYTES);
    char path[128];

    (void)state;
    settle(j, 0);
    close_it(j);
    assert_int_equal(journal_workers_on_disk(dir), 6);
    j = open_worker(5, 0);
    assert_int_equal(read_all(0, NULL), 1);
    assert_int_equal(journal_tend(j, NULL), ERR_OK);
    forget(j);
    close_it(j);
    (void)snprintf(path, sizeof(path), "%s/w5", dir);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(journal_workers_on_disk(dir), 0);
}

/* ---- damage ---- */

/* Writes 3 records, returns where the last begins and ends in the file. */
/* A clock that stepped back while nobody wrote must not matter either: where such a run ends, the next may begin. */
static void test_a_journal_that_nobody_writes_to_ends_behind_its_last_segment(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    uint64_t last;

    (void)state;
    settle(j, 0);
    last = journal_last(j), close_it(j);
    while ((uint64_t)wall_now().us >> 14 <=
           walk_sequence_of(last) + 4) /* the clock's number is another by now */
        (void)usleep(1000);
    j = open_it(0);
    assert_int_equal(read_all(0, NULL), 1);
    assert_true(journal_cursor_position(cursor) > last);
    assert_true(walk_sequence_of(journal_cursor_position(cursor)) <= walk_sequence_of(last) + 3);
    close_it(j);
}

static void test_a_worker_that_comes_back_begins_above_where_it_ended_whatever_the_clock_says(void **state)
{
    uint64_t ahead = ((uint64_t)wall_now().us >> 14) + 1000000, ended;
    struct journal *j = open_it(MAX_BYTES);

    (void)state;
    settle(j, 0);
    close_it(j);
    j = open_it(0);
    assert_int_equal(read_all(0, NULL), 1);
    forget(j);
    ended = journal_cursor_position(cursor);
    close_it(j);
    assert_int_equal(walk_seq(journal_floor(dir), 0), ended);

    assert_int_equal(journal_raise_floor(dir, ahead, NULL), ERR_OK); /* the clock was ahead then */
    assert_int_equal(journal_raise_floor(dir, 7, NULL), ERR_OK);     /* it only rises */
    j = open_it(MAX_BYTES);
    settle(j, 1);
    assert_true(walk_sequence_of(journal_last(j)) >= ahead);
    close_it(j);
}

static void three_records(char path[512], size_t *out_start, size_t *out_end)
{
    struct journal *j = open_it(MAX_BYTES);

    settle(j, 0);
    settle(j, 1);
    *out_start = SEGMENT_DATA + journal_stats_mt(j).bytes;
    settle(j, 2);
    *out_end = SEGMENT_DATA + journal_stats_mt(j).bytes;
    close_it(j);
    assert_true(scratch_segments(dir, path) > 0);
}

static void patch(const char *path, size_t at, const void *bytes, size_t n)
{
    int fd = open(path, O_RDWR);

    assert_int_equal(pwrite(fd, bytes, n, (off_t)at), n);
    (void)close(fd);
}

static void fetch(const char *path, size_t at, void *bytes, size_t n)
{
    int fd = open(path, O_RDONLY);

    assert_int_equal(pread(fd, bytes, n, (off_t)at), n);
    (void)close(fd);
}

static void reset(void)
{
    scratch_remove(dir);
    (void)mkdir(dir, 0700);
}

/* Reads what is there without releasing or adding anything. */
static uint64_t look(unsigned *reports)
{
    struct journal *j = open_it(0);
    uint64_t n = read_all(0, reports);

    close_it(j);
    return n;
}

static void test_a_tail_torn_at_every_byte_is_found_and_all_before_it_kept(void **state)
{
    static const unsigned char ZEROS[4096];
    unsigned char whole[4096];
    char path[512];
    size_t start, end;

    (void)state;
    three_records(path, &start, &end);
    fetch(path, start, whole, end - start);
    for (size_t cut = start; cut < end; cut++) {
        unsigned reports = 0;
        uint64_t n;

        patch(path, start, whole, cut - start);
        patch(path, cut, ZEROS, end - cut);
        n = look(&reports);
        /* zeros behind the CRC are only padding, and with nothing left of the record there is nothing to report */
        if (n == 2)
            assert_int_equal(reports, cut == start ? 0 : 1);
        else
            assert_true(n == 3 && reports == 0 && cut + 8 > end);
    }
}

static void test_a_new_run_goes_on_behind_a_torn_tail(void **state)
{
    static const unsigned char ZEROS[16];
    unsigned reports = 0;
    struct journal *j;
    char path[512];
    size_t start, end;

    (void)state;
    three_records(path, &start, &end);
    patch(path, end - sizeof(ZEROS), ZEROS, sizeof(ZEROS));
    j = open_it(MAX_BYTES);
    settle(j, 2);
    assert_int_equal(read_all(0, &reports), 3);
    assert_int_equal(reports, 1);
    close_it(j);
}

/* The process died before it published the header word: everything else of the record may be there. */
static void test_an_unpublished_record_is_reported_and_never_read(void **state)
{
    static const unsigned char ZEROS[8];
    unsigned reports = 0;
    struct journal *j;
    char path[512];
    size_t start, end;

    (void)state;
    three_records(path, &start, &end);
    patch(path, start, ZEROS, 8);
    j = open_it(MAX_BYTES);
    assert_int_equal(read_all(0, &reports), 2);
    assert_int_equal(reports, 1);
    assert_int_equal(journal_stats_mt(j).torn, 1);
    close_it(j);
}

static void test_a_flip_of_any_bit_of_a_record_is_found(void **state)
{
    unsigned char whole[4096];
    char path[512];
    size_t start, end, size;

    (void)state;
    three_records(path, &start, &end);
    size = end - start;
    fetch(path, start, whole, size);
    for (size_t bit = 0; bit < size * 8; bit++) {
        unsigned char flipped = (unsigned char)(whole[bit / 8] ^ 1u << bit % 8);
        unsigned reports = 0;
        uint64_t n;

        patch(path, start + bit / 8, &flipped, 1);
        n = look(&reports);
        assert_true(n == 2 ? reports >= 1
                           : n == 3 && bit / 8 + 8 > size); /* only padding may change unseen */
        patch(path, start + bit / 8, &whole[bit / 8], 1);
    }
}

static void test_records_behind_a_corrupt_one_in_a_live_segment_are_left_and_writing_goes_on(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_record r;
    struct err err;
    unsigned reports = 0;
    char path[512];
    uint64_t n = 0;

    (void)state;
    settle(j, n++);
    assert_true(scratch_segments(dir, path) > 0);
    patch(path, SEGMENT_DATA + 30, "\xff", 1);
    settle(j, n++);
    assert_int_equal(read_all(0, &reports), 0);
    assert_int_equal(reports, 1);
    while (journal_stats_mt(j).bytes < JOURNAL_SEGMENT)
        settle(j, n++);
    assert_true(journal_cursor_read(cursor, &r, &err));
    assert_true(sample_number(record_id(&r)) > 2);
    close_it(j);
}

static void test_a_segment_without_a_sound_header_is_set_aside(void **state)
{
    struct journal *j;
    char path[512], bad[520];
    size_t start, end;

    (void)state;
    three_records(path, &start, &end);
    patch(path, 8, "\xff", 1);
    j = open_it(MAX_BYTES);
    assert_int_equal(read_all(0, NULL), 0);
    assert_int_equal(journal_stats_mt(j).torn, 1);
    close_it(j);
    (void)snprintf(bad, sizeof(bad), "%s.bad", path);
    assert_int_equal(access(bad, F_OK), 0);
}

static void test_a_damaged_release_mark_loses_nothing(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    char path[512];

    (void)state;
    settle(j, 0);
    settle(j, 1);
    assert_int_equal(read_all(0, NULL), 2);
    forget(j);
    close_it(j);
    assert_true(scratch_segments(dir, path) > 0);
    patch(path, 33, "\x77", 1);
    j = open_it(MAX_BYTES);
    assert_int_equal(read_all(0, NULL), 2);
    close_it(j);
}

/* A recycled page that the disk kept from an earlier life carries sound records, but not of this place. */
static void test_a_stale_record_of_an_earlier_life_is_not_taken_for_a_current_one(void **state)
{
    unsigned char old[JOURNAL_SEGMENT - SEGMENT_DATA];
    struct journal *j = open_it(MAX_BYTES);
    unsigned reports = 0;
    char path[512], next[512];
    int fd;

    (void)state;
    settle(j, 0);
    assert_int_equal(read_all(0, NULL), 1);
    assert_true(scratch_segments(dir, path) > 0);
    fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, old, sizeof(old), SEGMENT_DATA), sizeof(old));
    (void)close(fd);
    for (uint64_t n = 1; journal_stats_mt(j).bytes < JOURNAL_SEGMENT; n++)
        settle(j, n);
    forget(j);
    close_it(j);
    (void)unlink(path); /* the first segment is gone, its bytes appear in the second */
    assert_true(scratch_segments(dir, next) > 0);
    patch(next, SEGMENT_DATA, old, sizeof(old));
    j = open_it(MAX_BYTES);
    assert_int_equal(read_all(0, &reports), 0);
    assert_int_equal(reports, 1);
    close_it(j);
}

static void test_a_full_disk_is_an_error_code(void **state)
{
    struct rlimit old, tight = {JOURNAL_SEGMENT / 2, 0};
    struct err err = {0};
    struct journal *j;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight.rlim_max = old.rlim_max;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    j = journal_open(dir, 0, MAX_BYTES, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_null(j);
    assert_int_equal(err.code, ERR_IO);
    j = open_it(MAX_BYTES); /* and what it left behind is no trouble */
    settle(j, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    for (uint64_t n = 1; journal_stats_mt(j).bytes < JOURNAL_SEGMENT; n++)
        settle(j, n);
    assert_int_equal(journal_tend(j, &err), ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(journal_tend(j, &err), ERR_OK);
    close_it(j);
}

/* ---- two threads ---- */

struct pair {
    struct journal *j;
    _Atomic bool done;
};

static void *writer(void *user)
{
    struct pair *p = user;

    for (uint64_t n = 0; n < 60000;) {
        if (journal_has_room(p->j) && try_settle(p->j, n) == ERR_OK)
            n++;
        else
            (void)usleep(100);
    }
    atomic_store(&p->done, true);
    return NULL;
}

static void test_a_writer_and_a_reader_lose_and_repeat_nothing_while_segments_are_recycled(void **state)
{
    struct pair p = {.j = open_it(6 * JOURNAL_SEGMENT)};
    pthread_t thread;
    uint64_t n = 0;
    bool last;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, writer, &p), 0);
    do {
        last = atomic_load(&p.done);
        n += read_all(n, NULL);
        forget(p.j);
        assert_int_equal(journal_tend(p.j, NULL), ERR_OK);
        assert_int_equal(journal_sync_mt(p.j), ERR_OK);
    } while (!last);
    (void)pthread_join(thread, NULL);
    assert_int_equal(n, 60000);
    assert_true(journal_stats_mt(p.j).used_bytes <= 6 * JOURNAL_SEGMENT);
    close_it(p.j);
}

/* ---- death ---- */

struct shared {                /* between the parent and the child that is killed */
    _Atomic uint64_t appended; /* returned from */
    _Atomic uint64_t released; /* known to be released */
};

static void *child_reader(void *user)
{
    struct pair *p = user;
    struct journal_record r;
    struct err err;

    for (;;) {
        for (int i = 0; i < 500 && journal_cursor_read(cursor, &r, &err); i++)
            ;
        forget(p->j);
        (void)journal_tend(p->j, NULL);
    }
    return NULL;
}

static _Noreturn void child(struct shared *sh, uint64_t first, bool reads)
{
    struct pair p = {.j = journal_open(dir, 0, 256 * JOURNAL_SEGMENT, NULL)};
    pthread_t thread;

    cursor = p.j ? journal_cursor_new(p.j, "test") : NULL;
    if (!p.j || (reads && pthread_create(&thread, NULL, child_reader, &p)))
        _exit(3);
    for (uint64_t n = first;; n++) {
        while (!journal_has_room(p.j))
            if (!reads)
                (void)journal_tend(p.j, NULL);
        if (try_settle(p.j, n))
            _exit(4);
        atomic_store_explicit(&sh->appended, n + 1, memory_order_relaxed);
    }
}

static void run_and_kill(struct shared *sh, uint64_t first, bool reads, unsigned us)
{
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0)
        child(sh, first, reads);
    while (atomic_load_explicit(&sh->appended, memory_order_relaxed) == first &&
           waitpid(pid, &status, WNOHANG) == 0)
        ;
    (void)usleep(us);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static struct shared *share(void)
{
    struct shared *sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(sh, MAP_FAILED);
    return sh;
}

static void test_after_kill_9_every_record_whose_append_returned_is_there_exactly_once(void **state)
{
    struct shared *sh = share();

    (void)state;
    srand(11);
    for (int i = 0; i < 25; i++) {
        unsigned reports = 0;
        struct journal *j;
        uint64_t n;

        atomic_store(&sh->appended, 0);
        run_and_kill(sh, 0, false, (unsigned)(rand() % 20000));
        j = open_it(256 * JOURNAL_SEGMENT);
        n = read_all(0, &reports);
        assert_true(n == atomic_load(&sh->appended) || n == atomic_load(&sh->appended) + 1);
        assert_true(reports <= 1);
        close_it(j);
        reset();
    }
    (void)munmap(sh, sizeof(*sh));
}

/* With a reader that releases and recycles at full speed: what is left is the unbroken end of what was
 * written. */
static void test_kill_9_amid_recycling_leaves_an_unbroken_tail(void **state)
{
    struct shared *sh = share();
    uint64_t next = 0;

    (void)state;
    srand(12);
    for (int i = 0; i < 25; i++) {
        struct journal_record r;
        struct err err;
        struct journal *j;
        uint64_t n, last = UINT64_MAX;

        atomic_store(&sh->appended, next);
        run_and_kill(sh, next, true, (unsigned)(rand() % 30000));
        n = atomic_load(&sh->appended);
        j = open_it(256 * JOURNAL_SEGMENT);
        for (;;) {
            if (journal_cursor_read(cursor, &r, &err)) {
                if (last != UINT64_MAX)
                    assert_int_equal(sample_number(record_id(&r)), last + 1);
                last = sample_number(record_id(&r));
            } else if (!err.code) {
                break;
            }
        }
        if (last != UINT64_MAX)
            assert_true(last + 1 == n || last == n);
        next = last == UINT64_MAX || last + 1 < n ? n : last + 1;
        forget(j);
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
        close_it(j);
    }
    (void)munmap(sh, sizeof(*sh));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_records_come_back_in_order_and_only_once),
        T(test_what_was_not_released_is_read_again_by_the_next_run_as_recovered),
        T(test_what_is_appended_behind_a_released_end_is_read_by_the_next_run),
        T(test_a_second_process_is_refused),
        T(test_a_full_journal_refuses_early_and_recovers_when_it_is_released),
        T(test_what_is_open_when_the_journal_is_full_can_still_be_settled),
        T(test_a_journal_left_full_does_not_keep_the_next_run_from_starting),
        T(test_segments_are_recycled_and_files_stay_few),
        T(test_fewer_workers_find_what_more_workers_left),
        T(test_a_journal_that_nobody_writes_to_ends_behind_its_last_segment),
        T(test_a_worker_that_comes_back_begins_above_where_it_ended_whatever_the_clock_says),
        T(test_a_tail_torn_at_every_byte_is_found_and_all_before_it_kept),
        T(test_a_new_run_goes_on_behind_a_torn_tail),
        T(test_an_unpublished_record_is_reported_and_never_read),
        T(test_a_flip_of_any_bit_of_a_record_is_found),
        T(test_records_behind_a_corrupt_one_in_a_live_segment_are_left_and_writing_goes_on),
        T(test_a_segment_without_a_sound_header_is_set_aside),
        T(test_a_damaged_release_mark_loses_nothing),
        T(test_a_stale_record_of_an_earlier_life_is_not_taken_for_a_current_one),
        T(test_a_full_disk_is_an_error_code),
        T(test_a_writer_and_a_reader_lose_and_repeat_nothing_while_segments_are_recycled),
        T(test_after_kill_9_every_record_whose_append_returned_is_there_exactly_once),
        T(test_kill_9_amid_recycling_leaves_an_unbroken_tail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
