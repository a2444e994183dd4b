/* SPDX-License-Identifier: Apache-2.0 */
/* The realtime store as a source of hourly rows, for a database that no gateway writes to, and its clean-up. On the
 * caller's thread; keys are copied. One SCAN finds the hashes of all hours; the index of hours is asked only which hours
 * there once were, so that data that expired too early is noticed. The tricky part is the key: everything behind the
 * hour is a provider, ':' and a model, with ':' and '%' inside them escaped. */
#include <stdlib.h>
#include <string.h>

#include "libshared/analytics/aggregate_priv.h"
#include "libshared/store/kv_keys.h"

#define HOUR_PREFIX "{gw}:h:"
#define TEN_PREFIX  "{gw}:t:"
#define KEYS_MAX    ((size_t)4000000)
#define ENDLESS_US  ((int64_t)4 * 3600 * 1000000) /* after which an hash without an end is a leftover */
#define TTL_SLACK_S 60                            /* times to live are whole seconds of another clock */

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

void redis_keys_release(struct redis_keys *k)
{
    for (size_t i = 0; i < k->n; i++)
        free(k->v[i].key);
    free(k->v);
    *k = (struct redis_keys){0};
}

static int64_t hour_of_text(struct span s)
{
    char text[KV_HOUR_CAP];

    if (s.len < KV_HOUR_CAP - 3 || s.len > KV_HOUR_CAP - 1)
        return -1;
    (void)span_copy(text, sizeof(text), s);
    return kv_hour_parse(text);
}

/* "{gw}:h:2026-11-20T13:openai:gpt-4o" */
static int64_t hour_of_key(struct span key, struct span *out_names)
{
    struct span s = key;

    if (!span_starts(s, SPAN_LIT(HOUR_PREFIX)))
        return -1;
    s.p += sizeof(HOUR_PREFIX) - 1;
    s.len -= sizeof(HOUR_PREFIX) - 1;
    *out_names = s;
    return hour_of_text(span_split(out_names, ':'));
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

static struct span unescape(struct span s, char *dst, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len && n < cap; i++) {
        int hi = s.p[i] == '%' && i + 2 < s.len ? hex_digit(s.p[i + 1]) : -1;
        int lo = hi >= 0 ? hex_digit(s.p[i + 2]) : -1;

        dst[n++] = lo >= 0 ? (char)(unsigned char)(hi * 16 + lo) : s.p[i];
        i += lo >= 0 ? 2 : 0;
    }
    return span_make(dst, n);
}

struct scan {
    struct redis_keys *keys;
    enum err_code e;
};

static bool parse_int(struct span s, int64_t *out)
{
    char text[24], *end;

    if (!s.len || s.len >= sizeof(text) || s.p[0] == '+' || s.p[0] == ' ')
        return false;
    (void)span_copy(text, sizeof(text), s);
    *out = strtoll(text, &end, 10);
    return *end == '\0';
}

static void add_key(struct scan *s, struct span key, int64_t hour, int64_t ttl_s)
{
    struct redis_keys *k = s->keys;
    size_t cap = k->cap ? k->cap * 2 : 256;
    struct redis_key *v;
    char *z = NULL;

    if (k->n == k->cap) {
        v = cap <= KEYS_MAX ? realloc(k->v, cap * sizeof(*v)) : NULL;
        if (v) {
            k->v = v;
            k->cap = cap;
        }
    }
    if (k->n < k->cap)
        z = malloc(key.len + 1);
    if (!z) {
        s->e = ERR_NO_MEMORY;
        return;
    }
    (void)span_copy(z, key.len + 1, key);
    k->v[k->n++] = (struct redis_key){.key = z, .hour = hour, .ttl_s = ttl_s};
}

static void take_key(void *user, struct span key, struct span ttl)
{
    struct scan *s = user;
    struct span names;
    int64_t hour = hour_of_key(key, &names), ttl_s = -1;

    if (s->e || hour < 0 || !names.len || !parse_int(ttl, &ttl_s))
        return;
    add_key(s, key, hour, ttl_s);
}

