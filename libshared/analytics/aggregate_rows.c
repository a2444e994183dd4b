/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of one hour: found by provider and model, read from the ledger, written to metrics_hourly_aggregates. On the
 * caller's thread. The invariant: an hour's rows depend on the hour's ledger rows and minute sketches and on nothing else,
 * so that doing it again, elsewhere or later gives the same bytes. The tricky part is what both sources know: Redis keeps
 * buckets and sums, but no exact extremes, so no row keeps them. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/analytics/aggregate_priv.h"
#include "libshared/base/crash.h"
#include "libshared/base/hash.h"

/* ---- the table ----------------------------------------------------------------------------------------------------- */

void hour_rows_release(struct hour_rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->v[i].provider);
        free(r->v[i].model);
        sketch_release(&r->v[i].sketch);
    }
    free(r->v);
    free(r->slots);
    *r = (struct hour_rows){0};
}

static uint64_t hash_of(struct span provider, struct span model)
{
    return hash_bytes(provider) * 31 + hash_bytes(model);
}

static bool grow(struct hour_rows *r)
{
    size_t cap = r->cap ? r->cap * 2 : 64;
    struct hour_row *v = cap <= HOUR_ROWS_MAX * 2 ? realloc(r->v, cap * sizeof(*v)) : NULL;
    uint32_t *slots;

    if (!v)
        return false;
    r->v = v;
    r->cap = cap;
    slots = calloc(cap * 2, sizeof(*slots));
    if (!slots)
        return false;
    free(r->slots);
    r->slots = slots;
    r->n_slots = cap * 2;
    for (size_t i = 0; i < r->n; i++) {
        size_t at = hash_of(span_of(v[i].provider), span_of(v[i].model)) & (r->n_slots - 1);

        while (slots[at])
            at = (at + 1) & (r->n_slots - 1);
        slots[at] = (uint32_t)i + 1;
    }
    return true;
}

static char *dup_span(struct span s)
{
    char *z = malloc(s.len + 1);

    if (z)
        (void)span_copy(z, s.len + 1, s);
    return z;
}

struct hour_row *hour_rows_get(struct hour_rows *r, struct span provider, struct span model)
{
    struct hour_row *row;
    size_t at;

    if (r->n == r->cap && (r->n >= HOUR_ROWS_MAX || !grow(r)))
        return NULL;
    at = hash_of(provider, model) & (r->n_slots - 1);
    for (; r->slots[at]; at = (at + 1) & (r->n_slots - 1)) {
        row = &r->v[r->slots[at] - 1];
        if (span_is(provider, row->provider) && span_is(model, row->model))
            return row;
    }
    row = &r->v[r->n];
    *row = (struct hour_row){.provider = dup_span(provider), .model = dup_span(model)};
    if (!row->provider || !row->model) {
        free(row->provider);
        free(row->model);
        return NULL;
    }
    r->slots[at] = (uint32_t)++r->n;
    return row;
}

static int by_names(const void *a, const void *b)
{
    const struct hour_row *x = a, *y = b;
    int c = strcmp(x->provider, y->provider);

    return c ? c : strcmp(x->model, y->model);
}

static void settle_sketch(struct hour_row *row)
{
    struct sketch *s = &row->sketch;
    bool any = false;

    s->sum_us = row->m.v[MEASURE_lat_us] > 0 ? (uint64_t)row->m.v[MEASURE_lat_us] : 0;
    s->min_us = s->max_us = 0;
    for (unsigned b = 0; b < SKETCH_BUCKETS; b++) {
        const uint64_t *octave = s->octaves[b >> SKETCH_SUB_BITS];

        if (!octave || !octave[b & (SKETCH_SUB - 1)])
            continue;
        s->max_us = sketch_bucket_us(b);
        if (!any)
            s->min_us = s->max_us;
        any = true;
    }
}

void hour_rows_finish(struct hour_rows *r)
{
    for (size_t i = 0; i < r->n; i++)
        settle_sketch(&r->v[i]);
    if (r->n)
        qsort(r->v, r->n, sizeof(*r->v), by_names);
    free(r->slots); /* positions have changed: nothing is looked up after this */
    r->slots = NULL;
    r->n_slots = 0;
    r->cap = r->n;
}

/* ---- from the ledger ----------------------------------------------------------------------------------------------- */

void hour_column(int64_t hour, char dst[HOUR_TEXT_CAP])
{
    char text[WALL_TEXT_CAP];

    (void)wall_format((struct wall){hour * 1000000}, text, sizeof(text));
    (void)snprintf(dst, HOUR_TEXT_CAP, "%.19sZ", text);
}

