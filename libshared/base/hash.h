/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes: `hash_bytes` (keyed, fast, for tables; the key is random per process, so clients cannot aim),
 * SHA-256 for API keys, CRC-32C for journal records. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdbool.h>

#include "libshared/base/span.h"

#define SHA256_BYTES 32

uint64_t hash_bytes(struct span s);
void sha256(struct span s, unsigned char out[SHA256_BYTES]);
/* HMAC with SHA-256: only who has the key can make it. */
void hmac_sha256(struct span key, struct span text, unsigned char out[SHA256_BYTES]);
/* Start with 0; feed the result back to go on. Uses the CPU's instruction where there is one. */
uint32_t crc32c(uint32_t crc, const void *p, size_t len);
/* The same by table; for CPUs without the instruction and for the test that compares the two. */
uint32_t crc32c_portable(uint32_t crc, const void *p, size_t len);
/* Hex text (upper or lower case) into exactly `n` bytes; false otherwise. */
bool hex_decode(struct span hex, unsigned char *out, size_t n);
/* `dst` needs 2 * n + 1 bytes. */
void hex_encode(const unsigned char *p, size_t n, char *dst);

#endif