static int by_hour(const void *a, const void *b)
{
    const struct redis_key *x = a, *y = b;

    return x->hour != y->hour ? (x->hour < y->hour ? -1 : 1) : strcmp(x->key, y->key);
}

/* A SCAN may tell of a key twice. */
static void sort_unique(struct redis_keys *k)
{
    size_t n = 0;

    if (k->n)
        qsort(k->v, k->n, sizeof(*k->v), by_hour);
    for (size_t i = 0; i < k->n; i++) {
        if (n && strcmp(k->v[n - 1].key, k->v[i].key) == 0)
            free(k->v[i].key);
        else
            k->v[n++] = k->v[i];
    }
    k->n = n;
}

enum err_code redis_keys_scan(struct kv *kv, struct redis_keys *out, struct err *err)
{
    struct scan s = {.keys = out};
    enum err_code e;

    out->scanned = mono_now();
    e = kv_scan(kv, HOUR_PREFIX, take_key, &s, err);

    if (!e && s.e)
        e = err_set(err, s.e, "the keys of the realtime store do not fit into memory");
    sort_unique(out);
    return e;
}

size_t redis_keys_from(const struct redis_keys *k, int64_t hour)
{
    size_t lo = 0, hi = k->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (k->v[mid].hour < hour)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

struct fields {
    struct hour_row *row;
    size_t n;
    enum err_code e;
};

static bool take_measure(struct hour_row *row, struct span field, int64_t v)
{
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        if (span_is(field, measure_name(m))) {
            row->m.v[m] += v;
            return true;
        }
    return false;
}

/* "b1234": a bucket of the sketch. Fields of a newer gateway are passed over. */
enum err_code hour_row_field(struct hour_row *row, bool has_sketch, struct span field, struct span value)
{
    uint64_t bucket;
    int64_t v = 0;
    bool is_bucket =
        field.len > 1 && field.p[0] == 'b' && span_to_u64(span_make(field.p + 1, field.len - 1), &bucket);

    if (!parse_int(value, &v))
        return ERR_BAD_REQUEST;
    if (take_measure(row, field, v) || !is_bucket || v == 0 || !has_sketch)
        return ERR_OK;
    return v < 0 || bucket >= SKETCH_BUCKETS ? ERR_BAD_REQUEST
                                             : sketch_add_bucket(&row->sketch, (unsigned)bucket, (uint64_t)v);
}

static void take_field(void *user, struct span field, struct span value)
{
    struct fields *f = user;

    f->n++;
    if (!f->e)
        f->e = hour_row_field(f->row, true, field, value);
}

static bool may_have_ended(const struct redis_keys *k, const struct redis_key *key)
{
    return key->ttl_s >= 0 && key->ttl_s <= mono_diff_us(mono_now(), k->scanned) / 1000000 + TTL_SLACK_S;
}

static bool is_empty(const struct hour_row *row)
{
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        if (row->m.v[m])
            return false;
    return true;
}

static enum err_code read_key(struct kv *kv, const struct redis_keys *k, const struct redis_key *of,
                              struct hour_rows *out, struct err *err)
{
    const char *key = of->key;
    char provider[KV_KEY_CAP], model[KV_KEY_CAP];
    struct span names, first;
    struct fields f = {0};
    enum err_code e;

    (void)hour_of_key(span_of(key), &names);
    first = span_split(&names, ':');
    f.row = hour_rows_get(out, unescape(first, provider, sizeof(provider)),
                          unescape(names, model, sizeof(model)));
    if (!f.row)
        return err_set(err, ERR_NO_MEMORY, "the rows of an hour do not fit into memory");
    e = kv_hash(kv, key, take_field, &f, err);
    if (!e && f.e)
        e = err_set(err, f.e, "'%s' holds what is no figure of an hour", key);
    if (!e && !f.n && !may_have_ended(k, of))
        e = err_set(err, ERR_UNAVAILABLE, "redis: '%s' is gone before its time: was the store emptied?", key);
    return e;
}

/* A hash that expired since the scan leaves a row of zeros, which the ledger would not have. */
static void drop_empty(struct hour_rows *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n; i++) {
        if (!is_empty(&r->v[i])) {
            r->v[n++] = r->v[i];
            continue;
        }
        free(r->v[i].provider);
        free(r->v[i].model);
        sketch_release(&r->v[i].sketch);
    }
    r->n = n;
}