#define OF_ATTEMPTS(column) "CASE WHEN kind = 'attempt' THEN " column " ELSE 0 END"

static const char *const FROM_LEDGER[] = {
    [MEASURE_req] = "CASE WHEN kind = 'request' THEN count ELSE 0 END",
    [MEASURE_attempts] = OF_ATTEMPTS("count"),
    [MEASURE_ok] = "CASE WHEN kind = 'attempt' AND outcome = 'success' THEN count ELSE 0 END",
    [MEASURE_err] = "CASE WHEN kind = 'attempt' AND outcome = 'error' THEN count ELSE 0 END",
    [MEASURE_tin] = OF_ATTEMPTS("tokens_in"),
    [MEASURE_tcached] = OF_ATTEMPTS("tokens_cached"),
    [MEASURE_tcwrite] = OF_ATTEMPTS("tokens_cwrite"),
    [MEASURE_tout] = OF_ATTEMPTS("tokens_out"),
    [MEASURE_treason] = OF_ATTEMPTS("tokens_reasoning"),
    [MEASURE_images] = OF_ATTEMPTS("images"),
    [MEASURE_searches] = OF_ATTEMPTS("searches"),
    [MEASURE_cost_nano] = "CASE WHEN kind IN ('attempt', 'adjust') THEN cost_nano ELSE 0 END",
    [MEASURE_unpriced] = OF_ATTEMPTS("unpriced"),
    [MEASURE_lat_us] = OF_ATTEMPTS("latency_us"),
    [MEASURE_ttfb_us] = OF_ATTEMPTS("ttft_us"),
    [MEASURE_ttfb_n] = OF_ATTEMPTS("ttft_count"),
};
_Static_assert(ARRAY_LEN(FROM_LEDGER) == MEASURE_COUNT, "every measure comes from the ledger");

struct reader {
    struct hour_rows *rows;
    enum err_code e;
};

static bool take_measures(void *user, const struct db_value *c, unsigned n)
{
    struct reader *r = user;
    struct hour_row *row = n == 2 + MEASURE_COUNT ? hour_rows_get(r->rows, c[0].s, c[1].s) : NULL;

    if (!row) {
        r->e = ERR_NO_MEMORY;
        return false;
    }
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        row->m.v[m] = c[2 + m].i;
    return true;
}

static enum err_code reader_result(const struct reader *r, enum err_code e, int64_t hour, struct err *err)
{
    char text[HOUR_TEXT_CAP];

    if (e || !r->e)
        return e;
    hour_column(hour, text);
    return err_set(err, r->e,
                   r->e == ERR_NO_MEMORY ? "the rows of hour '%s' do not fit into memory"
                                         : "a sketch of hour '%s' is damaged",
                   text);
}

static enum err_code read_measures(struct db *db, int64_t hour, struct reader *r, struct err *err)
{
    struct buf sql AUTO(buf_release) = {0};
    struct db_value p[] = {db_int(hour), db_int(hour + HOUR_S)};

    buf_addz(&sql, "SELECT provider, model");
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        buf_addf(&sql, ", CAST(sum(%s) AS bigint)", FROM_LEDGER[m]);
    buf_addz(&sql, " FROM ledger WHERE minute >= $1 AND minute < $2 AND provider <> '' AND kind <> 'reset' "
                   "GROUP BY provider, model");
    return reader_result(r, db_query(db, "rollup_ledger", sql.p, p, 2, take_measures, r, err), hour, err);
}

static bool take_sketch(void *user, const struct db_value *c, unsigned n)
{
    struct reader *r = user;
    struct hour_row *row = n == 3 ? hour_rows_get(r->rows, c[0].s, c[1].s) : NULL;
    struct sketch minute = {0};

    r->e = row ? sketch_decode(&minute, c[2].s) : ERR_NO_MEMORY;
    if (!r->e)
        r->e = sketch_merge(&row->sketch, &minute);
    sketch_release(&minute);
    return !r->e;
}

enum err_code hour_rows_from_ledger(struct db *db, int64_t hour, struct hour_rows *out, struct err *err)
{
    struct reader r = {.rows = out};
    struct db_value p[] = {db_int(hour), db_int(hour + HOUR_S)};
    enum err_code e = read_measures(db, hour, &r, err);

