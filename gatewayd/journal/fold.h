/* SPDX-License-Identifier: Apache-2.0 */
/* What the stores' targets share: how a record becomes lines of the books, and tables that add lines of one key up. One
 * batch is folded on the writer's thread, so nothing here is locked. */
#ifndef JOURNAL_FOLD_H
#define JOURNAL_FOLD_H

#include "gatewayd/journal/journal.h"

/* ---- sums by a key of a few numbers ---- */

#define FOLD_KEY_MAX 6u

struct fold_table {
    unsigned n_key, n_value;
    size_t n;
    int64_t *rows; /* n_key + n_value numbers each, in the order of their first mention */
    uint32_t *slots;
    size_t cap, n_slots; /* private */
};

void fold_table_init(struct fold_table *t, unsigned n_key, unsigned n_value);
void fold_table_release(struct fold_table *t);
void fold_table_clear(struct fold_table *t); /* keeps its memory */
/* The values of that key, zero when it is new; valid until the next call. */
int64_t *fold_table_at(struct fold_table *t, const int64_t *key);
/* The row of that key, or `t->n`. */
size_t fold_table_find(const struct fold_table *t, const int64_t *key);
static inline const int64_t *fold_key(const struct fold_table *t, size_t row)
{
    return t->rows + row * (t->n_key + t->n_value);
}
static inline int64_t *fold_values(const struct fold_table *t, size_t row)
{
    return t->rows + row * (t->n_key + t->n_value) + t->n_key;
}
/* Numbers from a damaged file may be absurd; adding them up is defined all the same. */
static inline void fold_add(int64_t *sum, int64_t v)
{
    *sum = (int64_t)((uint64_t)*sum + (uint64_t)v);
}
static inline int64_t fold_pair(label high, label low)
{
    return (int64_t)((uint64_t)high << 32 | low);
}
static inline label fold_high(int64_t pair)
{
    return (label)((uint64_t)pair >> 32);
}
static inline label fold_low(int64_t pair)
{
    return (label)(uint32_t)pair;
}

/* ---- lines ---- */

enum fold_kind { FOLD_REQUEST, FOLD_ATTEMPT, FOLD_ADJUST, FOLD_RESET };
const char *fold_kind_name(enum fold_kind k); /* "request" … */

enum fold_value { /* the order of the ledger's columns */
                  FOLD_COUNT,
                  FOLD_IN,
                  FOLD_CACHED,
                  FOLD_CWRITE,
                  FOLD_OUT,
                  FOLD_REASONING,
                  FOLD_IMAGES,
                  FOLD_SEARCHES,
                  FOLD_COST,
                  FOLD_UNPRICED,
                  FOLD_LATENCY,
                  FOLD_TTFT,
                  FOLD_TTFT_COUNT,
                  FOLD_VALUES
};

struct fold_line {
    enum fold_kind kind;
    struct wall ended;    /* decides minute and hour */
    struct wall reserved; /* decides the windows of its budgets: the arrival */
    label tenant, key, provider, model, endpoint;
    const char *outcome;     /* "" for adjustments */
    enum fact_status status; /* STATUS_COUNT for adjustments */
    enum err_code error;
    enum stream_end end; /* STREAM_END_COUNT for adjustments */
    enum usage_source source;
    int64_t v[FOLD_VALUES];
};

/* False for records that are no line: RESERVE, PROGRESS. */
bool fold_line_of(const struct journal_record *rec, struct fold_line *out);
/* Adds what lines of that kind and outcome count for an hour of the books; `m` has MEASURE_COUNT numbers. */
void fold_measures(enum fold_kind kind, enum fact_status status, const int64_t v[FOLD_VALUES], int64_t *m);
/* The same, from the names that the ledger has. */
bool fold_kind_parse(struct span name, enum fold_kind *out);
enum fact_status fold_status_parse(struct span name); /* STATUS_COUNT for any other text */

/* ---- budgets ---- */

#define FOLD_ACCOUNT_CAP 280u

/* Rows of a table with FOLD_BUDGET_KEY and FOLD_BUDGET_VALUES numbers: what the record posts and holds. */
#define FOLD_BUDGET_KEY    3u
#define FOLD_BUDGET_VALUES 3u
void fold_budgets(struct fold_table *t, const struct journal_record *rec);

struct fold_window {
    char account[FOLD_ACCOUNT_CAP]; /* "global", "tenant:ID", "key:TENANT/ID", "provider:NAME" */
    const char *period;
    char window[PERIOD_WINDOW_CAP];
    int64_t starts_s;
    int64_t ends_s; /* 0: never */
    int64_t posted_nano, held_nano;
    int64_t settled_nano; /* of posted: ends of requests and attempts, which a lease was taken for */
};
/* False for a row that came to nothing. */
bool fold_window_of(const struct fold_table *t, size_t row, struct fold_window *out);

#endif
