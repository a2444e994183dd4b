/* SPDX-License-Identifier: Apache-2.0 */
/* Random bits come in 4 KiB blocks per thread: one system call serves hundreds of ids. */
#include "libshared/base/id.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "libshared/base/hash.h"

static void from_kernel(unsigned char *p, size_t n)
{
    while (n) {
        ssize_t got = getrandom(p, n < 256 ? n : 256, 0);

        if (got <= 0)
            abort();
        p += got;
        n -= (size_t)got;
    }
}

void random_bytes(void *dst, size_t n)
{
    static _Thread_local unsigned char pool[4096];
    static _Thread_local size_t left;

    if (n > sizeof(pool)) {
        from_kernel(dst, n);
        return;
    }
    if (left < n) {
        from_kernel(pool, sizeof(pool));
        left = sizeof(pool);
    }
    left -= n;
    memcpy(dst, pool + left, n);
    memset(pool + left, 0, n);
}

struct id id_mint(struct wall now)
{
    struct id id;
    uint64_t ms = (uint64_t)(now.us / 1000);

    random_bytes(id.b, sizeof(id.b));
    for (int i = 0; i < 6; i++)
        id.b[i] = (unsigned char)(ms >> (40 - 8 * i));
    id.b[6] = (unsigned char)(0x70 | (id.b[6] & 0x0f));
    id.b[8] = (unsigned char)(0x80 | (id.b[8] & 0x3f));
    return id;
}

void id_format(const struct id *id, char dst[ID_TEXT_CAP])
{
    char hex[33];

    hex_encode(id->b, 16, hex);
    memcpy(dst, hex, 8);
    dst[8] = '-';
    memcpy(dst + 9, hex + 8, 4);
    dst[13] = '-';
    memcpy(dst + 14, hex + 12, 4);
    dst[18] = '-';
    memcpy(dst + 19, hex + 16, 4);
    dst[23] = '-';
    memcpy(dst + 24, hex + 20, 13);
}

void key_mint(char dst[KEY_TEXT_CAP])
{
    static const char DIGITS[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    size_t n = 3;

    memcpy(dst, "gw-", 3);
    while (n < KEY_TEXT_CAP - 1) {
        unsigned char c;

        random_bytes(&c, 1);
        if (c < 248) /* 4 * 62: the rest would make some digits likelier */
            dst[n++] = DIGITS[c % 62];
    }
    dst[n] = '\0';
}
