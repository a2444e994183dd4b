/* SPDX-License-Identifier: Apache-2.0 */
/* What the pairs share: telling of differences, and remembering where they were. */
#ifndef ANALYTICS_RECONCILE_PRIV_H
#define ANALYTICS_RECONCILE_PRIV_H

#include "libshared/analytics/aggregate_priv.h"
#include "libshared/analytics/reconcile.h"

#define RECONCILE_WHERE_CAP 512

struct comparison {
    const struct reconcile_options *o;
    struct reconcile_result *out;
    enum reconcile_pair pair;
    int64_t from, archived;
    struct hour_list hours; /* that differ, each once */
    struct err *err;
};

/* One dimension: begin, its figures, end. `where` is borrowed until the end. */
struct place {
    struct comparison *c;
    const char *where;
    uint64_t cost, rest; /* absolute differences */
};

void place_figure(struct place *p, const char *measure, int64_t ledger, int64_t other);
void place_end(struct place *p);
/* Both in order. */
NODISCARD enum err_code compare_rows(struct comparison *c, int64_t hour, const struct hour_rows *ledger,
                                     const struct hour_rows *other);
/* Whether they are the same in every measure. */
bool rows_equal(const struct hour_rows *a, const struct hour_rows *b);

/* ---- reconcile_redis.c --------------------------------------------------------------------------------------------- */

NODISCARD enum err_code compare_redis(struct comparison *c);
/* Replaces the hours that differ. */
NODISCARD enum err_code repair_redis(struct comparison *c);

/* ---- reconcile_budgets.c ------------------------------------------------------------------------------------------- */

/* With `is_repair` the windows that differ are set to the ledger's sum. */
NODISCARD enum err_code compare_budgets(struct comparison *c, bool is_repair);

#endif
