/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/analytics/aggregate.h"
#include "tests/unit/gatewayd/journal/books_scene.h"

#include "libshared/base/crash.h"

/* ---- tests ---- */

static void test_all_books_say_the_same(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        play_many(i * 60, 60);
        run();
    }
    adjust(9000, -777);
    run();
    assert_hours_are_true();
    assert_ledger_is_true();
    assert_budgets_are_true(-777);
    assert_int_equal(true_held, 0);
    assert_true(number(books, "SELECT count(*) FROM ledger WHERE outcome = 'rejected' AND tenant = '' "
                              "AND provider = ''") > 0); /* refused: booked, and in nobody's hour */
    assert_int_equal(number(books, "SELECT CAST(sum(cost_nano) AS bigint) FROM ledger WHERE kind = 'adjust'"),
                     -777);
    assert_int_equal(stats_of(history).errors + stats_of(realtime).errors, 0);
    assert_true(number(books, "SELECT count(*) FROM minute_sketches") > 60);
    assert_int_equal(number(books, "SELECT count(*) FROM tenant_events WHERE kind = 'first_answer'"), 3);
}

static void test_what_is_open_is_held_and_given_back(void **state)
{
    struct fact_request rq = request_of(1, wall);

    (void)state;
    reserve(0, &rq);
    run();
    assert_budgets_are_true(0);
    assert_int_equal(number(books, "SELECT held_nano FROM budget_windows WHERE account = 'global'"), 200001);
    finish(0, 1, &rq);
    run();
    assert_budgets_are_true(0);
    assert_int_equal(number(books, "SELECT held_nano FROM budget_windows WHERE account = 'global'"), 0);
    assert_int_equal(number(books, "SELECT count(*) FROM budget_windows WHERE account = 'key:globex/web' "
                                   "AND period = 'day' AND ends_at IS NOT NULL"),
                     1);
}

static unsigned losing;
static enum err_code lose_commit(void *user, const char *what)
{
    (void)user;
    if (strcmp(what, "commit") != 0 || !losing)
        return ERR_OK;
    losing--;
    return ERR_TIMEOUT;
}

/* The history writer's own handle, since faults belong to one. */
static void start_history_on(struct db *db)
{
    struct history_options o = {.db = db, .instance = ME, .stories_max = 2000, .now = fake_wall};

    history = writer_to(&TARGET_HISTORY, target_history_new(&o, &why));
}

static void test_a_lost_reply_counts_once_in_both(void **state)
{
    struct db_fault fault = {.after = lose_commit};
    struct db *mine = db_share(books);

    (void)state;
    stop(&history);
    assert_non_null(mine);
    start_history_on(mine);
    run();
    db_set_fault(mine, &fault);
    for (unsigned i = 0; i < 5; i++) {
        losing = 1;
        between->losing = 1;
        play_many(i * 50, 50);
        run();
    }
    assert_int_equal(stats_of(history).duplicates, 5);
    assert_int_equal(stats_of(realtime).duplicates, 5);
    assert_hours_are_true();
    assert_ledger_is_true();
    assert_budgets_are_true(0);
}

static unsigned failing;
static enum err_code fail_some(void *user, const char *what)
{
    (void)user;
    (void)what;
    return failing && chance(NULL) % 4 == 0 ? ERR_IO : ERR_OK;
}

static void test_failures_in_the_middle_leave_nothing_half_done(void **state)
{
    struct db_fault fault = {.before = fail_some, .after = fail_some};
    struct db *mine = db_share(books);

    (void)state;
    stop(&history);
    start_history_on(mine);
    run();
    db_set_fault(mine, &fault);
    for (unsigned i = 0; i < 6; i++) {
        failing = 1;
        play_many(i * 50, 50);
        run_one(history, 20);
        failing = 0;
        run();
    }
    assert_true(stats_of(history).errors > 5);
    assert_hours_are_true();
    assert_ledger_is_true();
    assert_budgets_are_true(0);
}

static void test_memory_that_begins_empty_is_filled_from_the_history(void **state)
{
    char *before, *after, *tenants, now[KV_KEY_CAP];

    (void)state;
    play_many(0, 200);
    adjust(9000, 5);
    run();
    play_many(200, 20); /* the history store is behind */
    run_one(realtime, 4);
    before = dump("{gw}:h:");
    assert_true(strlen(before) > 1000);
    kv_key_tenants(now, wall);
    tenants = dump(now);
    assert_true(strlen(tenants) > 100);

    stop(&realtime);
    fresh_kv();
    start_realtime_as(ME, false);
    run_one(realtime, 4);
    after = dump("{gw}:h:");
    assert_string_equal(before, after);
    assert_int_equal(stats_of(realtime).gaps, 0);
    free(after);
    after = dump(now);
    assert_string_equal(tenants, after);
    free(after);
    free(tenants);

    run();
    after = dump("{gw}:h:");
    assert_string_equal(before, after);
    assert_hours_are_true();
    assert_budgets_are_true(5);
    free(before);
    free(after);
}

