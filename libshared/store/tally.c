/* SPDX-License-Identifier: Apache-2.0 */
/* Counts statements and commands for the metric families. Any thread that may wait for a store may call it: the figures
 * stand under one mutex that is held for some additions or one copy, never across I/O, and no worker takes it.
 *
 * The tricky part is tally_parse(): it reads our own statements, of which a test knows them all, not SQL. */
#include "libshared/store/tally.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#include "libshared/base/compiler.h"
#include "libshared/base/span.h"
#include "libshared/catalog/metrics.h"

#define SLOT_US 10000000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct store_tally total;

/* ---- names ---- */

static const char *const TABLES[] = {
    [SQL_TABLE_NONE] = "none",
#define TABLE(name) [SQL_TABLE_##name] = #name,
#include "libshared/store/tables.def"
#undef TABLE
    [SQL_TABLE_OTHER] = "other",
};
_Static_assert(ARRAY_LEN(TABLES) == SQL_TABLES, "every table has a name");

static const char *const OPERATIONS[] = {"select", "insert", "update",   "delete",
                                         "begin",  "commit", "rollback", "other"};
_Static_assert(ARRAY_LEN(OPERATIONS) == SQL_OPERATIONS, "every operation has a name");

const char *sql_table_name(enum sql_table t)
{
    return TABLES[t];
}
const char *sql_operation_name(enum sql_operation o)
{
    return OPERATIONS[o];
}

const char *redis_operation_name(enum redis_operation o)
{
    static const char *const NAMES[] = {"get", "set",  "batch", "lease",  "scan",
                                        "ttl", "time", "ping",  "connect"};

    _Static_assert(ARRAY_LEN(NAMES) == REDIS_OPERATIONS, "every operation has a name");
    return NAMES[o];
}

const char *tally_outcome_name(enum tally_outcome o)
{
    static const char *const NAMES[] = {"success", "error", "again"};

    _Static_assert(ARRAY_LEN(NAMES) == TALLY_OUTCOMES, "every outcome has a name");
    return NAMES[o];
}

/* ---- what a statement is ---- */

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* The next word, and how deep in parentheses it stands; texts in quotes are passed over. */
static struct span next_word(const char **at, int *depth)
{
    const char *p = *at, *from;

    while (*p && !is_word(*p)) {
        *depth += (*p == '(') - (*p == ')');
        if (*p == '\'')
            for (p++; *p && *p != '\'';)
                p++;
        p += *p != '\0';
    }
    from = p;
    while (is_word(*p))
        p++;
    *at = p;
    return span_make(from, (size_t)(p - from));
}

static bool word_is(struct span w, const char *z)
{
    return span_eq_nocase(w, span_of(z));
}

static enum sql_operation operation_of(struct span w)
{
    for (int o = 0; o < SQL_OTHER; o++)
        if (word_is(w, OPERATIONS[o]))
            return (enum sql_operation)o;
    return SQL_OTHER;
}

static bool precedes_table(struct span w)
{
    return word_is(w, "from") || word_is(w, "into") || word_is(w, "update") || word_is(w, "view") ||
           word_is(w, "concurrently") || word_is(w, "join") || word_is(w, "table") || word_is(w, "truncate");
}

static enum sql_table table_of(struct span w)
{
    for (int t = SQL_TABLE_NONE + 1; t < SQL_TABLE_OTHER; t++)
        if (span_is(w, TABLES[t]))
            return (enum sql_table)t;
    return SQL_TABLE_NONE;
}

void tally_parse(const char *sql, enum sql_table *out_table, enum sql_operation *out_operation)
{
    enum sql_table inner = SQL_TABLE_NONE;
    bool has_from = false;
    int depth = 0;
    struct span w, before = {0};

    *out_table = SQL_TABLE_NONE;
    *out_operation = SQL_OTHER;
    for (; (w = next_word(&sql, &depth)).len; before = w) {
        enum sql_table t = precedes_table(before) ? table_of(w) : SQL_TABLE_NONE;

        has_from |= precedes_table(before);
        if (*out_operation == SQL_OTHER && depth == 0)
            *out_operation = operation_of(w);
        if (t && depth == 0)
            *out_table = t;
        if (t && !inner)
            inner = t;
        if (*out_table && *out_operation != SQL_OTHER)
            return;
    }
    if (!*out_table)
        *out_table = inner ? inner : has_from ? SQL_TABLE_OTHER : SQL_TABLE_NONE;
}

/* ---- counting ---- */

static void add_time(struct tally_times *t, enum metric_buckets set, int64_t took_us)
{
    const struct metric_bounds *b = metric_bounds(set);
    size_t i = 0;

    while (i < b->n && took_us > b->us[i])
        i++;
    t->n[i]++;
    t->sum_us += (uint64_t)took_us;
}

static void add_slot(int64_t took_us)
{
    uint64_t epoch = (uint64_t)wall_now().us / SLOT_US;
    struct tally_slot *s = &total.slots[epoch % TALLY_SLOTS];

    if (s->epoch != epoch)
        *s = (struct tally_slot){.epoch = epoch};
    s->count++;
    s->sum_us += (uint64_t)took_us;
}

void tally_sql(const char *sql, int64_t took_us, bool is_ok)
{
    enum sql_operation o;
    enum sql_table t;

    _Static_assert(METRIC_BUCKETS_MAX + 1 >= TALLY_BUCKETS, "every bucket has a place");
    took_us = took_us > 0 ? took_us : 0;
    tally_parse(sql, &t, &o);
    (void)pthread_mutex_lock(&lock);
    total.sql[t][o].count[is_ok ? TALLY_SUCCESS : TALLY_ERROR]++;
    add_time(&total.sql[t][o].times, METRIC_BUCKETS_db_seconds, took_us);
    add_slot(took_us);
    (void)pthread_mutex_unlock(&lock);
}

void tally_redis(enum redis_operation o, enum tally_outcome outcome, uint64_t n, int64_t took_us)
{
    (void)pthread_mutex_lock(&lock);
    total.redis[o].count[outcome] += n;
    for (uint64_t i = 0; i < n && took_us >= 0; i++)
        add_time(&total.redis[o].times, METRIC_BUCKETS_redis_seconds, took_us);
    (void)pthread_mutex_unlock(&lock);
}

void tally_redis_unreachable(void)
{
    (void)pthread_mutex_lock(&lock);
    total.unreachable++;
    (void)pthread_mutex_unlock(&lock);
}

void tally_connections(int by)
{
    (void)pthread_mutex_lock(&lock);
    total.connections += by;
    (void)pthread_mutex_unlock(&lock);
}

void tally_in_use(int by)
{
    (void)pthread_mutex_lock(&lock);
    total.in_use += by;
    (void)pthread_mutex_unlock(&lock);
}

/* ---- reading ---- */

void tally_read_mt(struct store_tally *out)
{
    (void)pthread_mutex_lock(&lock);
    *out = total;
    (void)pthread_mutex_unlock(&lock);
}

double tally_sql_mean(const struct store_tally *t, struct wall now, unsigned slots)
{
    uint64_t epoch = (uint64_t)now.us / SLOT_US, count = 0, sum_us = 0;

    for (unsigned i = 0; i < TALLY_SLOTS; i++) {
        const struct tally_slot *s = &t->slots[i];

        if (!s->count || s->epoch > epoch || epoch - s->epoch >= slots)
            continue;
        count += s->count;
        sum_us += s->sum_us;
    }
    return count ? (double)sum_us / (double)count / 1e6 : (double)NAN;
}
