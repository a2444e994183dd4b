/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the closed sets that facts are made of. */
#include "libshared/catalog/fact.h"

const char *fact_status_name(enum fact_status s)
{
    static const char *const NAMES[] = {"success", "error", "cancelled", "rejected"};
    _Static_assert(ARRAY_LEN(NAMES) == STATUS_COUNT, "every status has a name");

    return s < STATUS_COUNT ? NAMES[s] : "unknown";
}

const char *stream_end_name(enum stream_end e)
{
    static const char *const NAMES[] = {"none",         "complete",   "client_abort", "upstream_cut",
                                        "idle_timeout", "budget_cut", "error"};
    _Static_assert(ARRAY_LEN(NAMES) == STREAM_END_COUNT, "every end has a name");

    return e < STREAM_END_COUNT ? NAMES[e] : "unknown";
}
