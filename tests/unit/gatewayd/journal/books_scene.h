/* SPDX-License-Identifier: Apache-2.0 */
/* Both stores behind their writers: real journals, a real history store, the realtime store in memory. What requests did is
 * counted here as well, by hand; every book must say the same. */
#ifndef TESTS_BOOKS_SCENE_H
#define TESTS_BOOKS_SCENE_H

#include "gatewayd/journal/targets.h"

#include "libshared/catalog/period.h"
#include "libshared/store/kv_keys.h"
#include "libshared/store/measures.h"
#include "tests/unit/gatewayd/journal/facts_sample.h"
#include "tests/unit/gatewayd/journal/fake_time.h"
#include "tests/unit/libshared/store/db_fixture.h"
#include "tests/unit/libshared/store/redis_server.h"

static struct redis_server redis; /* of the group that has one */

static int redis_group(void **state)
{
    redis_server_start(&redis, NULL);
    return sqlite_group(state);
}
static int redis_group_end(void **state)
{
    (void)state;
    redis_server_end(&redis);
    return 0;
}

#define T0        ((int64_t)1790000000) /* 13 minutes and 20 seconds past an hour */
#define HOUR      ((int64_t)(T0 / 3600 * 3600))
#define MAX_BYTES (16 * JOURNAL_SEGMENT)
#define ME        "0192f0c1-0000-7000-8000-000000000001"
#define YOU       "0192f0c1-0000-7000-8000-000000000002"
#define BOOKS     64u

/* ---- a realtime store in between, that may lose replies or be called otherwise ---- */

struct between {
    struct kv *inner;
    unsigned losing; /* so many replies of batches */
};
static struct between *between;

static void between_free(void *self)
{
    struct between *b = self;

    kv_free(b->inner);
    free(b);
}
static enum store_result between_apply(void *self, int kind, const char *instance,
                                       const struct watermark *from, const struct watermark *next,
                                       const struct kv_batch *b, struct err *err)
{
    struct between *me = self;
    enum store_result r;

    if (kind == KV_WRITE)
        return kv_write(me->inner, b, err) == ERR_OK ? STORE_APPLIED : STORE_FAILED;
    r = kind == KV_APPLY ? kv_apply(me->inner, instance, from, next, b, err)
                         : kv_refill(me->inner, instance, next, b, err);
    if (!me->losing)
        return r;
    me->losing--;
    (void)err_set(err, ERR_TIMEOUT, "the reply is lost");
    return STORE_FAILED;
}
static enum err_code between_watermark(void *self, const char *instance, struct watermark *out, bool *found,
                                       struct err *err)
{
    return kv_watermark(((struct between *)self)->inner, instance, out, found, err);
}
static enum err_code between_read(void *self, int what, const char *key, int64_t a, int64_t b, kv_field_fn fn,
                                  void *user, struct err *err)
{
    (void)a;
    (void)b;
    assert_int_equal(what, KV_READ_HASH);
    return kv_hash(((struct between *)self)->inner, key, fn, user, err);
}
static const struct kv_ops BETWEEN = {.name = "between",
                                      .free = between_free,
                                      .apply = between_apply,
                                      .watermark = between_watermark,
                                      .read = between_read};

/* ---- the scene ---- */

static char dir[64];
static struct journal *journals[2];
static struct kv *look; /* the same memory as the target's */
static struct db *books;
static struct writer *realtime, *history;

static struct {
    int64_t hour;
    char provider[32], model[64];
    int64_t v[MEASURE_COUNT];
} truth[BOOKS];
static size_t n_truth;
static int64_t true_cost, true_requests, true_attempts, true_held, true_stories;

/* An empty one. */
static void fresh_kv(void)
{
    struct kv_options o = {.url = redis.pid ? redis.url : "", .now = fake_wall};
    char answer[64];

    if (redis.pid)
        redis_server_ask(&redis, "FLUSHALL", answer, sizeof(answer));
    kv_free(look);
    look = kv_new(&o, &why);
    assert_non_null(look);
}

static struct writer *writer_to(const struct target_ops *ops, void *self)
{
    struct writer_options o = {.ops = ops,
                               .self = self,
                               .journals = journals,
                               .n_journals = 2,
                               .wall_now = fake_wall,
                               .mono_now = fake_mono,
                               .random = chance};
    struct writer *w = writer_new(&o, &why);

