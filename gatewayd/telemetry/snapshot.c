/* SPDX-License-Identifier: Apache-2.0 */
/* Reads while workers write: counters with relaxed loads, exemplars and windows under their own protocols.
 * Series that appear after the registry was asked are left to the next snapshot. */
#include "gatewayd/telemetry/snapshot.h"

#include <math.h>
#include <stdlib.h>

void snapshot_init(struct snapshot *s, struct facts *const *workers, size_t n_workers, struct wall now)
{
    *s = (struct snapshot){.workers = workers, .n_workers = n_workers, .now = now, .slots = WINDOW_SLOTS};
}

void snapshot_release(struct snapshot *s)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        free(s->kinds[i].keys);
        free(s->kinds[i].words);
        free(s->kinds[i].cells);
        free(s->kinds[i].stats);
    }
    *s = (struct snapshot){0};
}

static void add_worker(struct snapshot_kind *out, const struct cells *c, size_t worker, size_t n_workers)
{
    unsigned count = __atomic_load_n(&c->count, __ATOMIC_ACQUIRE);

    for (unsigned i = 0; i < count; i++) {
        const struct cell *cell = c->at[i];
        const uint64_t *from = (const uint64_t *)(const void *)(cell + 1);
        uint64_t *into = out->words + cell->series * out->n_words;

        if (cell->series >= out->n)
            continue;
        out->cells[cell->series * n_workers + worker] = cell;
        for (unsigned w = 0; w < out->n_words; w++)
            into[w] += cells_load(&from[w]);
    }
}

static struct window_stats stats_of(const struct window_sum *sum, const struct sketch *sketch)
{
    struct window_stats st = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, sum->count, sum->errors, 0};

    if (!sum->count)
        return st;
    st.avg = (double)sum->sum_us / (double)sum->count / 1e6;
    st.min = (double)sum->min_us / 1e6;
    st.max = (double)sum->max_us / 1e6;
    st.error_rate = (double)sum->errors / (double)sum->count;
    st.p50 = sketch_quantile_us(sketch, 0.50) / 1e6;
    st.p95 = sketch_quantile_us(sketch, 0.95) / 1e6;
    st.p99 = sketch_quantile_us(sketch, 0.99) / 1e6;
    return st;
}

static void read_windows(const struct snapshot *s, struct snapshot_kind *out, bool has_sketch)
{
    struct sketch sketch AUTO(sketch_release) = {0};

    for (size_t i = 0; i < out->n; i++) {
        struct window_sum sum = {0};
        uint64_t last_us = 0;

        sketch_clear(&sketch);
        for (size_t w = 0; w < s->n_workers; w++) {
            const struct window_cell *c =
                (const struct window_cell *)(const void *)out->cells[i * s->n_workers + w];
            uint64_t at = c ? cells_load(&c->last_us) : 0;

            if (c)
                window_read_last(&c->window, window_epoch(s->now), s->slots, &sum,
                                 has_sketch ? &sketch : NULL);
            last_us = at > last_us ? at : last_us;
        }
        out->stats[i] = stats_of(&sum, &sketch);
        out->stats[i].last_us = last_us;
    }
}

static bool is_window_kind(enum facts_kind k)
{
    return k == KIND_ENDPOINT || k == KIND_PROVIDER || k == KIND_MODEL;
}

static void take(struct snapshot *s, enum facts_kind k)
{
    struct snapshot_kind *out = &s->kinds[k];
    size_t n = cells_series_mt(k, &out->keys);

    out->is_taken = true;
    out->n_words = FACTS_KINDS[k].n_words;
    out->words = calloc(n ? n : 1, out->n_words * sizeof(*out->words));
    out->cells = calloc(n ? n : 1, (s->n_workers ? s->n_workers : 1) * sizeof(*out->cells));
    out->stats = is_window_kind(k) ? calloc(n ? n : 1, sizeof(*out->stats)) : NULL;
    if (!out->words || !out->cells || (is_window_kind(k) && !out->stats))
        return; /* n stays 0 */
    out->n = n;
    for (size_t w = 0; w < s->n_workers; w++)
        add_worker(out, &s->workers[w]->cells[k], w, s->n_workers);
    if (is_window_kind(k))
        read_windows(s, out, kind_has_sketch(k));
}

const struct snapshot_kind *snapshot_kind(struct snapshot *s, enum facts_kind k)
{
    if (!s->kinds[k].is_taken)
        take(s, k);
    return &s->kinds[k];
}

/* False when it was empty or being written. */
static bool read_exemplar(const struct exemplar *x, struct latest *out)
{
    uint32_t turn = __atomic_load_n(&x->turn, __ATOMIC_ACQUIRE);
    uint64_t trace[2];

    if (!turn || turn & 1)
        return false;
    out->us = __atomic_load_n(&x->us, __ATOMIC_ACQUIRE);
    trace[0] = __atomic_load_n(&x->trace[0], __ATOMIC_ACQUIRE);
    trace[1] = __atomic_load_n(&x->trace[1], __ATOMIC_ACQUIRE);
    out->at_us = __atomic_load_n(&x->at_us, __ATOMIC_ACQUIRE);
    memcpy(out->trace.b, trace, sizeof(trace));
    return __atomic_load_n(&x->turn, __ATOMIC_RELAXED) == turn;
}

bool snapshot_exemplar(const struct snapshot *s, const struct snapshot_kind *k, size_t i, size_t offset,
                       struct latest *out)
{
    bool found = false;

    for (size_t w = 0; w < s->n_workers; w++) {
        const char *cell = (const char *)k->cells[i * s->n_workers + w];
        struct latest x;

        if (!cell || !read_exemplar((const struct exemplar *)(const void *)(cell + offset), &x))
            continue;
        if (!found || x.at_us > out->at_us)
            *out = x;
        found = true;
    }
    return found;
}