static void wipe_one(void *user, struct span key, struct span ttl)
{
    char text[KV_KEY_CAP];

    (void)ttl;
    (void)span_copy(text, sizeof(text), key);
    kv_batch_delete(user, text);
}

static void wipe(void)
{
    struct kv_batch *b = kv_batch_new();

    assert_ok(kv_scan(look, "{gw}:", wipe_one, b, &why));
    assert_ok(kv_write(look, b, &why));
    kv_batch_free(b);
}

static void test_a_store_that_is_emptied_under_way_is_filled_again(void **state)
{
    (void)state;
    play_many(0, 200);
    run();
    wipe();
    run();
    assert_int_equal(stats_of(realtime).mismatches, 0); /* nothing was sent: it was asked */
    assert_hours_are_true();
    assert_budgets_are_true(0);

    wipe();
    play_many(200, 50);
    run();
    assert_int_equal(stats_of(realtime).mismatches, 1);
    assert_hours_are_true();
    assert_budgets_are_true(0);

    wipe();
    between->losing = 1; /* of the refill itself */
    play_many(250, 50);
    run();
    run();
    assert_hours_are_true();
    assert_budgets_are_true(0);
}

static void note_total(void *user, struct span key, struct span ttl)
{
    if (span_is(key, "{gw}:bud:global:total"))
        *(int64_t *)user = strtoll(ttl.p, NULL, 10);
}

static int64_t ttl_of_total(void)
{
    int64_t ttl_s = 0;

    assert_ok(kv_scan(look, "{gw}:bud:", note_total, &ttl_s, &why));
    return ttl_s;
}

/* Whatever else is written meanwhile keeps the store from being taken for an emptied one. */
static void test_a_window_without_an_end_is_kept_for_years_written_or_filled(void **state)
{
    (void)state;
    play_many(0, 50);
    run();
    assert_in_range(ttl_of_total(), KV_TTL_TOTAL_S - 5, KV_TTL_TOTAL_S);
    wipe();
    run();
    assert_in_range(ttl_of_total(), KV_TTL_TOTAL_S - 5, KV_TTL_TOTAL_S);
}

/* It was others that the store was filled with; our first records came into the history only then, and before ours came into
 * the store the process died. */
static void test_a_store_that_never_heard_of_a_node_gets_all_that_its_journal_has(void **state)
{
    (void)state;
    assert_ok(kv_begin(look, &why));
    play_many(0, 50);
    run_one(history, 5);
    assert_true(number(books, "SELECT count(*) FROM journal_watermarks") == 1);
    stop(&realtime);
    start_realtime();
    run();
    assert_hours_are_true();
    assert_budgets_are_true(0);
}

static void test_nodes_that_are_gone_are_filled_in_for(void **state)
{
    int64_t theirs;
    char key[KV_KEY_CAP];
    struct watermark mark;
    bool found;

    (void)state;
    play_many(0, 100);
    run();
    assert_ok(sql(
        books, "INSERT INTO journal_watermarks (instance, batch, token, positions, updated_at) SELECT '" YOU
               "', batch, token, positions, updated_at FROM journal_watermarks"));
    assert_ok(sql(
        books,
        "INSERT INTO ledger SELECT '" YOU "', seq, line, kind, minute, budget_hour, tenant, key, provider, "
        "model, endpoint, outcome, error, stream_end, usage_source, count, tokens_in, tokens_cached, "
        "tokens_cwrite, tokens_out, tokens_reasoning, images, searches, cost_nano, unpriced, latency_us, "
        "ttft_us, ttft_count FROM ledger"));
    kv_key_hour(key, (struct wall){truth[0].hour * SECOND_US}, truth[0].provider, truth[0].model);
    theirs = field(key, "req");
    wipe();
    play_many(100, 1);
    run();
    assert_ok(kv_watermark(look, YOU, &mark, &found, &why));
    assert_true(found);
    assert_int_equal(field(key, "req"), theirs + truth[0].v[MEASURE_req]);
    run();
    assert_int_equal(field(key, "req"), theirs + truth[0].v[MEASURE_req]);
}

