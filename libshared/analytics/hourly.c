/* SPDX-License-Identifier: Apache-2.0 */
/* On the caller's thread, with the caller's handles. The last three hours are asked for one by one: an hour is taken from the
 * hourly rows when it is stored, and from the realtime store otherwise, so that a roll-up in between cannot make it count
 * twice. Of hours before, those with ledger rows and no hourly rows (the roll-up is off, or behind) are read from the ledger
 * and left out of the statement over the hourly rows. */
#include "libshared/analytics/hourly.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/analytics/aggregate_priv.h"
#include "libshared/store/kv_keys.h"

#define LIVE_HOURS   3  /* before the one that runs */
#define LEDGER_HOURS 48 /* that are read from the ledger at most: it is the slowest of the three */
#define LIVE_MODELS  20000u
#define ASKS         400u

struct reading {
    const struct hourly_source *s;
    const struct hourly_ask *ask;
    struct hourly *out;
    enum err_code e;
};

static void note_missing(struct hourly *h, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void note_missing(struct hourly *h, const char *fmt, ...)
{
    va_list ap;

    if (!h->is_partial) {
        va_start(ap, fmt);
        (void)vsnprintf(h->missing, sizeof(h->missing), fmt, ap);
        va_end(ap);
    }
    h->is_partial = true;
}

static struct hour_rows *step_of(const struct hourly *h, int64_t hour)
{
    return &h->steps[h->step_s ? (size_t)((hour - h->from) / h->step_s) : 0];
}

static bool is_wanted(const struct hourly_ask *ask, struct span provider, struct span model)
{
    return (!ask->provider || span_is(provider, ask->provider)) &&
           (!ask->model || span_is(model, ask->model));
}

static struct hour_row *row_at(struct reading *r, int64_t hour, struct span provider, struct span model)
{
    struct hour_row *row = hour_rows_get(step_of(r->out, hour), provider, model);

    if (!row)
        r->e = ERR_NO_MEMORY;
    return row;
}

/* ---- hourly rows --------------------------------------------------------------------------------------------------- */

/* hour, provider, model, measures, and the sketch when it was asked for */
static bool take_row(void *user, const struct db_value *c, unsigned n)
{
    struct reading *r = user;
    struct sketch stored = {0};
    struct hour_row *row;

    if (n < 3 + MEASURE_COUNT || c[0].i < r->ask->from || c[0].i >= r->ask->to)
        return true;
    row = row_at(r, c[0].i, c[1].s, c[2].s);
    if (!row)
        return false;
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        row->m.v[m] += c[3 + m].i;
    if (r->ask->has_sketches && n > 3 + MEASURE_COUNT) {
        if (sketch_decode(&stored, c[3 + MEASURE_COUNT].s))
            note_missing(r->out, "a sketch of an hour is damaged");
        else
            r->e = sketch_merge(&row->sketch, &stored);
        sketch_release(&stored);
    }
    return !r->e;
}

static const char *hour_second(const struct db *db)
{
    return db_dialect(db) == DB_POSTGRES ? "CAST(extract(epoch FROM hour) AS bigint)"
                                         : "CAST(strftime('%s', hour) AS bigint)";
}

/* Without sketches the database adds up: by the step, which begins at `from`. */
static void put_columns(struct buf *sql, const struct reading *r)
{
    const char *second = hour_second(r->s->db);
    int64_t step = r->ask->step_s;

    if (r->ask->has_sketches)
        buf_addf(sql, "SELECT %s, provider, model", second);
    else if (step)
        buf_addf(sql, "SELECT %lld + (%s - %lld) / %lld * %lld AS step, provider, model",
                 (long long)r->ask->from, second, (long long)r->ask->from, (long long)step, (long long)step);
    else
        buf_addf(sql, "SELECT %lld AS step, provider, model", (long long)r->ask->from);
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        buf_addf(sql, r->ask->has_sketches ? ", %s" : ", CAST(sum(%s) AS bigint)",
                 measure_name((enum measure)m));
    buf_addz(sql, r->ask->has_sketches ? ", sketch" : "");
}

static enum err_code read_stored(struct reading *r, int64_t from, int64_t to, const struct hour_list *without,
                                 struct err *err)
{
    struct buf sql AUTO(buf_release) = {0};
    char first[HOUR_TEXT_CAP], last[HOUR_TEXT_CAP];
    struct db_value p[4] = {0};
    unsigned n = 2;
    enum err_code e;

    hour_column(from, first);
    hour_column(to, last);
    p[0] = db_textz(first);
    p[1] = db_textz(last);
    put_columns(&sql, r);
    buf_addz(&sql, " FROM metrics_hourly_aggregates WHERE hour >= $1 AND hour < $2");
    for (size_t i = 0; without && i < without->n; i++)
        buf_addf(&sql, "%s%lld%s",
                 i ? ", "
                 : db_dialect(r->s->db) == DB_POSTGRES
                     ? " AND CAST(extract(epoch FROM hour) AS bigint) NOT IN ("
                     : " AND CAST(strftime('%s', hour) AS bigint) NOT IN (",
                 (long long)without->v[i], i + 1 == without->n ? ")" : "");
    if (r->ask->provider) {
        p[n++] = db_textz(r->ask->provider);
        buf_addf(&sql, " AND provider = $%u", n);
    }
    if (r->ask->model) {
        p[n++] = db_textz(r->ask->model);
        buf_addf(&sql, " AND model = $%u", n);
    }
    if (!r->ask->has_sketches)
        buf_addz(&sql, r->ask->step_s ? " GROUP BY step, provider, model" : " GROUP BY provider, model");
    e = db_query(r->s->db, "hourly_read", sql.p, p, n, take_row, r, err);
    return e ? e : r->e;
}

/* ---- the ledger ---------------------------------------------------------------------------------------------------- */

static enum err_code add_rows(struct reading *r, int64_t hour, const struct hour_rows *rows)
{
    for (size_t i = 0; i < rows->n && !r->e; i++) {
        const struct hour_row *from = &rows->v[i];
        struct hour_row *row;

        if (!is_wanted(r->ask, span_of(from->provider), span_of(from->model)))
            continue;
        row = row_at(r, hour, span_of(from->provider), span_of(from->model));
        for (unsigned m = 0; row && m < MEASURE_COUNT; m++)
            row->m.v[m] += from->m.v[m];
        if (row && r->ask->has_sketches)
            r->e = sketch_merge(&row->sketch, &from->sketch);
    }
    return r->e;
}

static enum err_code read_ledger_hour(struct reading *r, int64_t hour, struct err *err)
{
    struct hour_rows rows = {0};
    enum err_code e = hour_rows_from_ledger(r->s->db, hour, &rows, err);

    if (!e)
        e = add_rows(r, hour, &rows);
    hour_rows_release(&rows);
    return e;
}

static int by_value(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Hours of the ledger that nobody has rolled up, or not since rows came late, of those that are asked for. */
static enum err_code find_unrolled(const struct reading *r, int64_t to, struct hour_list *out,
                                   struct err *err)
{
    struct hour_list all = {0};
    enum err_code e = hours_not_stored(r->s->db, to - HOUR_S, &all, err);

    if (!e)
        e = hours_dirty(r->s->db, to - HOUR_S, &all, err);
    if (all.n)
        qsort(all.v, all.n, sizeof(*all.v), by_value);
    for (size_t i = 0; i < all.n && !e; i++)
        if (all.v[i] >= r->ask->from && (!i || all.v[i] != all.v[i - 1]) && hour_list_add(out, all.v[i]))
            e = err_set(err, ERR_NO_MEMORY, "the list of hours does not fit into memory");
    hour_list_release(&all);
    return e;
}

/* "" also when rows came after it was stored. */
static enum err_code source_of(struct db *db, int64_t hour, char dst[16], struct err *err)
{
    struct db_value p = db_int(hour);
    int64_t dirty = 0;
    enum err_code e =
        db_one_int(db, "rollup_dirty", "SELECT 1 FROM dirty_hours WHERE hour = $1", &p, 1, &dirty, err);

    dst[0] = '\0';
    return e || dirty ? e : hour_source(db, hour, dst, err);
}

static enum err_code read_past(struct reading *r, int64_t to, struct err *err)
{
    struct hour_list unrolled = {0};
    enum err_code e = find_unrolled(r, to, &unrolled, err);
    size_t skip = unrolled.n > LEDGER_HOURS ? unrolled.n - LEDGER_HOURS : 0;

    if (!e)
        e = read_stored(r, r->ask->from, to, &unrolled, err);
    if (!e && skip)
        note_missing(r->out, "%zu hours are not rolled up yet", skip);
    for (size_t i = skip; i < unrolled.n && !e; i++)
        e = read_ledger_hour(r, unrolled.v[i], err);
    if (!e)
        r->out->hours_read += (size_t)((to - r->ask->from) / HOUR_S);
    hour_list_release(&unrolled);
    return e;
}

/* ---- the realtime store -------------------------------------------------------------------------------------------- */

struct live {
    struct reading *r;
    struct span *names; /* provider and model, of malloc'ed texts */
    size_t n;
    int64_t hour;
    size_t first; /* of `names`, in the call under way */
};

static void take_name(void *user, struct span member, struct span score)
{
    struct live *l = user;
    struct span model = member, provider = span_split(&model, ' ');
    char *z;

    (void)score;
    if (!provider.len || !model.p || l->n >= LIVE_MODELS || !is_wanted(l->r->ask, provider, model))
        return;
    z = malloc(member.len + 1);
    if (!z)
        abort();
    (void)span_copy(z, member.len + 1, member);
    l->names[2 * l->n] = span_make(z, provider.len);
    l->names[2 * l->n + 1] = span_make(z + provider.len + 1, model.len);
    l->n++;
}

static void take_live(void *user, size_t i, struct span field, struct span value)
{
    struct live *l = user;
    const struct span *name = &l->names[2 * (l->first + i)];
    struct hour_row *row = l->r->e ? NULL : row_at(l->r, l->hour, name[0], name[1]);

    if (row && hour_row_field(row, l->r->ask->has_sketches, field, value))
        note_missing(l->r->out, "the realtime store holds what is no figure");
}

static enum err_code read_live_hour(struct live *l, int64_t hour, struct err *err)
{
    char(*keys)[KV_KEY_CAP] = malloc(ASKS * sizeof(*keys));
    struct kv_ask asks[ASKS];
    bool bad[ASKS];
    enum err_code e = keys ? ERR_OK : ERR_NO_MEMORY;

    l->hour = hour;
    for (l->first = 0; l->first < l->n && !e; l->first += ASKS) {
        size_t n = l->n - l->first < ASKS ? l->n - l->first : ASKS;
        struct wall store_now;

        for (size_t i = 0; i < n; i++) {
            const struct span *name = &l->names[2 * (l->first + i)];
            char provider[256], model[256];

            (void)span_copy(provider, sizeof(provider), name[0]);
            (void)span_copy(model, sizeof(model), name[1]);
            kv_key_hour(keys[i], (struct wall){hour * 1000000}, provider, model);
            asks[i] = (struct kv_ask){.what = KV_READ_HASH, .key = keys[i]};
        }
        e = kv_read_many(l->r->s->kv, asks, n, take_live, l, bad, &store_now, err);
        for (size_t i = 0; i < n && !e; i++)
            if (bad[i])
                e = err_set(err, ERR_IO, "a key of the realtime store cannot be read");
    }
    free(keys);
    return e ? e : l->r->e;
}

/* Stored hours from the rows; others live, and from the ledger when that cannot be. */
static enum err_code read_recent(struct reading *r, int64_t from, struct err *err)
{
    struct live l = {.r = r, .names = calloc(2 * (size_t)LIVE_MODELS, sizeof(*l.names))};
    struct err why = {0};
    bool is_live = false, has_db = true;
    enum err_code e = l.names ? ERR_OK : ERR_NO_MEMORY;

    if (!e && r->s->kv)
        is_live = kv_index(r->s->kv, KV_MODELS, 0, INT64_MAX / 2, take_name, &l, &why) == ERR_OK;
    for (int64_t h = from; h < r->ask->to && !e; h += HOUR_S) {
        char source[16] = "";

        has_db = has_db && source_of(r->s->db, h, source, &why) == ERR_OK;
        if (source[0])
            has_db = read_stored(r, h, h + HOUR_S, NULL, &why) == ERR_OK;
        else if (is_live)
            is_live = read_live_hour(&l, h, &why) == ERR_OK;
        if (!source[0] && !is_live && has_db)
            has_db = read_ledger_hour(r, h, &why) == ERR_OK;
        if (!has_db && (source[0] || !is_live))
            note_missing(r->out, "%s", err_text(&why));
        else
            r->out->hours_read++;
        e = r->e;
    }
    for (size_t i = 0; l.names && i < l.n; i++)
        free((void *)(uintptr_t)l.names[2 * i].p);
    free(l.names);
    return e ? err_set(err, e, "the hours do not fit into memory") : ERR_OK;
}

/* ---- all of it ----------------------------------------------------------------------------------------------------- */

enum err_code hourly_read(const struct hourly_source *s, const struct hourly_ask *ask, struct hourly *out,
                          struct err *err)
{
    struct reading r = {.s = s, .ask = ask, .out = out};
    int64_t now = s->now.us / 1000000 / HOUR_S * HOUR_S, recent = now - LIVE_HOURS * HOUR_S;
    size_t n = ask->step_s ? (size_t)((ask->to - ask->from + ask->step_s - 1) / ask->step_s) : 1;
    struct err why = {0};
    enum err_code e = ERR_OK;

    *out = (struct hourly){.from = ask->from, .to = ask->to, .step_s = ask->step_s};
    if (ask->to <= ask->from || n > HOURLY_STEPS_MAX)
        return err_set(err, ERR_BAD_REQUEST, "that is no period");
    out->steps = calloc(n, sizeof(*out->steps));
    if (!out->steps)
        return err_set(err, ERR_NO_MEMORY, "the hours do not fit into memory");
    out->n = n;
    if (s->retention_us > 0 && now - s->retention_us / 1000000 > recent)
        recent = now - s->retention_us / 1000000 / HOUR_S * HOUR_S;
    recent = recent < ask->from ? ask->from : recent;
    if (ask->from < recent && read_past(&r, recent < ask->to ? recent : ask->to, &why)) {
        if (why.code == ERR_NO_MEMORY || r.e)
            e = err_set(err, ERR_NO_MEMORY, "the hours do not fit into memory");
        note_missing(out, "%s", err_text(&why));
    }
    if (!e && recent < ask->to)
        e = read_recent(&r, recent, err);
    for (size_t i = 0; i < n; i++)
        hour_rows_finish(&out->steps[i]);
    return e;
}

void hourly_release(struct hourly *h)
{
    for (size_t i = 0; i < h->n; i++)
        hour_rows_release(&h->steps[i]);
    free(h->steps);
    *h = (struct hourly){0};
}

/* ---- adding up ----------------------------------------------------------------------------------------------------- */

static int by_names(const void *a, const void *b)
{
    const struct hourly_sum *x = a, *y = b;
    int c = strcmp(x->provider, y->provider);

    return c ? c : strcmp(x->model, y->model);
}

/* One entry a step, provider and model, then sorted and joined: the hours are in order already, so it is a merge in effect. */
static struct hourly_sum *list_models(const struct hourly *h, size_t first, size_t last, size_t *out_n)
{
    size_t n = 0;
    struct hourly_sum *v;

    for (size_t i = first; i < last && i < h->n; i++)
        n += h->steps[i].n;
    v = calloc(n + 1, sizeof(*v));
    *out_n = 0;
    for (size_t i = first; v && i < last && i < h->n; i++)
        for (size_t j = 0; j < h->steps[i].n; j++) {
            const struct hour_row *row = &h->steps[i].v[j];

            v[*out_n].provider = row->provider;
            v[*out_n].model = row->model;
            v[(*out_n)++].m = row->m;
            v[*out_n - 1].sketch = row->sketch; /* borrowed until it is joined */
        }
    if (v && *out_n)
        qsort(v, *out_n, sizeof(*v), by_names);
    return v;
}

static bool is_alike(const struct hourly_sum *a, const struct hourly_sum *b, enum hourly_by by)
{
    return by == HOURLY_ALL || (strcmp(a->provider, b->provider) == 0 &&
                                (by == HOURLY_PROVIDER || strcmp(a->model, b->model) == 0));
}

enum err_code hourly_sum(const struct hourly *h, enum hourly_by by, size_t first, size_t last,
                         struct hourly_sums *out)
{
    size_t n, at = 0;
    struct hourly_sum *v = list_models(h, first, last, &n);
    const char *provider = NULL, *model = NULL;
    enum err_code e = v ? ERR_OK : ERR_NO_MEMORY;

    *out = (struct hourly_sums){.v = v};
    for (size_t i = 0; i < n && !e; i++) {
        struct hourly_sum one = v[i];
        bool is_new = !at || !is_alike(&v[at - 1], &one, by);
        bool is_other =
            is_new || !provider || strcmp(provider, one.provider) != 0 || strcmp(model, one.model) != 0;
        struct hourly_sum *to = is_new ? &v[at++] : &v[at - 1];

        provider = one.provider;
        model = one.model;
        if (is_new)
            *to = (struct hourly_sum){.provider = one.provider, .model = one.model};
        to->models += is_other;
        for (unsigned m = 0; m < MEASURE_COUNT; m++)
            to->m.v[m] += one.m.v[m];
        e = sketch_merge(&to->sketch, &one.sketch);
    }
    out->n = at;
    for (size_t i = 0; i < at; i++) {
        v[i].provider = by == HOURLY_ALL ? "" : v[i].provider;
        v[i].model = by == HOURLY_MODEL ? v[i].model : "";
    }
    if (e)
        hourly_sums_release(out);
    return e;
}

void hourly_sums_release(struct hourly_sums *s)
{
    for (size_t i = 0; i < s->n; i++)
        sketch_release(&s->v[i].sketch);
    free(s->v);
    *s = (struct hourly_sums){0};
}

/* ---- figures ------------------------------------------------------------------------------------------------------- */

double measures_ratio(int64_t part, int64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : NAN;
}

#define STEADY 0.10 /* a line that changes less than this over its length is level */

struct trend trend_of(const double *v, size_t n)
{
    double sx = 0, sy = 0, sxx = 0, sxy = 0, count = 0, first = NAN, last = 0, divisor;
    struct trend t = {.per_step = NAN, .change = NAN, .direction = "unknown"};

    for (size_t i = 0; i < n; i++) {
        if (isnan(v[i]))
            continue;
        first = isnan(first) ? (double)i : first;
        last = (double)i;
        sx += (double)i;
        sy += v[i];
        sxx += (double)i * (double)i;
        sxy += (double)i * v[i];
        count++;
    }
    divisor = count * sxx - sx * sx;
    if (count < 3 || divisor <= 0)
        return t;
    t.per_step = (count * sxy - sx * sy) / divisor;
    t.change = sy > 0 ? t.per_step * (last - first) / (sy / count) : 0;
    t.direction = t.change > STEADY ? "rising" : t.change < -STEADY ? "falling" : "steady";
    return t;
}
