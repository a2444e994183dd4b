/* SPDX-License-Identifier: Apache-2.0 */
/* What the process asked of its stores, from one copy of the tally per scrape. Api thread.
 *
 * Every table has a series of every operation from the first scrape, so that the first error of one is an increase. */
#include "gatewayd/telemetry/projections_priv.h"

static bool is_in_statements(int table, int operation)
{
    return table == SQL_TABLE_NONE ? operation >= SQL_BEGIN && operation <= SQL_ROLLBACK
                                   : operation <= SQL_DELETE;
}

void state_db_queries(struct lines *l, const struct scrape *s)
{
    for (int t = 0; t < SQL_TABLES; t++)
        for (int o = 0; o < SQL_OPERATIONS; o++)
            for (int c = TALLY_SUCCESS; c <= TALLY_ERROR; c++) {
                uint64_t n = s->state->tally->sql[t][o].count[c];
                struct span values[] = {span_of(sql_table_name((enum sql_table)t)),
                                        span_of(sql_operation_name((enum sql_operation)o)),
                                        span_of(tally_outcome_name((enum tally_outcome)c))};

                if (!n && !is_in_statements(t, o))
                    continue;
                lines_series(l, values);
                lines_number(l, LINES_COUNT, n);
            }
}

void state_db_times(struct lines *l, const struct scrape *s)
{
    for (int t = 0; t < SQL_TABLES; t++)
        for (int o = 0; o < SQL_OPERATIONS; o++) {
            const struct tally_sql *x = &s->state->tally->sql[t][o];
            struct span values[] = {span_of(sql_table_name((enum sql_table)t)),
                                    span_of(sql_operation_name((enum sql_operation)o))};

            if (!x->count[TALLY_SUCCESS] && !x->count[TALLY_ERROR])
                continue;
            lines_series(l, values);
            lines_histogram(l, metric_bounds(METRIC_BUCKETS_db_seconds), x->times.n, x->times.sum_us, NULL);
        }
}

void state_db_total(struct lines *l, const struct scrape *s)
{
    uint64_t n = 0;

    for (int t = 0; t < SQL_TABLES; t++)
        for (int o = 0; o < SQL_OPERATIONS; o++)
            n += s->state->tally->sql[t][o].count[TALLY_SUCCESS] +
                 s->state->tally->sql[t][o].count[TALLY_ERROR];
    sample_u64(l, n);
}

void state_db_latency(struct lines *l, const struct scrape *s)
{
    lines_series(l, NULL);
    lines_double(l, tally_sql_mean(s->state->tally, s->state->now, s->snapshot->slots));
}

/* Handles that wait for a connection that they share are not in it, and count as one with who is. */
void state_db_active(struct lines *l, const struct scrape *s)
{
    const struct store_tally *t = s->state->tally;
    int64_t n = t->in_use < t->connections ? t->in_use : t->connections;

    sample_u64(l, n > 0 ? (uint64_t)n : 0);
}

STATE_ONE(state_db_max, sample_u64,
          s->state->tally->connections > 0 ? (uint64_t)s->state->tally->connections : 0)

void state_redis_operations(struct lines *l, const struct scrape *s)
{
    for (int o = 0; o < REDIS_OPERATIONS; o++)
        for (int c = 0; c < TALLY_OUTCOMES; c++) {
            struct span values[] = {span_of(redis_operation_name((enum redis_operation)o)),
                                    span_of(tally_outcome_name((enum tally_outcome)c))};

            lines_series(l, values);
            lines_number(l, LINES_COUNT, s->state->tally->redis[o].count[c]);
        }
}

void state_redis_times(struct lines *l, const struct scrape *s)
{
    for (int o = 0; o < REDIS_OPERATIONS; o++) {
        const struct tally_command *x = &s->state->tally->redis[o];
        struct span value = span_of(redis_operation_name((enum redis_operation)o));
        uint64_t n = 0;

        for (int b = 0; b < TALLY_BUCKETS; b++)
            n += x->times.n[b];
        if (!n)
            continue;
        lines_series(l, &value);
        lines_histogram(l, metric_bounds(METRIC_BUCKETS_redis_seconds), x->times.n, x->times.sum_us, NULL);
    }
}

STATE_ONE(state_redis_unreachable, sample_u64, s->state->tally->unreachable)