static void test_late_rows_mark_their_hours(void **state)
{
    char text[128];

    (void)state;
    run();
    (void)snprintf(text, sizeof(text), "INSERT INTO aggregated_hours VALUES (%lld, 'ledger', 1, 1)",
                   (long long)HOUR - 7200);
    assert_ok(sql(books, text));
    play(0, 1, (struct wall){(HOUR + 60) * SECOND_US});
    run();
    assert_int_equal(number(books, "SELECT count(*) FROM dirty_hours"), 0); /* the current hour is not late */
    play(0, 2, (struct wall){(HOUR - 7200 + 60) * SECOND_US});
    run();
    assert_int_equal(number(books, "SELECT hour FROM dirty_hours"), HOUR - 7200);
    int64_t since = number(books, "SELECT since FROM dirty_hours");
    play(0, 3, (struct wall){(HOUR - 7200 + 60) * SECOND_US});
    run();
    assert_true(number(books, "SELECT since FROM dirty_hours") > since);
    (void)snprintf(text, sizeof(text), "INSERT INTO aggregated_hours VALUES (%lld, 'ledger', 1, 1)",
                   (long long)HOUR);
    assert_ok(sql(books, text));
    play(0, 4, (struct wall){(HOUR + 60) * SECOND_US});
    run();
    assert_int_equal(number(books, "SELECT count(*) FROM dirty_hours"), 2);
}

static void test_what_is_older_than_retention_is_not_shown_but_booked(void **state)
{
    char *all;

    (void)state;
    play(0, 1, (struct wall){(HOUR - 6 * 3600) * SECOND_US});
    run();
    all = dump("{gw}:h:");
    assert_string_equal(all, "");
    free(all);
    assert_ledger_is_true();
    assert_int_equal(stats_of(realtime).batches, 1);
    assert_budgets_are_true(0); /* its month is not over */
}

struct errors {
    unsigned n;
    char first[400];
};
static void take_error(void *user, struct span at, struct span json)
{
    struct errors *e = user;

    (void)at;
    if (!e->n++)
        (void)span_copy(e->first, sizeof(e->first), json);
}

static void test_the_newest_hundred_errors_of_a_provider_are_kept(void **state)
{
    struct errors e = {0};
    char key[KV_KEY_CAP], want[64];
    uint64_t last = 0;

    (void)state;
    for (uint64_t n = 0; n < 300; n++) {
        if (n % 17 == 0)
            continue;
        play(0, n * 30 + 5, wall); /* every fifth fails at its end, on one provider or the other */
        last = n * 30 + 5;
    }
    run();
    kv_key_errors(key, label_text(attempt_of(last, (unsigned)(last % 3), true, 0).provider));
    assert_ok(kv_list(look, key, 1000, take_error, &e, &why));
    assert_int_equal(e.n, 100);
    (void)snprintf(want, sizeof(want), "number %llu failed", (unsigned long long)last);
    assert_non_null(strstr(e.first, want));
    assert_non_null(strstr(e.first, "\"error\":\"upstream_error\""));
    assert_non_null(strstr(e.first, "\"http_status\":503"));
    assert_non_null(strstr(e.first, "\"latency_ms\":"));
    assert_non_null(strstr(e.first, "\"tenant\":\""));
}

static void test_the_live_view_knows_tenants_and_instances(void **state)
{
    char key[KV_KEY_CAP];

    (void)state;
    play(0, 1, wall);
    play(0, 4, wall);
    run();
    kv_key_tenants(key, wall);
    assert_int_equal(field(key, "globex/web req"), 1);
    assert_int_equal(field(key, "globex/batch req"), 1);
    assert_int_equal(field(key, "globex/web tok"), 151);
    kv_key_instance(key, ME);
    assert_true(field(key, "seen") >= T0);
    assert_int_equal(field(key, "pid"), getpid());
}

struct sums_of_keys {
    int64_t attempts, cost, in_buckets;
};
struct keys { /* a scan's callback may not call the store */
    char v[64][KV_KEY_CAP];
    size_t n;
};

static void take_key(void *user, struct span name, struct span ttl)
{
    struct keys *k = user;

    (void)ttl;
    assert_true(k->n < ARRAY_LEN(k->v));
    (void)span_copy(k->v[k->n++], KV_KEY_CAP, name);
}

static struct sums_of_keys sums_under(const char *prefix)
{
    struct sums_of_keys s = {0};
    struct keys keys = {.n = 0};

