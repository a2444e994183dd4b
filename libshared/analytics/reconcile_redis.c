/* SPDX-License-Identifier: Apache-2.0 */
/* Hour hashes of the realtime store against the ledger. Both stores are fed from the same journals, each at its own pace,
 * and their watermarks say how far each has come. Closed hours can be compared once both stores have everything that
 * either had when we began; the hour that is open, only while both stand at the same place. Otherwise nothing is known,
 * which is not drift. A repair replaces hashes under the watermark of one instance, so that no batch slips in. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libshared/analytics/reconcile_priv.h"
#include "libshared/base/id.h"
#include "libshared/store/kv_keys.h"

#define RETENTION_US  ((int64_t)4 * 3600 * 1000000)
#define CATCH_UP_US   ((int64_t)3 * 1000000)
#define INSTANCES_MAX 256u

struct instance {
    char id[INSTANCE_CAP];
    int64_t updated_at;
    struct watermark ledger, redis;
};
struct instances {
    struct instance *v;
    size_t n;
    bool is_known; /* every one that matters has a watermark in both */
};

/* ---- watermarks ---------------------------------------------------------------------------------------------------- */

static bool take_instance(void *user, const struct db_value *v, unsigned n)
{
    struct instances *x = user;
    struct instance *i = &x->v[x->n];

    if (n != 3 || x->n == INSTANCES_MAX || v[0].s.len >= INSTANCE_CAP ||
        !watermark_parse_positions(&i->ledger, v[1].s)) {
        x->is_known = false;
        return false;
    }
    (void)span_copy(i->id, sizeof(i->id), v[0].s);
    i->updated_at = v[2].i;
    x->n++;
    return true;
}

static enum err_code read_watermarks(struct comparison *c, struct instances *out)
{
    enum err_code e;
    bool found;

    memset(out->v, 0, INSTANCES_MAX * sizeof(*out->v));
    out->n = 0;
    out->is_known = true;
    e = db_query(c->o->db, "reconcile_marks",
                 "SELECT instance, positions, updated_at FROM journal_watermarks ORDER BY instance", NULL, 0,
                 take_instance, out, c->err);
    for (size_t i = 0; i < out->n && !e; i++) {
        e = kv_watermark(c->o->kv, out->v[i].id, &out->v[i].redis, &found, c->err);
        /* One that has been silent for longer than hours are kept left nothing to compare. */
        if (!e && !found && out->v[i].updated_at >= c->from)
            out->is_known = false;
    }
    return e;
}

static bool has_reached(const struct watermark *w, const struct watermark *aim)
{
    for (unsigned i = 0; i < aim->n; i++)
        if ((i < w->n ? w->at[i] : 0) < aim->at[i])
            return false;
    return true;
}

static bool is_level(const struct instances *x)
{
    for (size_t i = 0; i < x->n; i++)
        if (!has_reached(&x->v[i].ledger, &x->v[i].redis) || !has_reached(&x->v[i].redis, &x->v[i].ledger))
            return false;
    return x->is_known;
}

static bool has_passed(const struct instances *now, const struct instances *aim)
{
    if (!now->is_known || now->n < aim->n)
        return false;
    for (size_t i = 0, k = 0; i < aim->n; i++) {
        while (k < now->n && strcmp(now->v[k].id, aim->v[i].id) != 0)
            k++;
        if (k == now->n || !has_reached(&now->v[k].ledger, &aim->v[i].redis) ||
            !has_reached(&now->v[k].redis, &aim->v[i].ledger))
            return false;
    }
    return true;
}

/* Both stores have what either had at first; false when one does not get there soon. */
static enum err_code catch_up(struct comparison *c, struct instances *first, struct instances *now, bool *out)
{
    struct mono end = mono_add_us(mono_now(), CATCH_UP_US);
    const struct timespec pause = {.tv_nsec = 100 * 1000000};
    enum err_code e = read_watermarks(c, first);

    *out = is_level(first);
    while (!e && first->is_known && !*out && mono_diff_us(end, mono_now()) > 0) {
        (void)nanosleep(&pause, NULL);
        e = read_watermarks(c, now);
        *out = !e && has_passed(now, first);
    }
    return e;
}

