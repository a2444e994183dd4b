/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread: the list of zones is behind a lock, what is in a zone is constant.
 *
 * A file is trusted no more than any other input: every count is checked against the bytes that are there, offsets are at
 * most a day. The tricky parts are the footer, whose rule says when summer time begins and ends in every later year, and
 * local times that exist twice or never. */
#include "libshared/base/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libshared/base/intern.h"

#define DIRECTORY    "/usr/share/zoneinfo"
#define FILE_MAX     ((size_t)256 << 10)
#define CHANGES_MAX  4096u
#define DAY_S        86400
#define OFFSET_MAX_S (26 * 3600)

struct rule_day { /* when in a year the clocks change */
    enum { DAY_JULIAN, DAY_ZERO, DAY_OF_MONTH } kind;
    int month, week, day; /* week 5: the last */
    int64_t time_s;       /* local; may be negative */
};

struct zone {
    char name[ZONE_NAME_MAX + 1];
    label label;
    size_t n;
    int64_t *at;      /* transitions, rising */
    int32_t *offsets; /* from each of them on */
    int32_t first;    /* before all */
    struct {
        bool is_there, has_summer;
        int64_t standard_s, summer_s;
        struct rule_day begins, ends;
    } rule; /* behind the last transition */
    struct zone *next;
};

/* ---- the calendar ---------------------------------------------------------------------------------------------------- */

