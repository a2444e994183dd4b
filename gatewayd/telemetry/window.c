/* SPDX-License-Identifier: Apache-2.0 */
/* Slot and bucket memory is allocated when first needed and used again every 320 seconds, never freed while
 * the window lives. A slot is recycled 20 seconds after readers stopped looking at it; a reader that is later
 * still notices by the epoch, which is zero while the slot is being cleared:
 *
 *   writer: epoch = 0 | release stores that clear | release epoch = new
 *   reader: acquire epoch | acquire loads | epoch still the same?
 *
 * (Stores and loads with order in the place of fences, which the thread sanitizer does not know.) */
#include "gatewayd/telemetry/window.h"

#include <stdlib.h>

#include "gatewayd/telemetry/cells.h"

struct window_slot {
    uint64_t epoch; /* 0: never used or being cleared */
    uint64_t count, errors, sum_us, min_us, max_us;
    uint32_t *octaves[]; /* SKETCH_OCTAVES of them when the window has a sketch */
};

static void clear(struct window_slot *s, bool has_sketch)
{
    __atomic_store_n(&s->epoch, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&s->count, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&s->errors, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&s->sum_us, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&s->min_us, UINT64_MAX, __ATOMIC_RELEASE);
    __atomic_store_n(&s->max_us, 0, __ATOMIC_RELEASE);
    for (size_t o = 0; has_sketch && o < SKETCH_OCTAVES; o++)
        for (size_t i = 0; s->octaves[o] && i < SKETCH_SUB; i++)
            __atomic_store_n(&s->octaves[o][i], 0, __ATOMIC_RELEASE);
}

static struct window_slot *slot_for(struct window *w, bool has_sketch, uint64_t epoch)
{
    struct window_slot **at = &w->ring[epoch % WINDOW_RING];
    struct window_slot *s = *at;

    if (LIKELY(s && s->epoch == epoch))
        return s;
    if (!s) {
        s = calloc(1, sizeof(*s) + (has_sketch ? SKETCH_OCTAVES * sizeof(uint32_t *) : 0));
        if (!s)
            return NULL;
        s->min_us = UINT64_MAX;
        s->epoch = epoch;
        __atomic_store_n(at, s, __ATOMIC_RELEASE);
        return s;
    }
    clear(s, has_sketch);
    __atomic_store_n(&s->epoch, epoch, __ATOMIC_RELEASE);
    return s;
}

static void count_bucket(struct window_slot *s, uint64_t us)
{
    unsigned b = sketch_bucket(us);
    uint32_t *octave = s->octaves[b >> SKETCH_SUB_BITS];
    uint32_t *n;

    if (UNLIKELY(!octave)) {
        octave = calloc(SKETCH_SUB, sizeof(*octave));
        if (!octave)
            return;
        __atomic_store_n(&s->octaves[b >> SKETCH_SUB_BITS], octave, __ATOMIC_RELEASE);
    }
    n = &octave[b & (SKETCH_SUB - 1)];
    __atomic_store_n(n, __atomic_load_n(n, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

void window_add(struct window *w, bool has_sketch, uint64_t epoch, uint64_t us, bool is_error)
{
    struct window_slot *s = slot_for(w, has_sketch, epoch ? epoch : 1);

    if (!s)
        return;
    cells_bump(&s->count, 1);
    if (is_error)
        cells_bump(&s->errors, 1);
    cells_bump(&s->sum_us, us);
    if (us < s->min_us)
        cells_store(&s->min_us, us);
    if (us > s->max_us)
        cells_store(&s->max_us, us);
    if (has_sketch)
        count_bucket(s, us);
}

static void pour_buckets(const struct window_slot *s, struct sketch *into)
{
    for (unsigned o = 0; o < SKETCH_OCTAVES; o++) {
        const uint32_t *octave = __atomic_load_n(&s->octaves[o], __ATOMIC_ACQUIRE);

        for (unsigned i = 0; octave && i < SKETCH_SUB; i++) {
            uint32_t n = __atomic_load_n(&octave[i], __ATOMIC_RELAXED);

            if (n)
                (void)!sketch_add_bucket(into, o * SKETCH_SUB + i, n);
        }
    }
}

static void pour(const struct window_slot *s, uint64_t epoch, struct window_sum *sum, struct sketch *sketch)
{
    struct window_sum got = {
        .count = __atomic_load_n(&s->count, __ATOMIC_ACQUIRE),
        .errors = __atomic_load_n(&s->errors, __ATOMIC_ACQUIRE),
        .sum_us = __atomic_load_n(&s->sum_us, __ATOMIC_ACQUIRE),
        .min_us = __atomic_load_n(&s->min_us, __ATOMIC_ACQUIRE),
        .max_us = __atomic_load_n(&s->max_us, __ATOMIC_ACQUIRE),
    };

    if (!got.count || cells_load(&s->epoch) != epoch)
        return;
    if (!sum->count || got.min_us < sum->min_us)
        sum->min_us = got.min_us;
    if (!sum->count || got.max_us > sum->max_us)
        sum->max_us = got.max_us;
    sum->count += got.count;
    sum->errors += got.errors;
    sum->sum_us += got.sum_us;
    if (sketch)
        pour_buckets(s, sketch);
}

void window_read_last(const struct window *w, uint64_t epoch, unsigned slots, struct window_sum *sum,
                      struct sketch *sketch)
{
    for (size_t i = 0; i < WINDOW_RING; i++) {
        const struct window_slot *s = __atomic_load_n(&w->ring[i], __ATOMIC_ACQUIRE);
        uint64_t e = s ? __atomic_load_n(&s->epoch, __ATOMIC_ACQUIRE) : 0;

        if (e && e <= epoch && epoch - e < slots)
            pour(s, e, sum, sketch);
    }
    if (sketch && sum->count) { /* the extremes of the sketch are those of the window */
        sketch->min_us = sum->min_us;
        sketch->max_us = sum->max_us;
    }
}

void window_read(const struct window *w, uint64_t epoch, struct window_sum *sum, struct sketch *sketch)
{
    window_read_last(w, epoch, WINDOW_SLOTS, sum, sketch);
}

void window_release(struct window *w, bool has_sketch)
{
    for (size_t i = 0; i < WINDOW_RING; i++) {
        for (size_t o = 0; has_sketch && w->ring[i] && o < SKETCH_OCTAVES; o++)
            free(w->ring[i]->octaves[o]);
        free(w->ring[i]);
        w->ring[i] = NULL;
    }
}
