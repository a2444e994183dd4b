/* SPDX-License-Identifier: Apache-2.0 */
/* The script that applies a batch in Redis; see kv_script.c for its arguments. */
#ifndef STORE_KV_SCRIPT_H
#define STORE_KV_SCRIPT_H

#include <stddef.h>

extern const char KV_SCRIPT[];
extern const size_t KV_SCRIPT_LEN;

#endif
