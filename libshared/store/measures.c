/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/store/measures.h"

#include "libshared/base/compiler.h"

const char *measure_name(enum measure m)
{
    static const char *const NAMES[] = {
#define MEASURE(name, text) #name,
#include "libshared/store/measures.def"
#undef MEASURE
    };
    _Static_assert(ARRAY_LEN(NAMES) == MEASURE_COUNT, "every measure has a name");

    return m < MEASURE_COUNT ? NAMES[m] : "unknown";
}