    assert_non_null(w);
    return w;
}

static void start_history(void)
{
    struct history_options o = {.db = db_share(books), .instance = ME, .stories_max = 2000, .now = fake_wall};

    assert_non_null(o.db);
    history = writer_to(&TARGET_HISTORY, target_history_new(&o, &why));
}

static void start_realtime_as(const char *instance, bool is_wrapped)
{
    struct realtime_options o = {.kv = kv_share(look),
                                 .refill = db_share(books),
                                 .instance = instance,
                                 .name = "localhost:8080",
                                 .now = fake_wall};

    assert_non_null(o.kv);
    if (is_wrapped) {
        between = calloc(1, sizeof(*between));
        between->inner = o.kv;
        o.kv = kv_wrap(&BETWEEN, between);
    }
    realtime = writer_to(&TARGET_REALTIME, target_realtime_new(&o, &why));
}

static void start_realtime(void)
{
    start_realtime_as(ME, true);
}

static void stop(struct writer **w)
{
    writer_free(*w);
    *w = NULL;
}

static void run_one(struct writer *w, unsigned seconds)
{
    struct mono end = mono_add_us(mono, seconds * SECOND_US);

    while (w && mono.us < end.us) {
        int64_t us = writer_step(w);

        mono.us += us > 0 ? us : 1;
        wall.us += us > 0 ? us : 1;
    }
}

static void run(void)
{
    run_one(history, 4);
    run_one(realtime, 4);
}

/* One life of the process, but for its threads. */
static void come_up(void)
{
    for (unsigned i = 0; i < 2; i++) {
        journals[i] = journal_open(dir, i, MAX_BYTES, &why);
        if (!journals[i])
            fail_msg("%s", err_text(&why));
    }
    books = open_db();
    start_history();
    start_realtime();
}

static void go_down(void)
{
    stop(&history);
    stop(&realtime);
    db_free(books);
    for (unsigned i = 0; i < 2; i++)
        journal_close(journals[i]);
}

static int setup(void **state)
{
    int rc = each_setup(state);

    wall = (struct wall){T0 * SECOND_US};
    mono = (struct mono){SECOND_US};
    seed = 88172645463325252u;
    n_truth = 0;
    memset(truth, 0, sizeof(truth));
    true_cost = true_requests = true_attempts = true_held = true_stories = 0;
    scratch_make(dir);
    look = NULL;
    fresh_kv();
    come_up();
    run(); /* both begin at the beginning */
    return rc;
}

static int teardown(void **state)
{
    go_down();
    kv_free(look);
    look = NULL;
    scratch_remove(dir);
    return each_teardown(state);
}

/* ---- requests ---- */

static int64_t *truth_at(int64_t end_us, const char *provider, const char *model)
{
    int64_t hour = end_us / SECOND_US / 3600 * 3600;
    size_t i = 0;

    while (i < n_truth && (truth[i].hour != hour || strcmp(truth[i].provider, provider) != 0 ||
                           strcmp(truth[i].model, model) != 0))
        i++;
    if (i == n_truth) {
        assert_true(n_truth < BOOKS);
        truth[n_truth++].hour = hour;
        (void)snprintf(truth[i].provider, sizeof(truth[i].provider), "%s", provider);
        (void)snprintf(truth[i].model, sizeof(truth[i].model), "%s", model);
    }
    return truth[i].v;
}

static void count_attempt(struct wall arrived, const struct fact_attempt *a)
{
    int64_t *v =
        truth_at(arrived.us + a->started_us + a->duration_us, label_text(a->provider), label_text(a->model));

    true_attempts++;
    v[MEASURE_attempts]++;
    v[MEASURE_ok] += a->status == STATUS_SUCCESS;
    v[MEASURE_err] += a->status == STATUS_ERROR;
    v[MEASURE_tin] += (int64_t)a->usage.input;
    v[MEASURE_tcached] += (int64_t)a->usage.cached;
    v[MEASURE_tout] += (int64_t)a->usage.output;
    v[MEASURE_treason] += (int64_t)a->usage.reasoning;
    v[MEASURE_cost_nano] += a->cost_nanousd;
    v[MEASURE_unpriced] += a->usage.source != USAGE_NONE && !a->is_priced;
    v[MEASURE_lat_us] += a->duration_us;
    if (a->ttft_us >= 0) {
        v[MEASURE_ttfb_us] += a->ttft_us;
        v[MEASURE_ttfb_n]++;
    }
}