static int64_t days_before(int64_t year) /* of 1 January since 1970 */
{
    int64_t y = year - 1;

    return y * 365 + y / 4 - y / 100 + y / 400 - 719162;
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t year_of(int64_t local_s)
{
    int64_t days = local_s / DAY_S - (local_s % DAY_S < 0), year = 1970 + days / 366;

    while (days_before(year + 1) <= days)
        year++;
    while (days_before(year) > days)
        year--;
    return year;
}

static int64_t month_day(int64_t year, const struct rule_day *d)
{
    static const int LENGTHS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t first = days_before(year), length = LENGTHS[d->month - 1] + (d->month == 2 && is_leap(year)), day;

    for (int m = 1; m < d->month; m++)
        first += LENGTHS[m - 1] + (m == 2 && is_leap(year));
    day = ((d->day - (first + 4) % 7) % 7 + 7) % 7; /* 1970-01-01 was a Thursday */
    day += 7 * (d->week - 1);
    while (day >= length)
        day -= 7;
    return first + day;
}

static int64_t local_of(int64_t year, const struct rule_day *d)
{
    int64_t day;

    if (d->kind == DAY_OF_MONTH)
        day = month_day(year, d);
    else if (d->kind == DAY_ZERO)
        day = days_before(year) + d->day;
    else /* from 1, without 29 February */
        day = days_before(year) + d->day - 1 + (d->day >= 60 && is_leap(year));
    return day * DAY_S + d->time_s;
}

/* ---- the rule -------------------------------------------------------------------------------------------------------- */

static int64_t begins_at(const struct zone *z, int64_t year)
{
    return local_of(year, &z->rule.begins) - z->rule.standard_s;
}

static int64_t ends_at(const struct zone *z, int64_t year)
{
    return local_of(year, &z->rule.ends) - z->rule.summer_s;
}

static int64_t rule_offset(const struct zone *z, int64_t utc_s)
{
    int64_t year, begin, end;
    bool is_summer;

    if (!z->rule.has_summer)
        return z->rule.standard_s;
    year = year_of(utc_s + z->rule.standard_s);
    begin = begins_at(z, year);
    end = ends_at(z, year);
    is_summer = begin < end ? utc_s >= begin && utc_s < end : utc_s >= begin || utc_s < end;
    return is_summer ? z->rule.summer_s : z->rule.standard_s;
}

static int64_t rule_next(const struct zone *z, int64_t utc_s)
{
    int64_t year, least = INT64_MAX;

    if (!z->rule.is_there || !z->rule.has_summer)
        return INT64_MAX;
    year = year_of(utc_s);
    for (int64_t y = year - 1; y <= year + 1; y++) {
        int64_t both[2] = {begins_at(z, y), ends_at(z, y)};

        for (int i = 0; i < 2; i++)
            if (both[i] > utc_s && both[i] < least)
                least = both[i];
    }
    return least;
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

/* How many transitions are at or before it. */
static size_t passed(const struct zone *z, int64_t utc_s)
{
    size_t low = 0, high = z->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (z->at[mid] <= utc_s)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int64_t zone_offset(const struct zone *z, int64_t utc_s)
{
    size_t n = z ? passed(z, utc_s) : 0;

    if (!z)
        return 0;
    if (n == z->n && z->rule.is_there)
        return rule_offset(z, utc_s);
    return n ? z->offsets[n - 1] : z->first;
}

int64_t zone_next_change(const struct zone *z, int64_t utc_s)
{
    size_t n = z ? passed(z, utc_s) : 0;

    if (!z)
        return INT64_MAX;
    return n < z->n ? z->at[n] : rule_next(z, utc_s);
}

/* Stretch by stretch of one offset, since clocks that go back show some times twice, the first of which is wanted. */
int64_t zone_instant(const struct zone *z, int64_t local_s)
{
    int64_t t = local_s - OFFSET_MAX_S;

    for (;;) {
        int64_t offset = zone_offset(z, t), end = zone_next_change(z, t);

        if (t + offset >= local_s)
            return t;
        if (end == INT64_MAX || end + offset > local_s)
            return local_s - offset;
        t = end;
    }
}

const char *zone_name(const struct zone *z)
{
    return z ? z->name : "UTC";
}

uint32_t zone_label(const struct zone *z)
{
    return z ? z->label : 0;
}

/* ---- the footer: "CET-1CEST,M3.5.0,M10.5.0/3" ----------------------------------------------------------------------- */

struct text {
    const char *p, *end;
};

static bool skip(struct text *t, char c)
{
    if (t->p == t->end || *t->p != c)
        return false;
    t->p++;
    return true;
}

static bool number(struct text *t, int max, int *out)
{
    int v = 0;
    const char *from = t->p;

    while (t->p < t->end && *t->p >= '0' && *t->p <= '9' && v <= max)
        v = v * 10 + (*t->p++ - '0');
    *out = v;
    return t->p > from && v <= max;
}

/* Letters, or anything within <>. */
static bool abbreviation(struct text *t)
{
    const char *from = t->p;

    if (skip(t, '<')) {
        while (t->p < t->end && *t->p != '>')
            t->p++;
        return skip(t, '>');
    }
    while (t->p < t->end && ((*t->p | 0x20) >= 'a' && (*t->p | 0x20) <= 'z'))
        t->p++;
    return t->p - from >= 3;
}

static bool clock_time(struct text *t, int max_hours, int64_t *out)
{
    bool is_negative = skip(t, '-');
    int h, m = 0, s = 0;

    if (!is_negative)
        (void)skip(t, '+');
    if (!number(t, max_hours, &h) ||
        (skip(t, ':') && (!number(t, 59, &m) || (skip(t, ':') && !number(t, 59, &s)))))
        return false;
    *out = (int64_t)h * 3600 + m * 60 + s;
    if (is_negative)
        *out = -*out;
    return true;
}

static bool day_rule(struct text *t, struct rule_day *d)
{
    d->time_s = 2 * 3600;
    if (skip(t, 'M')) {
        d->kind = DAY_OF_MONTH;
        if (!number(t, 12, &d->month) || !d->month || !skip(t, '.') || !number(t, 5, &d->week) || !d->week ||
            !skip(t, '.') || !number(t, 6, &d->day))
            return false;
    } else {
        d->kind = skip(t, 'J') ? DAY_JULIAN : DAY_ZERO;
        if (!number(t, 365, &d->day) || (d->kind == DAY_JULIAN && !d->day))
            return false;
    }
    return !skip(t, '/') || clock_time(t, 167, &d->time_s);
}

static bool read_rule(struct zone *z, struct span footer)
{
    struct text t = {footer.p, footer.p + footer.len};
    int64_t west;

    if (!footer.len)
        return true; /* none: the last offset stays */
    if (!abbreviation(&t) || !clock_time(&t, 24, &west))
        return false;
    z->rule.is_there = true;
    z->rule.standard_s = -west;
    if (t.p == t.end)
        return true;
    z->rule.summer_s = z->rule.standard_s + 3600;
    if (!abbreviation(&t))
        return false;
    if (t.p < t.end && *t.p != ',') {
        if (!clock_time(&t, 24, &west))
            return false;
        z->rule.summer_s = -west;
    }
    z->rule.has_summer = true;
    return skip(&t, ',') && day_rule(&t, &z->rule.begins) && skip(&t, ',') && day_rule(&t, &z->rule.ends) &&
           t.p == t.end;
}

/* ---- the file -------------------------------------------------------------------------------------------------------- */

#define HEADER 44u

static uint32_t be32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;

    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static int64_t be64(const char *p)
{
    return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

struct counts {
    uint32_t isut, isstd, leap, time, type, chars;
};

static bool read_header(struct span file, size_t at, struct counts *c)
{
    const char *p = file.p + at;

    if (file.len < at + HEADER || memcmp(p, "TZif", 4) != 0 || p[4] < '2')
        return false;
    *c = (struct counts){be32(p + 20), be32(p + 24), be32(p + 28), be32(p + 32), be32(p + 36), be32(p + 40)};
    return c->isut <= 256 && c->isstd <= 256 && c->leap <= CHANGES_MAX && c->time <= CHANGES_MAX &&
           c->type >= 1 && c->type <= 256 && c->chars <= 4096;
}

static size_t block_len(const struct counts *c, size_t width)
{
    return c->time * width + c->time + c->type * 6 + c->chars + c->leap * (width + 4) + c->isstd + c->isut;
}

static bool take_offset(const char *types, unsigned i, int32_t *out)
{
    *out = (int32_t)be32(types + (size_t)i * 6);
    return *out > -OFFSET_MAX_S && *out < OFFSET_MAX_S;
}

static bool read_block(struct zone *z, const char *p, const struct counts *c)
{
    const char *kinds = p + (size_t)c->time * 8, *types = kinds + c->time;

    z->at = calloc(c->time + 1, sizeof(*z->at));
    z->offsets = calloc(c->time + 1, sizeof(*z->offsets));
    if (!z->at || !z->offsets)
        abort();
    z->n = c->time;
    if (!take_offset(types, 0, &z->first))
        return false;
    for (size_t i = 0; i < z->n; i++) {
        unsigned kind = (unsigned char)kinds[i];

        z->at[i] = be64(p + i * 8);
        if (kind >= c->type || !take_offset(types, kind, &z->offsets[i]) || (i && z->at[i] <= z->at[i - 1]))
            return false;
    }
    return true;
}

static bool read_all(struct zone *z, struct span file)
{
    struct counts c;
    size_t at, end;
    const char *line;

    if (!read_header(file, 0, &c))
        return false;
    at = HEADER + block_len(&c, 4); /* of 32 bits, for readers of old */
    if (!read_header(file, at, &c) || c.leap)
        return false;
    at += HEADER;
    end = at + block_len(&c, 8);
    if (end + 2 > file.len || file.p[end] != '\n' || !read_block(z, file.p + at, &c))
        return false;
    line = memchr(file.p + end + 1, '\n', file.len - end - 1);
    return line && read_rule(z, span_make(file.p + end + 1, (size_t)(line - file.p) - end - 1));
}

void zone_free(struct zone *z)
{
    if (!z)
        return;
    free(z->at);
    free(z->offsets);
    free(z);
}

struct zone *zone_read(struct span name, struct span file, struct err *err)
{
    struct zone *z = calloc(1, sizeof(*z));

    if (!z)
        abort();
    (void)span_copy(z->name, sizeof(z->name), name);
    z->label = intern(name);
    if (read_all(z, file))
        return z;
    zone_free(z);
    (void)err_set(err, ERR_CONFIG, "the file of time zone '%.*s' makes no sense", (int)name.len, name.p);
    return NULL;
}

/* ---- finding --------------------------------------------------------------------------------------------------------- */

/* "Area/Place": no way out of the directory. */
static bool is_name(struct span s)
{
    if (!s.len || s.len > ZONE_NAME_MAX || s.p[0] == '/' || memmem(s.p, s.len, "..", 2))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!memchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-/", s.p[i], 66))
            return false;
    return true;
}

static enum err_code read_file(struct span name, char *bytes, size_t *out_len, struct err *err)
{
    char path[sizeof(DIRECTORY) + 1 + ZONE_NAME_MAX];
    ssize_t got = 1;
    size_t len = 0;
    int fd;

    (void)snprintf(path, sizeof(path), DIRECTORY "/%.*s", (int)name.len, name.p);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, ERR_CONFIG, "time zone '%.*s' cannot be read from '%s': %s", (int)name.len,
                       name.p, DIRECTORY, strerrordesc_np(errno));
    while (got > 0 && len < FILE_MAX) {
        got = read(fd, bytes + len, FILE_MAX - len);
        len += got > 0 ? (size_t)got : 0;
    }
    (void)close(fd);
    if (got < 0)
        return err_set(err, ERR_CONFIG, "'%.*s' is no time zone", (int)name.len, name.p);
    *out_len = len;
    return ERR_OK;
}

static struct zone *load(struct span name, struct err *err)
{
    char *bytes = malloc(FILE_MAX);
    struct zone *z = NULL;
    size_t len = 0;

    if (!bytes)
        abort();
    if (read_file(name, bytes, &len, err) == ERR_OK)
        z = zone_read(name, span_make(bytes, len), err);
    free(bytes);
    return z;
}

enum err_code zone_find_mt(struct span name, const struct zone **out, struct err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct zone *zones; /* never freed: they are as many as there are names in use */
    struct zone *z;

    *out = NULL;
    if (!name.len || span_is(name, "UTC") || span_is(name, "Etc/UTC"))
        return ERR_OK;
    if (!is_name(name))
        return err_set(err, ERR_CONFIG,
                       "a time zone is a name such as 'Europe/Berlin', at most %u bytes long", ZONE_NAME_MAX);
    (void)pthread_mutex_lock(&lock);
    for (z = zones; z && !span_is(name, z->name); z = z->next)
        continue;
    if (!z && (z = load(name, err))) {
        z->next = zones;
        zones = z;
    }
    (void)pthread_mutex_unlock(&lock);
    *out = z;
    return z ? ERR_OK : ERR_CONFIG;
}

const struct zone *zone_of_label_mt(uint32_t l)
{
    const struct zone *z = NULL;

    if (!l || zone_find_mt(span_of(label_text(l)), &z, NULL))
        return NULL;
    return z;
}
