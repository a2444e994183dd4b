/* SPDX-License-Identifier: Apache-2.0 */
/* The same suite over the scanner without SSE2, as other processors get it. */
#undef __SSE2__
#include "libshared/json/json.c"
#include "libshared/json/json_check.c"
#include "tests/unit/libshared/json/test_json.c"