/* ---- comparing ----------------------------------------------------------------------------------------------------- */

struct pair_of_rows {
    struct hour_rows ledger, redis;
};

struct scratch {
    struct instances first, now;
};

static void pair_release(struct pair_of_rows *p)
{
    hour_rows_release(&p->ledger);
    hour_rows_release(&p->redis);
}

static enum err_code read_pair(struct comparison *c, const struct redis_keys *keys, int64_t hour,
                               struct pair_of_rows *p)
{
    enum err_code e = hour_rows_from_redis(c->o->kv, keys, hour, &p->redis, c->err);

    return e ? e : hour_rows_from_ledger(c->o->db, hour, &p->ledger, c->err);
}

#define READINGS 3

/* Late rows come to closed hours as well, and may have come between the two halves of a reading. A difference is one when
 * it is still the same after both stores have caught up again. */
static enum err_code read_until_calm(struct comparison *c, int64_t hour, struct pair_of_rows *p,
                                     struct scratch *s, bool *out_calm)
{
    enum err_code e = ERR_OK;

    *out_calm = rows_equal(&p->ledger, &p->redis);
    for (int i = 1; i < READINGS && !*out_calm && !e; i++) {
        struct pair_of_rows again = {0};
        struct redis_keys keys = {0};
        bool reached = false;

        e = catch_up(c, &s->first, &s->now, &reached);
        if (e || !reached)
            return e;
        e = redis_keys_scan(c->o->kv, &keys, c->err);
        if (!e)
            e = read_pair(c, &keys, hour, &again);
        redis_keys_release(&keys);
        *out_calm = !e && ((rows_equal(&p->ledger, &again.ledger) && rows_equal(&p->redis, &again.redis)) ||
                           rows_equal(&again.ledger, &again.redis));
        pair_release(p);
        *p = again;
    }
    return e;
}

/* The open hour of stores that stand level is told only when they stood level afterwards, too. */
static enum err_code compare_hour(struct comparison *c, const struct redis_keys *keys, int64_t hour,
                                  bool is_open, struct scratch *s)
{
    struct instances *scratch = &s->now;
    struct pair_of_rows p = {0};
    enum err_code e = read_pair(c, keys, hour, &p);
    bool may_tell = true;

    if (!e && !is_open)
        e = read_until_calm(c, hour, &p, s, &may_tell);
    if (!e && is_open && !rows_equal(&p.ledger, &p.redis)) {
        e = read_watermarks(c, scratch);
        may_tell = !e && is_level(scratch);
        pair_release(&p);
        if (may_tell)
            e = read_pair(c, keys, hour, &p);
        if (!e && may_tell)
            e = read_watermarks(c, scratch);
        may_tell = may_tell && !e && is_level(scratch);
    }
    if (!e && may_tell)
        e = compare_rows(c, hour, &p.ledger, &p.redis);
    pair_release(&p);
    return e;
}

/* A hash lives for the retention after its hour's beginning. */
static int64_t first_kept_hour(const struct comparison *c)
{
    int64_t retention = c->o->retention_us ? c->o->retention_us : RETENTION_US;
    int64_t s = (c->o->now.us - retention) / 1000000 + 60,
            first = s > 0 ? (s + HOUR_S - 1) / HOUR_S * HOUR_S : 0;

    first = first > c->from ? first : c->from;
    return first > c->archived ? first : c->archived;
}

static enum err_code compare_hours(struct comparison *c, struct scratch *scratch, bool may_open)
{
    int64_t last = last_closed_hour(c->o->now, 0), current = c->o->now.us / 1000000 / HOUR_S * HOUR_S;
    struct redis_keys keys = {0};
    enum err_code e = redis_keys_scan(c->o->kv, &keys, c->err);

    for (int64_t h = first_kept_hour(c); h <= current && !e; h += HOUR_S)
        if (h <= last || may_open)
            e = compare_hour(c, &keys, h, h > last, scratch);
    redis_keys_release(&keys);
    return e;
}

