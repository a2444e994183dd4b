/* SPDX-License-Identifier: Apache-2.0 */
/* How long a provider asks to wait, in the spellings that vendors use: Retry-After in seconds (whole or
 * decimal) or as an HTTP date, retry-after-ms, and rate-limit resets as "1s", "6m0s", "250ms", "7.66s",
 * seconds, a Unix time in seconds or milliseconds, or RFC 3339. Pure; nothing is trusted: bad text is "not
 * said", and the result is capped. */
#include <time.h>

#include "gatewayd/provider/judge.h"

#define WAIT_MAX_MS ((int64_t)24 * 3600 * 1000)

static int64_t clamp_ms(int64_t ms)
{
    return ms < 0 ? 0 : ms > WAIT_MAX_MS ? WAIT_MAX_MS : ms;
}

/* Reads a decimal number as thousandths; false when there is none. */
static bool take_millis(struct span *s, int64_t *out)
{
    int64_t whole = 0, thousandths = 0, place = 100;
    size_t digits = 0;

    for (; s->len && s->p[0] >= '0' && s->p[0] <= '9'; s->p++, s->len--, digits++) {
        if (whole > INT64_MAX / 100000)
            return false;
        whole = whole * 10 + (s->p[0] - '0');
    }
    if (digits && s->len && s->p[0] == '.') {
        for (s->p++, s->len--; s->len && s->p[0] >= '0' && s->p[0] <= '9'; s->p++, s->len--, place /= 10)
            thousandths += (s->p[0] - '0') * place;
    }
    *out = whole * 1000 + thousandths;
    return digits > 0;
}

static int64_t take_unit_ms(struct span *s)
{
    static const struct {
        const char *text;
        int64_t ms;
    } UNITS[] = {{"ms", 1}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"d", 86400000}};

    for (size_t i = 0; i < ARRAY_LEN(UNITS); i++) {
        struct span unit = span_of(UNITS[i].text);

        if (span_starts(*s, unit)) {
            s->p += unit.len;
            s->len -= unit.len;
            return UNITS[i].ms;
        }
    }
    return 0;
}

/* "1h2m3.5s"; false unless every number has a unit. */
static bool parse_duration(struct span s, int64_t *out_ms)
{
    int64_t total = 0, millis, unit;

    while (s.len) {
        if (!take_millis(&s, &millis))
            return false;
        unit = take_unit_ms(&s);
        if (!unit)
            return false;
        if (millis > WAIT_MAX_MS)
            millis = WAIT_MAX_MS;
        total = clamp_ms(total + clamp_ms(millis * unit / 1000));
    }
    *out_ms = total;
    return true;
}

static bool two_digits(const char *p, int *out)
{
    if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
        return false;
    *out = (p[0] - '0') * 10 + (p[1] - '0');
    return true;
}

static bool clock_of(const char *p, struct tm *tm)
{
    return two_digits(p, &tm->tm_hour) && p[2] == ':' && two_digits(p + 3, &tm->tm_min) && p[5] == ':' &&
           two_digits(p + 6, &tm->tm_sec);
}

static bool year_of(const char *p, struct tm *tm)
{
    int century, year;

    if (!two_digits(p, &century) || !two_digits(p + 2, &year))
        return false;
    tm->tm_year = century * 100 + year - 1900;
    return true;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT"; strptime() would depend on the locale. */
static bool parse_http_date(struct span s, int64_t *out)
{
    static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm = {0};

    if (s.len != 29 || s.p[3] != ',' || memcmp(s.p + 25, " GMT", 4) != 0)
        return false;
    if (!two_digits(s.p + 5, &tm.tm_mday) || !year_of(s.p + 12, &tm) || !clock_of(s.p + 17, &tm))
        return false;
    for (tm.tm_mon = 0; tm.tm_mon < 12; tm.tm_mon++)
        if (memcmp(MONTHS + (size_t)tm.tm_mon * 3, s.p + 8, 3) == 0)
            break;
    if (tm.tm_mon == 12)
        return false;
    *out = (int64_t)timegm(&tm);
    return true;
}

/* "2026-11-20T14:32:07Z", with or without a fraction; other offsets are not sent by anyone. */
static bool parse_rfc3339(struct span s, int64_t *out)
{
    struct tm tm = {0};

    if (s.len < 20 || s.p[4] != '-' || s.p[7] != '-' || (s.p[10] != 'T' && s.p[10] != ' ') ||
        s.p[s.len - 1] != 'Z')
        return false;
    if (!year_of(s.p, &tm) || !two_digits(s.p + 5, &tm.tm_mon) || !two_digits(s.p + 8, &tm.tm_mday) ||
        !clock_of(s.p + 11, &tm))
        return false;
    tm.tm_mon--;
    *out = (int64_t)timegm(&tm);
    return true;
}

static bool parse_instant(struct span s, int64_t now_unix_s, int64_t *out_ms)
{
    int64_t at;

    if (!parse_http_date(s, &at) && !parse_rfc3339(s, &at))
        return false;
    *out_ms = at <= now_unix_s                       ? 0
              : at - now_unix_s > WAIT_MAX_MS / 1000 ? WAIT_MAX_MS
                                                     : (at - now_unix_s) * 1000;
    return true;
}

/* A bare number is seconds, unless it is so large that it must be a Unix time. */
static bool parse_number(struct span s, int64_t now_unix_s, int64_t *out_ms)
{
    int64_t millis;

    if (!take_millis(&s, &millis) || s.len)
        return false;
    if (millis >= (int64_t)1000000000000000) /* Unix time in milliseconds */
        millis = millis / 1000 - now_unix_s * 1000;
    else if (millis >= (int64_t)1000000000000) /* in seconds */
        millis -= now_unix_s * 1000;
    *out_ms = clamp_ms(millis);
    return true;
}

static bool parse_any(struct span s, int64_t now_unix_s, int64_t *out_ms)
{
    s = span_trim(s);
    return s.len && (parse_number(s, now_unix_s, out_ms) || parse_duration(s, out_ms) ||
                     parse_instant(s, now_unix_s, out_ms));
}

int64_t judge_retry_after_ms(const struct answer_headers *h, bool use_reset, int64_t now_unix_s)
{
    struct span exact = span_trim(h->retry_after_ms);
    int64_t ms;

    if (take_millis(&exact, &ms) && !exact.len)
        return clamp_ms((ms + 999) / 1000);
    if (parse_any(h->retry_after, now_unix_s, &ms))
        return ms;
    if (use_reset && parse_any(h->ratelimit_reset, now_unix_s, &ms))
        return ms;
    return -1;
}
