/* SPDX-License-Identifier: Apache-2.0 */
/* The word: requests << 44 | bytes. A million requests and 16 TiB fit; limits are far below either. */
#include "gatewayd/resilience/overload.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#define REQUEST ((uint64_t)1 << 44)

struct overload {
    _Atomic uint64_t word;
    _Atomic uint64_t refused[OVERLOAD_REASONS];
};

const char *overload_reason_name(enum overload_reason r)
{
    static const char *const NAMES[OVERLOAD_REASONS] = {"", "requests", "memory", "lag"};

    return NAMES[r];
}

struct overload *overload_new(void)
{
    struct overload *o = calloc(1, sizeof(*o));

    if (!o)
        abort();
    return o;
}

void overload_free(struct overload *o)
{
    assert(!o || !atomic_load(&o->word));
    free(o);
}

static uint64_t requests_of(uint64_t word)
{
    return word / REQUEST;
}
static uint64_t bytes_of(uint64_t word)
{
    return word % REQUEST;
}

enum overload_reason overload_enter(struct overload *o, const struct overload_rules *r, int64_t lag_us)
{
    enum overload_reason why = OVERLOAD_NONE;
    uint64_t word;

    if (r->max_lag_us && lag_us > r->max_lag_us)
        return OVERLOAD_LAG;
    word = atomic_fetch_add_explicit(&o->word, REQUEST, memory_order_relaxed);
    if (r->max_requests && requests_of(word) >= r->max_requests)
        why = OVERLOAD_REQUESTS;
    else if (r->max_bytes && bytes_of(word) >= r->max_bytes)
        why = OVERLOAD_MEMORY;
    if (why)
        overload_leave(o);
    return why;
}

bool overload_hold(struct overload *o, const struct overload_rules *r, uint64_t bytes)
{
    uint64_t word = atomic_fetch_add_explicit(&o->word, bytes, memory_order_relaxed);

    assert(bytes < REQUEST);
    if (!r->max_bytes || bytes_of(word) + bytes <= r->max_bytes)
        return true;
    overload_drop(o, bytes);
    return false;
}

void overload_drop(struct overload *o, uint64_t bytes)
{
    uint64_t before = atomic_fetch_sub_explicit(&o->word, bytes, memory_order_relaxed);

    assert(bytes_of(before) >= bytes);
    (void)before;
}

void overload_leave(struct overload *o)
{
    uint64_t before = atomic_fetch_sub_explicit(&o->word, REQUEST, memory_order_relaxed);

    assert(requests_of(before));
    (void)before;
}

void overload_refused(struct overload *o, enum overload_reason r)
{
    atomic_fetch_add_explicit(&o->refused[r], 1, memory_order_relaxed);
}

struct overload_view overload_look(const struct overload *o)
{
    uint64_t word = atomic_load_explicit(&o->word, memory_order_relaxed);
    struct overload_view v = {.requests = requests_of(word), .bytes = bytes_of(word)};

    for (unsigned i = 0; i < OVERLOAD_REASONS; i++)
        v.refused[i] = atomic_load_explicit(&o->refused[i], memory_order_relaxed);
    return v;
}