    assert_ok(kv_scan(look, prefix, take_key, &keys, &why));
    for (size_t i = 0; i < keys.n; i++) {
        s.attempts += field(keys.v[i], "attempts");
        s.cost += field(keys.v[i], "cost_nano");
        assert_ok(kv_hash(look, keys.v[i], sum_buckets, &s.in_buckets, &why));
    }
    return s;
}

static void test_ten_seconds_of_a_provider_are_those_of_its_models(void **state)
{
    struct sums_of_keys models, providers;

    (void)state;
    for (uint64_t i = 0; i < 40; i++)
        play((unsigned)(i % 2), i, (struct wall){wall.us - (int64_t)i * SECOND_US});
    run();
    models = sums_under("{gw}:t:");
    providers = sums_under("{gw}:p:");
    assert_true(models.attempts > 0 && models.cost > 0 && models.in_buckets == models.attempts);
    assert_memory_equal(&models, &providers, sizeof(models));
}

static void test_old_and_surplus_stories_go(void **state)
{
    (void)state;
    play_many(0, 300);
    play(0, 1000, (struct wall){wall.us - 8 * 86400 * SECOND_US});
    run();
    wall.us += 60 * SECOND_US;
    run();
    assert_int_equal(number(books, "SELECT count(*) FROM requests"), 300); /* one was too old */
    for (uint64_t i = 0; i < 5; i++) {
        play_many(2000 + i * 500, 500);
        run();
    }
    wall.us += 120 * SECOND_US;
    run_one(history, 10);
    assert_int_equal(number(books, "SELECT count(*) FROM requests"), 2000);
    assert_int_equal(number(books, "SELECT CAST(sum(count) AS bigint) FROM ledger WHERE kind = 'request'"),
                     true_requests);
}

static enum err_code refuse_stories(void *user, const char *what)
{
    (void)user;
    return strcmp(what, "requests_insert") == 0 ? ERR_BAD_REQUEST : ERR_OK;
}

static void test_of_many_successes_and_refusals_in_a_second_some_are_told_and_all_are_counted(void **state)
{
    struct history_options o = {
        .db = db_share(books), .instance = ME, .stories_per_second = 20, .now = fake_wall};
    int64_t failed;

    (void)state;
    stop(&history);
    history = writer_to(&TARGET_HISTORY, target_history_new(&o, &why));
    for (uint64_t i = 0; i < 400; i++)
        play(i % 2, i, wall); /* two workers, one second */
    run();
    failed = number(books, "SELECT CAST(sum(count) AS bigint) FROM ledger WHERE kind = 'request' AND outcome "
                           "NOT IN ('success', 'rejected')");
    assert_true(failed > 20);
    assert_in_range(number(books, "SELECT count(*) FROM requests"), failed + 20,
                    350) /* durations spread their ends */;
    assert_int_equal(
        number(books, "SELECT count(*) FROM requests WHERE CAST(story AS text) LIKE '%rejected%'"),
        20); /* of 24 */
    assert_int_equal(number(books, "SELECT CAST(sum(count) AS bigint) FROM ledger WHERE kind = 'request'"),
                     true_requests);
}

static void test_a_story_that_the_store_refuses_does_not_hold_up_the_money(void **state)
{
    struct db_fault fault = {.before = refuse_stories};
    struct db *mine = db_share(books);

    (void)state;
    stop(&history);
    start_history_on(mine);
    run();
    db_set_fault(mine, &fault);
    play_many(0, 50);
    run();
    db_set_fault(mine, NULL);
    true_stories = 0;
    assert_ledger_is_true();
}

/* An operator's roll-up, by a clock that is ahead, between the last statement of a batch and its commit. */
static enum err_code roll_up_now(struct db *db)
{
    struct aggregate_options o = {
        .db = db, .source = AGGREGATE_LEDGER, .now = {wall.us + 2 * 3600 * SECOND_US}};
    struct aggregate_result r;

    return aggregate_run(&o, &r, &why);
}
static enum err_code roll_up_before_commit(void *user, const char *what)
{
    if (strcmp(what, "commit") == 0)
        (void)roll_up_now(user);
    return ERR_OK;
}