enum err_code compare_redis(struct comparison *c)
{
    struct scratch s = {.first.v = calloc(INSTANCES_MAX, sizeof(*s.first.v)),
                        .now.v = calloc(INSTANCES_MAX, sizeof(*s.now.v))};
    bool reached = false;
    enum err_code e = s.first.v && s.now.v ? catch_up(c, &s.first, &s.now, &reached)
                                           : err_set(c->err, ERR_NO_MEMORY, "no memory for watermarks");

    if (!e && reached)
        e = compare_hours(c, &s, is_level(&s.first));
    c->out->pairs[c->pair].is_known = !e && reached;
    free(s.first.v);
    free(s.now.v);
    return e;
}

/* ---- repair -------------------------------------------------------------------------------------------------------- */

static void put_row(struct kv_batch *b, int64_t hour, const struct hour_row *row, int64_t ttl_s)
{
    char key[KV_KEY_CAP], field[24];

    kv_key_hour(key, (struct wall){hour * 1000000}, row->provider, row->model);
    kv_batch_delete(b, key);
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        if (row->m.v[m])
            kv_batch_add(b, key, measure_name(m), row->m.v[m]);
    for (unsigned i = 0; i < SKETCH_BUCKETS; i++) {
        const uint64_t *octave = row->sketch.octaves[i >> SKETCH_SUB_BITS];

        if (!octave || !octave[i & (SKETCH_SUB - 1)])
            continue;
        (void)snprintf(field, sizeof(field), "b%u", i);
        kv_batch_add(b, key, field, (int64_t)octave[i & (SKETCH_SUB - 1)]);
    }
    kv_batch_expire(b, key, ttl_s, false);
}

static enum err_code put_hour(struct comparison *c, const struct redis_keys *keys, int64_t hour,
                              struct kv_batch *b)
{
    int64_t retention = c->o->retention_us ? c->o->retention_us : RETENTION_US;
    int64_t ttl = hour + retention / 1000000 - c->o->now.us / 1000000;
    struct hour_rows rows = {0};
    enum err_code e = hour_rows_from_ledger(c->o->db, hour, &rows, c->err);

    for (size_t i = redis_keys_from(keys, hour); !e && i < keys->n && keys->v[i].hour == hour; i++)
        kv_batch_delete(b, keys->v[i].key);
    for (size_t i = 0; i < rows.n && !e; i++)
        put_row(b, hour, &rows.v[i], ttl > 60 ? ttl : 60);
    hour_rows_release(&rows);
    return e;
}

/* Under the watermark of an instance that has one, which moves on by one batch; its writer finds that out and goes on from
 * there. */
static enum err_code apply(struct comparison *c, const struct instances *x, const struct kv_batch *b)
{
    struct watermark next;
    enum store_result r;
    size_t i = 0;

    while (i + 1 < x->n && !x->v[i].redis.batch)
        i++;
    next = x->v[i].redis;
    random_bytes(&next.token, sizeof(next.token));
    next.batch++;
    r = kv_apply(c->o->kv, x->v[i].id, &x->v[i].redis, &next, b, c->err);
    if (r == STORE_APPLIED || r == STORE_DUPLICATE)
        return ERR_OK;
    if (r == STORE_MISMATCH)
        return err_set(c->err, ERR_CONFLICT, "a batch came in between; try again");
    return c->err && c->err->code ? c->err->code : ERR_IO;
}

enum err_code repair_redis(struct comparison *c)
{
    struct instances x = {.v = calloc(INSTANCES_MAX, sizeof(*x.v))};
    struct kv_batch *b = kv_batch_new();
    struct redis_keys keys = {0};
    enum err_code e =
        x.v ? read_watermarks(c, &x) : err_set(c->err, ERR_NO_MEMORY, "no memory for watermarks");

    if (!e && (!x.n || !is_level(&x)))
        e = err_set(c->err, ERR_CONFLICT,
                    "the stores do not stand at the same place of the journals; try again");
    if (!e)
        e = redis_keys_scan(c->o->kv, &keys, c->err);
    for (size_t i = 0; i < c->hours.n && !e; i++)
        e = put_hour(c, &keys, c->hours.v[i], b);
    if (!e)
        e = apply(c, &x, b);
    redis_keys_release(&keys);
    kv_batch_free(b);
    free(x.v);
    return e;
}
