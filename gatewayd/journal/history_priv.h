/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the history target share: its batch (target_history.c), the rows made of it (history_write.c) and
 * what is forgotten (history_tidy.c). */
#ifndef JOURNAL_HISTORY_PRIV_H
#define JOURNAL_HISTORY_PRIV_H

#include "gatewayd/journal/fold.h"
#include "gatewayd/journal/targets.h"
#include "libshared/analytics/sketch.h"

#define SECOND_US ((int64_t)1000000)
#define HOUR_S    3600
#define QUARTER_S 900 /* local days of all zones begin with one */

/* Key of a ledger row: minute, quarter of an hour of its budgets, tenant and key, provider and model; the rest is packed. */
enum { KEY_MINUTE, KEY_HOUR, KEY_WHO, KEY_WHAT, KEY_HOW, LINE_KEY };
#define HOW_KIND   28
#define HOW_STATUS 24
#define HOW_END    20
#define HOW_SOURCE 16

#define STORY_SECONDS 16

#define DAY_S       86400
#define USER_KEY    4u
#define USERS_KNOWN 65536u /* 3 MiB; who is forgotten here is only asked to be stored again */

struct story {
    struct id id;
    int64_t at_us;
    label tenant, key;
    size_t offset, len; /* in `texts` */
};

struct span_sketches { /* one minute, provider and model */
    struct sketch latency, ttft;
    size_t offset, latency_len, ttft_len; /* encoded, in `blobs`; latency_len 0: not yet */
};

struct history {
    struct db *db;
    const char *instance;
    unsigned stories_per_second;
    struct {
        int64_t second;
        unsigned kept[2]; /* successes; refusals */
    } seconds
        [STORY_SECONDS]; /* by second, modulo: the journals of several workers are read one after the other */
    uint64_t stories_max;
    int64_t stories_us;
    struct wall (*now)(void *user);
    void *user;
    bool is_migrated;

    /* the batch */
    struct fold_table lines; /* keys as in line_key() */
    struct fold_table budgets;
    struct fold_table spans;    /* {minute, provider and model} → index in `sketches` */
    struct fold_table answered; /* {tenant}: had a success in this batch */
    struct fold_table users;    /* {day, tenant, hash, hash}: were active */
    struct span_sketches *sketches;
    size_t n_sketches;
    struct story *stories;
    size_t n_stories, cap_stories;
    struct buf texts;
    bool without_stories; /* the store refuses one of them */

    /* scratch */
    struct buf blobs;
    struct fold_table hours;
    struct fold_window *windows;
    size_t cap_windows;
    struct sketch merged;
    struct fold_table had_user;   /* like `users`: stored already; begins anew when it is large */
    struct fold_table had_answer; /* {tenant}: known to have its first_answer */

    struct wall tidied;
    bool has_old;   /* more of them than one round deletes */
    int64_t excess; /* stories above the maximum, still to be deleted */
};

/* All rows of the batch but the watermark; within the caller's transaction. */
NODISCARD enum err_code history_write(struct history *h, uint64_t seq, struct err *err);
/* It was committed. */
void history_wrote(struct history *h);
/* Retention of stories, a little at a time. */
void history_idle(void *self, struct wall now);

#endif