static void add_usage(struct usage *sum, const struct usage *u)
{
    sum->input += u->input;
    sum->cached += u->cached;
    sum->output += u->output;
    sum->reasoning += u->reasoning;
    if (u->source > sum->source)
        sum->source = u->source;
}

static struct fact_attempt attempt_of(uint64_t n, unsigned i, bool is_last, int64_t started_us)
{
    static const char *const PROVIDERS[] = {"openrouter", "anthropic"};
    static const char *const MODELS[] = {"openai/gpt-4o-mini", "a:b%c"};
    struct fact_attempt a = {.provider = intern_z(PROVIDERS[(n + i) % 2]),
                             .model = intern_z(MODELS[(n / 2 + i) % 2]),
                             .status = STATUS_ERROR,
                             .error = ERR_UP_SERVER,
                             .http_status = 503,
                             .number = (uint8_t)(i + 1),
                             .started_us = started_us,
                             .duration_us = 1000 + (int64_t)(chance(NULL) % 4000000),
                             .ttft_us = -1};

    if (is_last && n % 5) {
        a.status = n % 7 ? STATUS_SUCCESS : STATUS_CANCELLED;
        a.error = n % 7 ? ERR_OK : ERR_CLIENT_GONE;
        a.http_status = 200;
        a.ttft_us = a.duration_us / 2;
        a.usage = (struct usage){
            .input = 100 + n % 9, .cached = n % 3, .output = 50, .reasoning = 7, .source = USAGE_REPORTED};
        a.is_priced = n % 11 != 0;
        a.cost_nanousd = a.is_priced ? 1000 + (int64_t)(chance(NULL) % 100000) : 0;
    }
    return a;
}

static struct fact_request request_of(uint64_t n, struct wall arrived)
{
    static const char *const TENANTS[] = {"acme", "globex", "initech"};

    return (struct fact_request){.id = sample_id(n),
                                 .arrived = arrived,
                                 .tenant = intern_z(TENANTS[n % 3]),
                                 .key = intern_z(n % 2 ? "web" : "batch"),
                                 .requested = intern_z("chat"),
                                 .method = intern_z("POST"),
                                 .endpoint = intern_z("/v1/chat/completions"),
                                 .op = OP_CHAT,
                                 .http_status = 200,
                                 .ttft_us = -1,
                                 .is_priced = true,
                                 .reservation = {.amount_nanousd = 200000 + (int64_t)(n % 100),
                                                 .at = arrived,
                                                 .key_period = PERIOD_DAY,
                                                 .tenant_period = PERIOD_MONTH,
                                                 .global_period = PERIOD_TOTAL}};
}

static struct fact_context context_of(const struct fact_request *rq)
{
    return (struct fact_context){rq->id, rq->arrived, rq->tenant, rq->key, rq->op};
}

static void reserve(unsigned worker, const struct fact_request *rq)
{
    struct fact_open o = {
        .context = context_of(rq), .reservation = rq->reservation, .requested = rq->requested};

    assert_int_equal(journal_reserve(journals[worker], &o), ERR_OK);
    true_held += rq->reservation.amount_nanousd;
}

static void refuse(unsigned worker, struct fact_request *rq)
{
    struct fact_attempt none[FACT_ATTEMPTS] = {{0}};

    rq->tenant = rq->key = 0;
    rq->status = STATUS_REJECTED;
    rq->error = ERR_BAD_KEY;
    rq->http_status = 401;
    rq->duration_us = 50;
    rq->reservation = (struct fact_reservation){0};
    assert_int_equal(journal_settle(journals[worker], rq, none), ERR_OK);
}

