/* SPDX-License-Identifier: Apache-2.0 */
/* Two clocks that cannot be mixed up: `mono` measures, `wall` dates. Both in microseconds. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

struct mono { /* since boot; never steps back */
    int64_t us;
};
struct wall { /* since 1970 UTC; may step */
    int64_t us;
};

struct mono mono_now(void);
struct wall wall_now(void);
static inline int64_t mono_diff_us(struct mono later, struct mono earlier)
{
    return later.us - earlier.us;
}
static inline struct mono mono_add_us(struct mono t, int64_t us)
{
    return (struct mono){t.us + us};
}

/* RFC 3339 UTC with milliseconds, "2026-11-20T14:32:07.123Z"; `cap` >= WALL_TEXT_CAP. Returns the length. */
#define WALL_TEXT_CAP 32
size_t wall_format(struct wall t, char *dst, size_t cap);

#endif
