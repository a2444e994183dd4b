/* SPDX-License-Identifier: Apache-2.0 */
/* Names of keys. Pure functions. The tricky part is put_part(): whatever a name holds, the key has a bounded length and
 * two names do not share one. */
#include "libshared/store/kv_keys.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "libshared/base/hash.h"
#include "libshared/base/span.h"

/* Two parts of this length and the longest prefix fit KV_KEY_CAP. */
#define PART_MAX  220u
#define HASH_TEXT 32u

#define LAST_SECOND INT64_C(253402300799) /* 9999-12-31T23:59:59: years have four digits */

static void time_text(struct wall t, const char *format, char *dst, size_t cap)
{
    time_t s = (time_t)(t.us < 0 ? 0 : t.us / 1000000 > LAST_SECOND ? LAST_SECOND : t.us / 1000000);
    struct tm tm;

    (void)gmtime_r(&s, &tm);
    (void)strftime(dst, cap, format, &tm);
}

void kv_hour_text(struct wall t, char dst[KV_HOUR_CAP])
{
    time_text(t, "%Y-%m-%dT%H", dst, KV_HOUR_CAP);
}

void kv_ten_text(struct wall t, char dst[KV_TEN_CAP])
{
    if (t.us > 0)
        t.us -= t.us % 10000000;
    time_text(t, "%Y-%m-%dT%H:%M:%S", dst, KV_TEN_CAP);
}

int64_t kv_hour_parse(const char *hour)
{
    char again[KV_HOUR_CAP];
    struct tm tm = {0};
    const char *end;
    time_t s;

    if (strnlen(hour, KV_HOUR_CAP) != 13)
        return -1;
    end = strptime(hour, "%Y-%m-%dT%H", &tm);
    if (!end || *end)
        return -1;
    s = timegm(&tm);
    if (s < 0 || s > LAST_SECOND)
        return -1;
    kv_hour_text((struct wall){(int64_t)s * 1000000}, again);
    return strcmp(again, hour) == 0 ? (int64_t)s : -1; /* no "2026-02-30", no "2026-1-01" */
}

/* The name with ':' and '%' encoded. One that is longer than PART_MAX then ends in '~' and the beginning of its SHA-256
 * instead of its tail. */
static size_t put_part(char *dst, const char *name)
{
    unsigned char digest[SHA256_BYTES];
    size_t n = 0, keep = 0;

    for (const char *p = name; *p; p++) {
        size_t add = *p == ':' || *p == '%' ? 3 : 1;

        if (n + add > PART_MAX) {
            sha256(span_of(name), digest);
            dst[keep] = '~';
            hex_encode(digest, HASH_TEXT / 2, dst + keep + 1);
            return keep + 1 + HASH_TEXT;
        }
        if (add == 1)
            dst[n] = *p;
        else
            memcpy(dst + n, *p == ':' ? "%3A" : "%25", 3);
        n += add;
        if (n + 1 + HASH_TEXT <= PART_MAX)
            keep = n; /* a cut here leaves room for the hash and splits no escape */
    }
    return n;
}

static void join(char dst[KV_KEY_CAP], const char *prefix, const char *a, const char *b)
{
    size_t n = (size_t)snprintf(dst, KV_KEY_CAP, "%s", prefix);

    n += put_part(dst + n, a);
    if (b) {
        dst[n++] = ':';
        n += put_part(dst + n, b);
    }
    dst[n] = '\0';
}
_Static_assert(sizeof("{gw}:t:2026-11-20T13:05:10:") + 2 * PART_MAX + 2 <= KV_KEY_CAP,
               "the longest key fits");

void kv_key_hour(char dst[KV_KEY_CAP], struct wall t, const char *provider, const char *model)
{
    char prefix[32], hour[KV_HOUR_CAP];

    kv_hour_text(t, hour);
    (void)snprintf(prefix, sizeof(prefix), "{gw}:h:%s:", hour);
    join(dst, prefix, provider, model);
}

void kv_key_ten(char dst[KV_KEY_CAP], struct wall t, const char *provider, const char *model)
{
    char prefix[32], ten[KV_TEN_CAP];

    kv_ten_text(t, ten);
    (void)snprintf(prefix, sizeof(prefix), "{gw}:t:%s:", ten);
    join(dst, prefix, provider, model);
}

void kv_key_provider(char dst[KV_KEY_CAP], struct wall t, const char *provider)
{
    char prefix[40], ten[KV_TEN_CAP];

    kv_ten_text(t, ten);
    (void)snprintf(prefix, sizeof(prefix), "{gw}:p:%s:", ten);
    join(dst, prefix, provider, NULL);
}

void kv_key_errors(char dst[KV_KEY_CAP], const char *provider)
{
    join(dst, "{gw}:err:", provider, NULL);
}

void kv_key_tenants(char dst[KV_KEY_CAP], struct wall t)
{
    char hour[KV_HOUR_CAP];

    kv_hour_text(t, hour);
    (void)snprintf(dst, KV_KEY_CAP, "{gw}:ten:%s", hour);
}

void kv_key_limit(char dst[KV_KEY_CAP], const char *account, const char *kind)
{
    join(dst, "{gw}:lim:", account, kind);
}

void kv_key_budget(char dst[KV_KEY_CAP], const char *account, const char *window)
{
    join(dst, "{gw}:bud:", account, window);
}

void kv_key_instance(char dst[KV_KEY_CAP], const char *instance)
{
    join(dst, "{gw}:inst:", instance, NULL);
}

void kv_key_watermark(char dst[KV_KEY_CAP], const char *instance)
{
    join(dst, "{gw}:seq:", instance, NULL);
}
