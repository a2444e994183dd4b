/* SPDX-License-Identifier: Apache-2.0 */
/* The same cells for the monitoring API: sums per provider and in total. Api thread. */
#include <stdlib.h>

#include "gatewayd/telemetry/exposition.h"
#include "gatewayd/telemetry/snapshot.h"

static struct facts_sum *row_of(struct facts_sum *out, size_t cap, size_t *n, label provider)
{
    for (size_t i = 0; i < *n; i++)
        if (out[i].provider == provider)
            return &out[i];
    if (*n == cap)
        return NULL;
    out[*n] = (struct facts_sum){.provider = provider};
    return &out[(*n)++];
}

static void add_attempts(struct facts_sum *row, const struct attempt_words *w)
{
    for (size_t s = 0; s < ARRAY_LEN(w->status); s++)
        row->attempts += w->status[s];
    row->errors += w->status[STATUS_ERROR];
    row->input_tokens += w->tokens[TOKEN_INPUT];
    row->output_tokens += w->tokens[TOKEN_OUTPUT];
    row->cost_nanousd += (int64_t)w->cost_nanousd;
    row->unpriced += w->unpriced;
}

size_t facts_sum_providers(struct facts *const *workers, size_t n_workers, const struct metrics_state *state,
                           struct facts_sum *out, size_t cap)
{
    struct snapshot s AUTO(snapshot_release);
    const struct snapshot_kind *attempts;
    struct facts_sum *row;
    size_t n = 0;

    snapshot_init(&s, workers, n_workers, state->now);
    for (size_t i = 0; i < state->n_targets; i++)
        (void)row_of(out, cap, &n, state->targets[i].provider);
    attempts = snapshot_kind(&s, KIND_ATTEMPT);
    for (size_t i = 0; i < attempts->n; i++)
        if ((row = row_of(out, cap, &n, cells_part(attempts->keys[i], 0))))
            add_attempts(row, (const struct attempt_words *)(const void *)snapshot_words(attempts, i));
    return n;
}

static void pour_cell(const struct window_cell *c, uint64_t epoch, unsigned slots,
                      struct facts_provider_window *row)
{
    struct window_sum sum = {.count = row->attempts,
                             .errors = row->errors,
                             .min_us = row->sketch.min_us,
                             .max_us = row->sketch.max_us};
    int64_t last_us = (int64_t)cells_load(&c->last_us);

    window_read_last(&c->window, epoch, slots, &sum, &row->sketch);
    row->attempts = sum.count;
    row->errors = sum.errors;
    row->sketch.sum_us += sum.sum_us;
    if (last_us > row->last.us)
        row->last.us = last_us;
}

size_t facts_provider_windows(struct facts *const *workers, size_t n_workers, struct wall now, unsigned slots,
                              struct facts_provider_window *out, size_t cap)
{
    struct snapshot s AUTO(snapshot_release);
    const struct snapshot_kind *k;
    size_t n;

    snapshot_init(&s, workers, n_workers, now);
    k = snapshot_kind(&s, KIND_PROVIDER);
    for (n = 0; n < k->n && n < cap; n++) {
        out[n] = (struct facts_provider_window){.provider = cells_part(k->keys[n], 0)};
        for (size_t w = 0; w < n_workers; w++) {
            const struct cell *c = k->cells[n * n_workers + w];

            if (c)
                pour_cell((const struct window_cell *)(const void *)c, window_epoch(now), slots, &out[n]);
        }
    }
    return n;
}

static int by_provider_and_model(const void *a, const void *b)
{
    const struct facts_sum *x = a, *y = b;
    int c = strcmp(label_text(x->provider), label_text(y->provider));

    return c ? c : strcmp(label_text(x->model), label_text(y->model));
}

size_t facts_sum_models(struct facts *const *workers, size_t n_workers, struct wall now,
                        struct facts_sum *out, size_t cap)
{
    struct snapshot s AUTO(snapshot_release);
    const struct snapshot_kind *k;
    size_t n;

    snapshot_init(&s, workers, n_workers, now);
    k = snapshot_kind(&s, KIND_ATTEMPT);
    for (n = 0; n < k->n && n < cap; n++) {
        out[n] =
            (struct facts_sum){.provider = cells_part(k->keys[n], 0), .model = cells_part(k->keys[n], 1)};
        add_attempts(&out[n], (const struct attempt_words *)(const void *)snapshot_words(k, n));
    }
    if (n)
        qsort(out, n, sizeof(*out), by_provider_and_model);
    return n;
}

struct facts_totals facts_totals(struct facts *const *workers, size_t n_workers, struct wall now)
{
    struct facts_totals t = {0};
    struct snapshot s AUTO(snapshot_release);
    const struct snapshot_kind *k;

    snapshot_init(&s, workers, n_workers, now);
    k = snapshot_kind(&s, KIND_REQUEST);
    for (size_t i = 0; i < k->n; i++) {
        uint64_t n = snapshot_words(k, i)[0];
        unsigned status = cells_part(k->keys[i], 3);

        t.requests += n;
        if (status < STATUS_COUNT)
            t.by_status[status] += n;
    }
    k = snapshot_kind(&s, KIND_ATTEMPT);
    for (size_t i = 0; i < k->n; i++) {
        const struct attempt_words *w = (const struct attempt_words *)(const void *)snapshot_words(k, i);

        t.input_tokens += w->tokens[TOKEN_INPUT];
        t.output_tokens += w->tokens[TOKEN_OUTPUT];
        t.cost_nanousd += (int64_t)w->cost_nanousd;
    }
    for (size_t i = 0; i < n_workers; i++) {
        struct window_sum sum = {0};

        window_read(&workers[i]->requests, window_epoch(now), &sum, NULL);
        t.window_requests += sum.count;
        t.active_streams += cells_load(&workers[i]->active_streams);
    }
    return t;
}
