/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_MEASURES_H
#define STORE_MEASURES_H

#include <stdint.h>

enum measure {
#define MEASURE(name, text) MEASURE_##name,
#include "libshared/store/measures.def"
#undef MEASURE
    MEASURE_COUNT
};

struct measures {
    int64_t v[MEASURE_COUNT];
};

const char *measure_name(enum measure m);

#endif
