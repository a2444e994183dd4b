/* SPDX-License-Identifier: Apache-2.0 */
/* The scripts that change what is in Redis: one applies a batch, one is about leases. Their files say what their arguments are. */
#ifndef STORE_KV_SCRIPT_H
#define STORE_KV_SCRIPT_H

#include <stddef.h>

extern const char KV_SCRIPT[];
extern const size_t KV_SCRIPT_LEN;
extern const char KV_LEASE_SCRIPT[];
extern const size_t KV_LEASE_SCRIPT_LEN;

#endif
