/* SPDX-License-Identifier: Apache-2.0 */
/* Time zones by their IANA names, read from /usr/share/zoneinfo (TZif of version 2 and later, with the rule in the footer
 * that goes on behind the last transition). The process' own zone and TZ are never looked at. A zone lives as long as the
 * process and never changes, so a pointer to it may be kept anywhere; NULL is UTC. */
#ifndef BASE_ZONE_H
#define BASE_ZONE_H

#include "libshared/base/compiler.h"
#include "libshared/base/err.h"
#include "libshared/base/span.h"

#define ZONE_NAME_MAX 40u /* bytes; journals hold no longer ones */

struct zone;

/* *out is NULL for UTC ("", "UTC", "Etc/UTC"). Any thread; the first call for a name reads its file, so no worker makes it. */
NODISCARD enum err_code zone_find_mt(struct span name, const struct zone **out, struct err *err);
/* The zone behind a `label` (intern.h); one that is not there any more counts as UTC. */
const struct zone *zone_of_label_mt(uint32_t label);
const char *zone_name(const struct zone *z); /* "UTC" for NULL */
uint32_t zone_label(const struct zone *z);   /* a `label`; 0 for UTC */

/* Seconds that its clocks are ahead of UTC at that instant. */
int64_t zone_offset(const struct zone *z, int64_t utc_s);
/* The first instant after `utc_s` at which the offset may change; INT64_MAX: none. */
int64_t zone_next_change(const struct zone *z, int64_t utc_s);
/* The first instant at which its clocks show `local_s` (seconds since 1970 by those clocks), or where they jump over that,
 * the instant of the jump. */
int64_t zone_instant(const struct zone *z, int64_t local_s);

/* From the bytes of such a file; for tests. NULL when they make no sense. The caller frees with zone_free(). */
struct zone *zone_read(struct span name, struct span file, struct err *err);
void zone_free(struct zone *z);

#endif