enum err_code hour_rows_from_redis(struct kv *kv, const struct redis_keys *k, int64_t hour,
                                   struct hour_rows *out, struct err *err)
{
    enum err_code e = ERR_OK;

    for (size_t i = redis_keys_from(k, hour); i < k->n && k->v[i].hour == hour && !e; i++)
        e = read_key(kv, k, &k->v[i], out, err);
    drop_empty(out);
    hour_rows_finish(out);
    return e;
}

/* ---- the index of hours -------------------------------------------------------------------------------------------- */

struct indexed {
    redis_hour_fn fn;
    void *user;
    enum err_code e;
};

static void take_member(void *user, struct span member, struct span score)
{
    struct indexed *x = user;
    int64_t hour = hour_of_text(member);

    (void)score;
    if (!x->e && hour >= 0)
        x->e = x->fn(x->user, hour);
}

enum err_code redis_hours(struct kv *kv, struct wall now, redis_hour_fn fn, void *user, struct err *err)
{
    struct indexed x = {.fn = fn, .user = user};
    enum err_code e = kv_index(kv, KV_HOURS, 0, now.us / 1000000, take_member, &x, err);

    return e || !x.e ? e : err_set(err, x.e, "the list of hours does not fit into memory");
}

/* ---- clean-up ------------------------------------------------------------------------------------------------------ */

struct tens {
    struct kv_batch *batch;
    int64_t before; /* second */
};

/* "{gw}:t:2026-11-20T13:05:10:openai:gpt-4o"; the hour is enough to tell what is long gone. */
static void take_ten(void *user, struct span key, struct span ttl)
{
    struct tens *t = user;
    struct span s = span_make(key.p + sizeof(TEN_PREFIX) - 1, key.len - (sizeof(TEN_PREFIX) - 1));
    int64_t hour;
    char z[KV_KEY_CAP];

    (void)ttl;
    hour = hour_of_text(span_split(&s, ':'));
    if (hour < 0 || hour + HOUR_S > t->before || key.len >= sizeof(z))
        return;
    (void)span_copy(z, sizeof(z), key);
    kv_batch_delete(t->batch, z);
}

static enum err_code clean_hours(struct kv *kv, int64_t before, bool is_endless_only, redis_may_fn may,
                                 void *user, struct kv_batch *batch, struct err *err)
{
    struct redis_keys keys = {0};
    enum err_code e = redis_keys_scan(kv, &keys, err);
    int64_t asked = -1;
    bool agreed = false;

    for (size_t i = 0; i < keys.n && keys.v[i].hour + HOUR_S <= before && !e; i++) {
        if (is_endless_only && keys.v[i].ttl_s >= 0)
            continue;
        if (keys.v[i].hour != asked)
            e = may(user, asked = keys.v[i].hour, &agreed, err);
        if (!e && agreed)
            kv_batch_delete(batch, keys.v[i].key);
    }
    redis_keys_release(&keys);
    return e;
}

enum err_code redis_clean(struct kv *kv, struct wall now, int64_t retention_us, redis_may_fn may, void *user,
                          unsigned *out_removed, struct err *err)
{
    struct kv_batch *batch = kv_batch_new();
    struct tens t = {.batch = batch, .before = now.us / 1000000 - KV_TTL_TEN_S};
    bool is_known = retention_us > 0;
    enum err_code e;

    *out_removed = 0;
    e = clean_hours(kv, (now.us - (is_known ? retention_us : ENDLESS_US)) / 1000000, !is_known, may, user,
                    batch, err);
    if (!e)
        e = kv_scan(kv, TEN_PREFIX, take_ten, &t, err);
    if (!e && kv_batch_ops(batch))
        e = kv_write(kv, batch, err);
    if (!e)
        *out_removed = (unsigned)kv_batch_ops(batch);
    kv_batch_free(batch);
    return e;
}