static void test_a_batch_and_a_roll_up_at_once_leave_no_hour_wrong(void **state)
{
    struct db *mine = db_share(books), *other = db_share(books);
    struct db_fault fault = {.before = roll_up_before_commit, .user = other};

    (void)state;
    db_set_deadline(other, SECOND_US / 5);
    stop(&history);
    start_history_on(mine);
    for (uint64_t i = 0; i < 20; i++)
        play(0, i, wall);
    run();
    db_set_fault(mine, &fault);
    for (uint64_t i = 20; i < 40; i++)
        play(0, i, wall);
    run();
    db_set_fault(mine, NULL);
    db_free(other);
    assert_ok(roll_up_now(books));
    assert_int_equal(number(books, "SELECT count(*) FROM dirty_hours"), 0);
    assert_int_equal(number(books, "SELECT CAST(sum(attempts) AS bigint) FROM metrics_hourly_aggregates"),
                     true_attempts);
    assert_int_equal(number(books, "SELECT CAST(sum(cost_nano) AS bigint) FROM metrics_hourly_aggregates"),
                     true_cost);
}

static void test_a_database_that_is_made_anew_gets_what_the_journal_still_has(void **state)
{
    (void)state;
    play_many(0, 30);
    run();
    if (store.dialect == DB_SQLITE) /* its file cannot be exchanged while it is open */
        return;
    assert_ok(sql(books, "DROP SCHEMA public CASCADE"));
    assert_ok(sql(books, "CREATE SCHEMA public"));
    play_many(30, 10);
    run();
    run();
    assert_false(stats_of(history).is_down);
    assert_ledger_is_true();
    assert_budgets_are_true(0);
    assert_int_equal(number(books, "SELECT count(*) FROM tenant_events WHERE kind = 'first_answer'"), 3);
    assert_ok(sql(books, "DROP SCHEMA public CASCADE"));
    assert_ok(sql(books, "CREATE SCHEMA public"));
    run_one(history, 30); /* nothing is sent: it is asked */
    assert_ledger_is_true();
}

static void test_keys_whose_accounts_have_one_name_share_their_windows(void **state)
{
    static const char *const NAMES[][2] = {{"a/b", "c"}, {"a", "b/c"}};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct fact_request rq = request_of(i, wall);

        rq.tenant = intern_z(NAMES[i][0]);
        rq.key = intern_z(NAMES[i][1]);
        reserve(0, &rq);
    }
    run();
    assert_false(stats_of(history).is_down);
    assert_int_equal(
        number(books,
               "SELECT CAST(sum(held_nano) AS bigint) FROM budget_windows WHERE account = 'key:a/b/c'"),
        true_held);
}

/* What stands under a key of ours that somebody else wrote. */
static void spoil(const char *key)
{
    struct kv_batch *b = kv_batch_new();

    kv_batch_delete(b, key);
    kv_batch_push(b, key, SPAN_LIT("not ours"), 10);
    kv_batch_expire(b, key, 3600, false);
    assert_ok(kv_write(look, b, &why));
    kv_batch_free(b);
}

static void test_a_key_that_the_realtime_store_refuses_does_not_hold_up_the_others(void **state)
{
    char hour[KV_KEY_CAP];

    (void)state;
    spoil("{gw}:bud:global:total");
    kv_key_hour(hour, wall, "openrouter", "openai/gpt-4o-mini");
    spoil(hour);
    for (uint64_t i = 0; i < 50; i++)
        play(i % 2, i, wall);
    run();
    assert_false(stats_of(realtime).is_down);
    assert_int_equal(stats_of(realtime).lag_us, 0);
    kv_key_hour(hour, wall, "anthropic", "a:b%c");
    for (size_t i = 0; i < n_truth; i++)
        if (strcmp(truth[i].provider, "anthropic") == 0 && strcmp(truth[i].model, "a:b%c") == 0 &&
            truth[i].hour == HOUR)
            assert_int_equal(field(hour, "cost_nano"), truth[i].v[MEASURE_cost_nano]);
    assert_ledger_is_true();
}

/* More than Redis' numbers hold: a site that has spent nine million dollars, or a provider that reports nonsense. */
static void test_an_amount_beyond_the_realtime_store_does_not_hold_up_the_others(void **state)
{
    struct fact_request rq = request_of(1, wall);
    struct fact_attempt a[FACT_ATTEMPTS] = {attempt_of(2, 0, true, 0)};
    struct fact_context c = context_of(&rq);

    (void)state;
    a[0].cost_nanousd = (int64_t)1 << 60;
    rq.attempts = 1;
    rq.provider = a[0].provider;
    rq.model = a[0].model;
    rq.cost_nanousd = a[0].cost_nanousd;
    assert_int_equal(journal_attempt(journals[0], &c, &a[0]), ERR_OK);
    assert_int_equal(journal_settle(journals[0], &rq, a), ERR_OK);
    run();
    assert_false(stats_of(realtime).is_down);
    assert_int_equal(stats_of(realtime).lag_us, 0);
    assert_int_equal(number(books, "SELECT cost_nano FROM ledger WHERE kind = 'request'"), (int64_t)1 << 60);
    /* Nor when the store has to be filled again. */
    wipe();
    play_many(100, 5);
    run();
    assert_false(stats_of(realtime).is_down);
    assert_int_equal(stats_of(realtime).lag_us, 0);
}

