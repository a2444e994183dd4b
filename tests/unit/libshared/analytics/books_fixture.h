/* SPDX-License-Identifier: Apache-2.0 */
/* A ledger of made-up traffic, and sums over it that are computed here and not by the code under test. */
#ifndef TESTS_UNIT_BOOKS_FIXTURE_H
#define TESTS_UNIT_BOOKS_FIXTURE_H

#include "tests/unit/libshared/store/db_fixture.h"

#include "libshared/analytics/aggregate_priv.h"
#include "libshared/analytics/reconcile.h"
#include "libshared/catalog/period.h"
#include "libshared/store/kv.h"
#include "libshared/store/kv_keys.h"

#define H0       ((int64_t)1793490000 / 3600 * 3600) /* some hour */
#define CLOCK(s) ((struct wall){(H0 + (s)) * 1000000})

static int64_t next_seq = 1;

struct line {
    const char *kind, *provider, *model, *outcome;
    int64_t minute, tin, tout, cost, latency;
    const char *tenant, *key;
};

static void put_line(struct db *db, struct line l)
{
    struct db_value v[] = {db_textz("i1"),
                           db_int(next_seq++),
                           db_int(0),
                           db_textz(l.kind),
                           db_int(l.minute / 60 * 60),
                           db_int(l.minute / 3600 * 3600),
                           db_textz(l.tenant ? l.tenant : "acme"),
                           db_textz(l.key ? l.key : "web"),
                           db_textz(l.provider),
                           db_textz(l.model),
                           db_textz("/v1/chat/completions"),
                           db_textz(l.outcome),
                           db_textz(""),
                           db_textz("none"),
                           db_textz("reported"),
                           db_int(1),
                           db_int(l.tin),
                           db_int(0),
                           db_int(0),
                           db_int(l.tout),
                           db_int(0),
                           db_int(0),
                           db_int(0),
                           db_int(l.cost),
                           db_int(0),
                           db_int(l.latency),
                           db_int(l.latency / 2),
                           db_int(1)};

    assert_ok(db_insert(
        db, "test", "ledger",
        "instance,seq,line,kind,minute,budget_hour,tenant,key,provider,model,endpoint,outcome,error,"
        "stream_end,usage_source,count,tokens_in,tokens_cached,tokens_cwrite,tokens_out,"
        "tokens_reasoning,images,searches,cost_nano,unpriced,latency_us,ttft_us,ttft_count",
        v, ARRAY_LEN(v), 1, "", &why));
}

static bool take_blob(void *user, const struct db_value *v, unsigned n)
{
    (void)n;
    assert_ok(buf_append(user, v[0].s.p, v[0].s.len));
    return true;
}

/* As the history writer does: merged into the minute's row. */
static void put_latency(struct db *db, int64_t minute, const char *provider, const char *model, int64_t us)
{
    struct buf old AUTO(buf_release) = {0}, bytes AUTO(buf_release) = {0};
    struct sketch s = {0};
    struct db_value v[] = {db_textz("i1"), db_int(minute / 60 * 60), db_textz(provider), db_textz(model),
                           db_null()};

    assert_ok(
        db_query(db, "test",
                 "SELECT sketch FROM minute_sketches WHERE instance = $1 AND minute = $2 AND provider = $3 "
                 "AND model = $4",
                 v, 4, take_blob, &old, &why));
    if (old.len)
        assert_ok(sketch_decode(&s, buf_span(&old)));
    assert_ok(sketch_add(&s, us));
    assert_ok(sketch_encode(&s, &bytes));
    v[4] = db_blob(buf_span(&bytes));
    assert_ok(db_exec(db, "test",
                      "INSERT INTO minute_sketches (instance,minute,provider,model,sketch,ttft) "
                      "VALUES ($1,$2,$3,$4,$5,$5) ON CONFLICT (minute,provider,model,instance) "
                      "DO UPDATE SET sketch = excluded.sketch",
                      v, 5, NULL, &why));
    sketch_release(&s);
}

/* One request with `attempts` attempts, the last of which succeeds. */
static void put_request(struct db *db, int64_t at, const char *provider, const char *model, int attempts,
                        int64_t n)
{
    for (int i = 0; i < attempts; i++) {
        int64_t us = 1000 + n * 137 % 900000;

        put_line(db, (struct line){.kind = "attempt",
                                   .provider = provider,
                                   .model = model,
                                   .outcome = i + 1 < attempts ? "error" : "success",
                                   .minute = at,
                                   .tin = 10 + n,
                                   .tout = 5,
                                   .cost = 1000 + n,
                                   .latency = us});
        put_latency(db, at, provider, model, us);
    }
    put_line(db, (struct line){.kind = "request",
                               .provider = provider,
                               .model = model,
                               .outcome = "success",
                               .minute = at,
                               .tin = attempts * (10 + n),
                               .tout = attempts * 5,
                               .cost = attempts * (1000 + n),
                               .latency = 1000});
}

static UNUSED void put_traffic(struct db *db, int64_t hour, int n)
{
    for (int i = 0; i < n; i++)
        put_request(db, hour + i * 3600 / n, i % 3 ? "openai" : "groq", i % 2 ? "gpt-4o" : "llama/3:70b",
                    1 + i % 2, i);
    put_line(db, (struct line){
                     .kind = "request", .provider = "", .model = "", .outcome = "rejected", .minute = hour});
}

static UNUSED struct aggregate_options at(struct db *db, int64_t s)
{
    return (struct aggregate_options){
        .db = db, .source = AGGREGATE_LEDGER, .now = CLOCK(s), .lock_wait_us = 5 * SECOND_US};
}

static UNUSED struct aggregate_result roll(const struct aggregate_options *o)
{
    struct aggregate_result r;

    assert_ok(aggregate_run(o, &r, &why));
    assert_false(r.was_locked);
    return r;
}

static bool append_row(void *user, const struct db_value *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char hex[3];

        if (v[i].type == DB_INT)
            buf_addf(user, "%lld", (long long)v[i].i);
        else if (v[i].type == DB_REAL)
            buf_addf(user, "%.17g", v[i].d);
        else if (v[i].type == DB_TEXT)
            buf_add(user, v[i].s);
        else
            for (size_t k = 0; v[i].type == DB_BLOB && k < v[i].s.len; k++) {
                (void)snprintf(hex, sizeof(hex), "%02x", (unsigned char)v[i].s.p[k]);
                buf_addz(user, hex);
            }
        buf_addc(user, i + 1 < n ? '|' : '\n');
    }
    return true;
}

/* All hourly rows with all that is in them, but for when and from where they came. */
static UNUSED void rows_text(struct db *db, struct buf *out)
{
    struct buf q AUTO(buf_release) = {0};

    buf_clear(out);
    buf_addz(&q, "SELECT CAST(hour AS text), provider, model");
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        buf_addf(&q, ", %s", measure_name(m));
    buf_addz(
        &q, ", p50_ms, p95_ms, p99_ms, sketch FROM metrics_hourly_aggregates ORDER BY hour, provider, model");
    assert_ok(db_query(db, "test", q.p, NULL, 0, append_row, out, &why));
}

#endif