    if (!e)
        e = reader_result(&r,
                          db_query(db, "rollup_sketches",
                                   "SELECT provider, model, sketch FROM minute_sketches "
                                   "WHERE minute >= $1 AND minute < $2 AND provider <> ''",
                                   p, 2, take_sketch, &r, err),
                          hour, err);
    if (!e)
        hour_rows_finish(out);
    return e;
}

enum err_code hour_rows_from_stored(struct db *db, int64_t hour, struct hour_rows *out, struct err *err)
{
    struct buf sql AUTO(buf_release) = {0};
    struct reader r = {.rows = out};
    char text[HOUR_TEXT_CAP] = "";
    struct db_value p;

    hour_column(hour, text);
    p = db_textz(text);
    buf_addz(&sql, "SELECT provider, model");
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        buf_addf(&sql, ", %s", measure_name(m));
    buf_addz(&sql, " FROM metrics_hourly_aggregates WHERE hour = $1");
    return reader_result(&r, db_query(db, "hourly_rows", sql.p, &p, 1, take_measures, &r, err), hour, err);
}

/* ---- into the history store ---------------------------------------------------------------------------------------- */

static struct db_value quantile(const struct sketch *s, double q)
{
    double us = sketch_quantile_us(s, q);

    return isnan(us) ? db_null() : db_real(us / 1000);
}

static void fill(struct db_value *v, const struct db_value *hour, const struct hour_row *row,
                 struct db_value sketch, const char *source, struct wall now)
{
    *v++ = *hour;
    *v++ = db_textz(row->provider);
    *v++ = db_textz(row->model);
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        *v++ = db_int(row->m.v[m]);
    *v++ = quantile(&row->sketch, 0.50);
    *v++ = quantile(&row->sketch, 0.95);
    *v++ = quantile(&row->sketch, 0.99);
    *v++ = sketch;
    *v++ = db_textz(source);
    *v++ = db_int(now.us / 1000000);
}

static enum err_code insert_rows(struct db *db, struct db_value hour, const struct hour_rows *r,
                                 const char *source, struct wall now, struct err *err)
{
    struct buf columns AUTO(buf_release) = {0}, bytes AUTO(buf_release) = {0};
    struct db_value *v = calloc(r->n, ROW_COLUMNS * sizeof(*v));
    size_t *at = calloc(r->n + 1, sizeof(*at));
    enum err_code e = v && at ? ERR_OK : ERR_NO_MEMORY;

    for (size_t i = 0; i < r->n && !e; i++) {
        e = sketch_encode(&r->v[i].sketch, &bytes);
        at[i + 1] = bytes.len;
    }
    for (size_t i = 0; i < r->n && !e; i++)
        fill(v + i * ROW_COLUMNS, &hour, &r->v[i], db_blob(span_make(bytes.p + at[i], at[i + 1] - at[i])),
             source, now);
    buf_addz(&columns, "hour,provider,model");
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        buf_addf(&columns, ",%s", measure_name(m));
    buf_addz(&columns, ",p50_ms,p95_ms,p99_ms,sketch,source,aggregated_at");
    if (e)
        e = err_set(err, e, "the rows of an hour do not fit into memory");
    else
        e = db_insert(db, "rollup_insert", "metrics_hourly_aggregates", columns.p, v, ROW_COLUMNS, r->n, "",
                      err);
    free(at);
    free(v);
    return e;
}

enum err_code hour_rows_store(struct db *db, int64_t hour, const struct hour_rows *r, const char *source,
                              struct wall now, struct err *err)
{
    char text[HOUR_TEXT_CAP];
    struct db_value h,
        done[] = {db_int(hour), db_textz(source), db_int((int64_t)r->n), db_int(now.us / 1000000)};
    enum err_code e;

    assert(db_in_transaction(db));
    hour_column(hour, text);
    h = db_textz(text);
    e = db_exec(db, "rollup_delete", "DELETE FROM metrics_hourly_aggregates WHERE hour = $1", &h, 1, NULL,
                err);
    CRASH_POINT(rollup_after_delete);
    if (!e && r->n)
        e = insert_rows(db, h, r, source, now, err);
    CRASH_POINT(rollup_after_insert);
    if (!e)
        e = db_exec(db, "rollup_done",
                    "INSERT INTO aggregated_hours (hour, source, rows_stored, aggregated_at) "
                    "VALUES ($1, $2, $3, $4) ON CONFLICT (hour) DO UPDATE SET source = excluded.source, "
                    "rows_stored = excluded.rows_stored, aggregated_at = excluded.aggregated_at",
                    done, 4, NULL, err);
    return e;
}