static void attempt_all(unsigned worker, uint64_t n, struct fact_request *rq, struct fact_attempt *a)
{
    struct fact_context c = context_of(rq);
    int64_t at = 200;

    rq->attempts = (uint8_t)(1 + n % 3);
    for (unsigned i = 0; i < rq->attempts; i++) {
        a[i] = attempt_of(n, i, i + 1u == rq->attempts, at);
        at += a[i].duration_us + 100;
        assert_int_equal(journal_attempt(journals[worker], &c, &a[i]), ERR_OK);
        count_attempt(rq->arrived, &a[i]);
        add_usage(&rq->usage, &a[i].usage);
        rq->cost_nanousd += a[i].cost_nanousd;
        rq->is_priced &= a[i].is_priced || a[i].usage.source == USAGE_NONE;
        rq->provider = a[i].provider;
        rq->model = a[i].model;
        rq->status = a[i].status;
        rq->error = a[i].error;
    }
    rq->duration_us = at;
}

static void finish(unsigned worker, uint64_t n, struct fact_request *rq)
{
    struct fact_attempt a[FACT_ATTEMPTS] = {{0}};

    attempt_all(worker, n, rq, a);
    true_held -= rq->reservation.amount_nanousd;
    if (rq->error)
        (void)snprintf(rq->detail, sizeof(rq->detail), "number %llu failed", (unsigned long long)n);
    assert_int_equal(journal_settle(journals[worker], rq, a), ERR_OK);
    truth_at(rq->arrived.us + rq->duration_us, label_text(rq->provider),
             label_text(rq->model))[MEASURE_req]++;
    true_cost += rq->cost_nanousd;
}

static void play(unsigned worker, uint64_t n, struct wall arrived)
{
    struct fact_request rq = request_of(n, arrived);

    true_requests++;
    true_stories++;
    if (n % 17 == 0) {
        refuse(worker, &rq);
        return;
    }
    reserve(worker, &rq);
    finish(worker, n, &rq);
}

/* Over the last two hours. */
static void play_many(uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++)
        play((unsigned)(i % 2), i,
             (struct wall){wall.us - (int64_t)(chance(NULL) % (7200 * SECOND_US)) - 60 * SECOND_US});
}

static void adjust(uint64_t n, int64_t amount)
{
    struct fact_adjust a = {.id = sample_id(n),
                            .at = wall,
                            .tenant = intern_z("acme"),
                            .key = intern_z("web"),
                            .provider = intern_z("openrouter"),
                            .model = intern_z("openai/gpt-4o-mini"),
                            .amount_nanousd = amount,
                            .who = "operator",
                            .why = "refund"};

    assert_int_equal(journal_adjust(journals[0], &a), ERR_OK);
    truth_at(wall.us, "openrouter", "openai/gpt-4o-mini")[MEASURE_cost_nano] += amount;
}

/* ---- looking ---- */

struct field {
    const char *name;
    int64_t value;
    bool found;
};
static void take_field(void *user, struct span name, struct span value)
{
    struct field *f = user;
    char text[64];

    if (!span_is(name, f->name))
        return;
    (void)span_copy(text, sizeof(text), value);
    f->value = strtoll(text, NULL, 10);
    f->found = true;
}
static int64_t field(const char *key, const char *name)
{
    struct field f = {.name = name};

    assert_ok(kv_hash(look, key, take_field, &f, &why));
    return f.value;
}

static void sum_buckets(void *user, struct span name, struct span value)
{
    char text[64];

    (void)span_copy(text, sizeof(text), value);
    if (name.p[0] == 'b' && name.len > 1 && name.p[1] >= '0' && name.p[1] <= '9')
        *(int64_t *)user += strtoll(text, NULL, 10);
}

static void assert_hours_are_true(void)
{
    for (size_t i = 0; i < n_truth; i++) {
        char key[KV_KEY_CAP];
        int64_t buckets = 0;

        kv_key_hour(key, (struct wall){truth[i].hour * SECOND_US}, truth[i].provider, truth[i].model);
        for (unsigned m = 0; m < MEASURE_COUNT; m++)
            if (field(key, measure_name((enum measure)m)) != truth[i].v[m])
                fail_msg("%s %s is %lld, not %lld", key, measure_name((enum measure)m),
                         (long long)field(key, measure_name((enum measure)m)), (long long)truth[i].v[m]);
        assert_ok(kv_hash(look, key, sum_buckets, &buckets, &why));
        assert_int_equal(buckets, truth[i].v[MEASURE_attempts]);
    }
}

