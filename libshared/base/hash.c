/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/base/hash.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>

#include "libshared/base/compiler.h"
#include "libshared/base/id.h"

static uint64_t seed;
static uint32_t crc_table[256];
static EVP_MD *md_sha256;     /* fetched once: a fetch per call costs more than the hash */
static pthread_key_t ctx_key; /* frees a thread's context when the thread ends */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_ctx(void *ctx)
{
    EVP_MD_CTX_free(ctx);
}

static void init_once(void)
{
    random_bytes(&seed, sizeof(seed));
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0x82f63b78u ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
    md_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    (void)pthread_key_create(&ctx_key, free_ctx);
}

/* Multiply-and-fold over 8-byte words, seeded. */
uint64_t hash_bytes(struct span s)
{
    uint64_t h, w;
    size_t i = 0;

    (void)pthread_once(&once, init_once);
    h = seed ^ (s.len * 0x9e3779b97f4a7c15u);
    for (; i + 8 <= s.len; i += 8) {
        memcpy(&w, s.p + i, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    w = 0;
    if (i < s.len)
        memcpy(&w, s.p + i, s.len - i);
    h = (h ^ w) * 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 29);
}

void sha256(struct span s, unsigned char out[SHA256_BYTES])
{
    static _Thread_local EVP_MD_CTX *ctx;
    unsigned len = 0;

    (void)pthread_once(&once, init_once);
    if (!ctx) {
        ctx = EVP_MD_CTX_new();
        (void)pthread_setspecific(ctx_key, ctx);
    }
    if (EVP_DigestInit_ex2(ctx, md_sha256, NULL) != 1 || EVP_DigestUpdate(ctx, s.p, s.len) != 1 ||
        EVP_DigestFinal_ex(ctx, out, &len) != 1)
        memset(out, 0, SHA256_BYTES);
}

uint32_t crc32c_portable(uint32_t crc, const void *p, size_t len)
{
    const unsigned char *b = p;

    (void)pthread_once(&once, init_once);
    crc = ~crc;
    for (size_t i = 0; i < len; i++)
        crc = crc_table[(crc ^ b[i]) & 0xff] ^ (crc >> 8);
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *p, size_t len)
{
    const unsigned char *b = p;
    uint64_t c = ~crc, w;

    for (; len >= 8; b += 8, len -= 8) {
        memcpy(&w, b, 8);
        c = __builtin_ia32_crc32di(c, w);
    }
    for (; len; b++, len--)
        c = __builtin_ia32_crc32qi((uint32_t)c, *b);
    return ~(uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t len)
{
#if defined(__x86_64__)
    if (LIKELY(__builtin_cpu_supports("sse4.2")))
        return crc32c_sse42(crc, p, len);
#endif
    return crc32c_portable(crc, p, len);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hex_decode(struct span hex, unsigned char *out, size_t n)
{
    if (hex.len != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int hi = hex_digit(hex.p[2 * i]);
        int lo = hex_digit(hex.p[2 * i + 1]);

        if (hi < 0 || lo < 0)
            return false;
        out[i] = (unsigned char)(hi << 4 | lo);
    }
    return true;
}

void hex_encode(const unsigned char *p, size_t n, char *dst)
{
    static const char HEX[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        dst[2 * i] = HEX[p[i] >> 4];
        dst[2 * i + 1] = HEX[p[i] & 15];
    }
    dst[2 * n] = '\0';
}

void hmac_sha256(struct span key, struct span text, unsigned char out[SHA256_BYTES])
{
    unsigned len = 0;

    if (!HMAC(EVP_sha256(), key.p, (int)key.len, (const unsigned char *)(text.p ? text.p : ""), text.len, out,
              &len) ||
        len != SHA256_BYTES)
        abort();
}