static void test_the_next_run_goes_on_in_both_stores(void **state)
{
    (void)state;
    play_many(0, 100);
    run();
    play_many(100, 50);
    (void)writer_step(history);
    go_down();
    come_up();
    run();
    assert_hours_are_true();
    assert_ledger_is_true();
    assert_budgets_are_true(0);
    assert_int_equal(number(books, "SELECT count(*) FROM tenant_events WHERE kind = 'first_answer'"), 3);
}

#ifdef CRASH_POINTS
static enum crash_point deadly;
static unsigned deadly_nth;

static void die(enum crash_point p)
{
    if (p == deadly && !--deadly_nth)
        (void)kill(getpid(), SIGKILL);
}

/* In a process of its own: works on what there is until it dies. */
static bool live_until(enum crash_point p, unsigned nth)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        deadly = p;
        deadly_nth = nth;
        crash_hook = die;
        come_up();
        run();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

static void test_a_death_at_any_point_leaves_the_books_true(void **state)
{
    uint64_t next = 0;
    unsigned deaths = 0;

    (void)state;
    for (int p = CRASH_batch_opened; p <= CRASH_cursor_committed; p++) {
        for (unsigned nth = 1; nth <= 2; nth++) {
            play_many(next, 10);
            next += 10;
            go_down();
            deaths += live_until((enum crash_point)p, nth);
            come_up();
            run();
            assert_hours_are_true();
            assert_ledger_is_true();
            assert_budgets_are_true(0);
        }
    }
    /* At each place, but for those of a store that is empty or out of step. */
    assert_true(deaths >= CRASH_cursor_committed - CRASH_batch_opened + 1 - 4);
}
#endif

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest TESTS[] = {
    T(test_all_books_say_the_same),
#ifdef CRASH_POINTS
    T(test_a_death_at_any_point_leaves_the_books_true),
#endif
    T(test_what_is_open_is_held_and_given_back),
    T(test_a_lost_reply_counts_once_in_both),
    T(test_failures_in_the_middle_leave_nothing_half_done),
    T(test_memory_that_begins_empty_is_filled_from_the_history),
    T(test_a_store_that_is_emptied_under_way_is_filled_again),
    T(test_a_window_without_an_end_is_kept_for_years_written_or_filled),
    T(test_a_store_that_never_heard_of_a_node_gets_all_that_its_journal_has),
    T(test_nodes_that_are_gone_are_filled_in_for),
    T(test_late_rows_mark_their_hours),
    T(test_what_is_older_than_retention_is_not_shown_but_booked),
    T(test_the_newest_hundred_errors_of_a_provider_are_kept),
    T(test_the_live_view_knows_tenants_and_instances),
    T(test_ten_seconds_of_a_provider_are_those_of_its_models),
    T(test_old_and_surplus_stories_go),
    T(test_of_many_successes_and_refusals_in_a_second_some_are_told_and_all_are_counted),
    T(test_a_story_that_the_store_refuses_does_not_hold_up_the_money),
    T(test_a_batch_and_a_roll_up_at_once_leave_no_hour_wrong),
    T(test_a_database_that_is_made_anew_gets_what_the_journal_still_has),
    T(test_keys_whose_accounts_have_one_name_share_their_windows),
    T(test_a_key_that_the_realtime_store_refuses_does_not_hold_up_the_others),
    T(test_an_amount_beyond_the_realtime_store_does_not_hold_up_the_others),
    T(test_the_next_run_goes_on_in_both_stores),
};

int main(void)
{
    int failed = cmocka_run_group_tests_name("targets, sqlite", TESTS, sqlite_group, NULL);

    if (postgres_starts())
        failed += cmocka_run_group_tests_name("targets, postgres", TESTS, postgres_group, postgres_group_end);
    if (redis_server_is_installed())
        failed +=
            cmocka_run_group_tests_name("targets, sqlite and redis", TESTS, redis_group, redis_group_end);
    return failed;
}