static void assert_ledger_is_true(void)
{
    assert_int_equal(number(books, "SELECT CAST(sum(count) AS bigint) FROM ledger WHERE kind = 'request'"),
                     true_requests);
    assert_int_equal(number(books, "SELECT CAST(sum(count) AS bigint) FROM ledger WHERE kind = 'attempt'"),
                     true_attempts);
    assert_int_equal(
        number(books, "SELECT CAST(sum(cost_nano) AS bigint) FROM ledger WHERE kind = 'request'"), true_cost);
    assert_int_equal(
        number(books, "SELECT CAST(sum(cost_nano) AS bigint) FROM ledger WHERE kind = 'attempt'"), true_cost);
    assert_int_equal(
        number(books,
               "SELECT count(*) FROM (SELECT tenant, key, budget_hour FROM ledger WHERE kind <> 'adjust' "
               "GROUP BY tenant, key, budget_hour HAVING sum(CASE WHEN kind = 'request' THEN cost_nano ELSE "
               "0 END) "
               "<> sum(CASE WHEN kind = 'attempt' THEN cost_nano ELSE 0 END)) AS x"),
        0);
    assert_int_equal(number(books, "SELECT count(*) FROM requests"), true_stories);
}

static bool compare_window(void *user, const struct db_value *c, unsigned n)
{
    char account[300], window[32], key[KV_KEY_CAP];

    assert_int_equal(n, 4);
    (void)span_copy(account, sizeof(account), c[0].s);
    (void)span_copy(window, sizeof(window), c[1].s);
    kv_key_budget(key, account, window);
    if (field(key, "posted") != c[2].i || field(key, "held") != c[3].i)
        fail_msg("%s is %lld and %lld, not %lld and %lld", key, (long long)field(key, "posted"),
                 (long long)field(key, "held"), (long long)c[2].i, (long long)c[3].i);
    ++*(unsigned *)user;
    return true;
}

static void assert_budgets_are_true(int64_t adjusted)
{
    unsigned n = 0;

    assert_ok(db_query(books, "test", "SELECT account, window_id, posted_nano, held_nano FROM budget_windows",
                       NULL, 0, compare_window, &n, &why));
    assert_true(n > 0);
    assert_int_equal(
        number(books, "SELECT CAST(sum(posted_nano) AS bigint) FROM budget_windows WHERE account = 'global'"),
        true_cost + adjusted);
    assert_int_equal(
        number(books, "SELECT CAST(sum(held_nano) AS bigint) FROM budget_windows WHERE account = 'global'"),
        true_held);
    assert_int_equal(
        number(books,
               "SELECT CAST(sum(posted_nano) AS bigint) FROM budget_windows WHERE account LIKE 'tenant:%'"),
        true_cost + adjusted);
    assert_int_equal(
        number(books, "SELECT CAST(sum(held_nano) AS bigint) FROM budget_windows WHERE account LIKE 'key:%'"),
        true_held);
}

struct dump {
    char *lines[8192];
    size_t n;
    const char *key;
};
static void dump_field(void *user, struct span name, struct span value)
{
    struct dump *d = user;

    assert_true(d->n < ARRAY_LEN(d->lines));
    assert_true(asprintf(&d->lines[d->n++], "%s %.*s %.*s", d->key, (int)name.len, name.p, (int)value.len,
                         value.p) > 0);
}
static void dump_key(void *user, struct span key, struct span ttl)
{
    struct dump *d = user;

    (void)ttl;
    d->lines[d->n++] = strndup(key.p, key.len);
}
static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}
/* All hashes below a prefix as sorted text. */
static char *dump(const char *prefix)
{
    static struct dump keys, fields;
    struct buf out = {0};

    keys.n = fields.n = 0;
    assert_ok(kv_scan(look, prefix, dump_key, &keys, &why));
    for (size_t i = 0; i < keys.n; i++) {
        fields.key = keys.lines[i];
        assert_ok(kv_hash(look, keys.lines[i], dump_field, &fields, &why));
    }
    qsort(fields.lines, fields.n, sizeof(char *), by_text);
    for (size_t i = 0; i < fields.n; i++) {
        buf_addz(&out, fields.lines[i]);
        buf_addc(&out, '\n');
        free(fields.lines[i]);
    }
    for (size_t i = 0; i < keys.n; i++)
        free(keys.lines[i]);
    return out.p ? out.p : strdup("");
}

static struct writer_stats stats_of(struct writer *w)
{
    struct writer_stats s;

    writer_stats_mt(w, &s);
    return s;
}

#endif
