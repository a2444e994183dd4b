/* SPDX-License-Identifier: Apache-2.0 */
/* A scrape may hold 100,000 lines, so the text of a series' labels is put together once and copied for each
 * of its lines, numbers are written without printf, and room is made once a line. */
#include "gatewayd/telemetry/lines.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/base/hash.h"

#define LE_CAP       24 /* of the text of a bound */
#define NUMBER_MAX   32
#define EXEMPLAR_MAX 128

static const char DIGITS[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
    "495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596"
    "979899";

static char *put_u64(char *p, uint64_t v)
{
    char tmp[20];
    char *end = tmp + sizeof(tmp), *q = end;

    while (v >= 100) {
        q -= 2;
        memcpy(q, DIGITS + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10) {
        q -= 2;
        memcpy(q, DIGITS + v * 2, 2);
    } else {
        *--q = (char)('0' + v);
    }
    memcpy(p, q, (size_t)(end - q));
    return p + (end - q);
}

/* `v` over 10^digits without trailing zeros; a whole number has no point. */
static char *put_decimal(char *p, uint64_t v, unsigned digits)
{
    uint64_t scale = 1, part;

    for (unsigned i = 0; i < digits; i++)
        scale *= 10;
    p = put_u64(p, v / scale);
    part = v % scale;
    if (!part)
        return p;
    *p++ = '.';
    for (; part; part %= scale) {
        scale /= 10;
        *p++ = (char)('0' + part / scale);
    }
    return p;
}

static char *put_bytes(char *p, const void *from, size_t n)
{
    memcpy(p, from, n);
    return p + n;
}

/* `le` text of a bound: seconds with a decimal point. */
static size_t le_text(char dst[LE_CAP], int64_t us)
{
    char *p = put_decimal(dst, (uint64_t)us, 6);

    if (us % 1000000 == 0)
        p = put_bytes(p, ".0", 2);
    return (size_t)(p - dst);
}

void lines_init(struct lines *l, struct buf *out, enum exposition_format format)
{
    *l = (struct lines){.out = out, .format = format};
    l->texts = calloc(INTERN_MAX, sizeof(*l->texts)); /* mostly never touched */
}

void lines_release(struct lines *l)
{
    for (size_t i = 0; i < l->n_escaped; i++)
        buf_release(&l->escaped[i]);
    free(l->escaped);
    buf_release(&l->head);
    free(l->texts);
    *l = (struct lines){0};
}

static void escape(struct buf *out, const char *z)
{
    for (; *z; z++) {
        if (*z == '\n') {
            buf_addz(out, "\\n");
            continue;
        }
        if (*z == '"' || *z == '\\')
            buf_addc(out, '\\');
        buf_addc(out, *z);
    }
}

struct span lines_text(struct lines *l, label text)
{
    struct span s;

    if (text < INTERN_MAX && l->texts && l->texts[text].p)
        return l->texts[text];
    s = span_of(label_text(text));
    if (strcspn(s.p, "\"\\\n") != s.len) {
        struct buf *more = realloc(l->escaped, (l->n_escaped + 1) * sizeof(*more));

        if (!more)
            return SPAN_LIT("");
        l->escaped = more;
        buf_init(&more[l->n_escaped], 0);
        escape(&more[l->n_escaped], s.p);
        s = buf_span(&more[l->n_escaped++]);
    }
    if (text < INTERN_MAX && l->texts)
        l->texts[text] = s;
    return s;
}

/* The family is named without _total (counters) or _info in OpenMetrics; samples always have the full name.
 */
static struct span family_name(const struct lines *l)
{
    struct span s = span_of(l->row->name);

    if (l->format != EXPOSITION_OPENMETRICS)
        return s;
    if (l->row->type == METRIC_COUNTER)
        s.len -= strlen("_total");
    else if (l->row->type == METRIC_INFO)
        s.len -= strlen("_info");
    return s;
}

static bool ends_in_unit(struct span family, const char *unit)
{
    size_t n = strlen(unit);

    return family.len > n && family.p[family.len - n - 1] == '_' &&
           memcmp(family.p + family.len - n, unit, n) == 0;
}

void lines_family(struct lines *l, enum metric m)
{
    struct span family;

    l->row = metric_row(m);
    family = family_name(l);
    buf_addf(l->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)family.len, family.p, l->row->help,
             (int)family.len, family.p,
             l->row->type == METRIC_INFO && l->format == EXPOSITION_TEXT_004
                 ? "gauge"
                 : metric_type_name(l->row->type));
    if (l->format == EXPOSITION_OPENMETRICS && l->row->type != METRIC_INFO &&
        ends_in_unit(family, l->row->unit))
        buf_addf(l->out, "# UNIT %.*s %s\n", (int)family.len, family.p, l->row->unit);
    for (size_t i = 0; i < l->row->n_labels; i++)
        l->piece_len[i] = (size_t)snprintf(l->pieces[i], sizeof(l->pieces[i]), "%s%s=\"", i ? "\"," : "{",
                                           l->row->labels[i]);
}

void lines_series(struct lines *l, const struct span *values)
{
    buf_clear(&l->head);
    buf_addz(&l->head, l->row->name);
    l->name_len = l->head.len;
    for (size_t i = 0; i < l->row->n_labels; i++) {
        buf_add(&l->head, span_make(l->pieces[i], l->piece_len[i]));
        buf_add(&l->head, values[i]);
    }
    if (l->row->n_labels)
        buf_addc(&l->head, '"');
}

/* Room for one line, or NULL when the buffer is at its maximum. */
static char *line_begin(struct lines *l, size_t more)
{
    if (buf_reserve(l->out, l->head.len + more))
        return NULL;
    return l->out->p + l->out->len;
}

static void line_end(struct lines *l, char *p)
{
    *p++ = '\n';
    l->out->len = (size_t)(p - l->out->p);
}

/* `name{labels} ` */
static char *put_head(const struct lines *l, char *p)
{
    p = put_bytes(p, l->head.p, l->head.len);
    if (l->row->n_labels)
        *p++ = '}';
    *p++ = ' ';
    return p;
}

static char *put_number(char *p, enum lines_unit unit, uint64_t v)
{
    switch (unit) {
    case LINES_US:
        return put_decimal(p, v, 6);
    case LINES_NANOUSD:
        return put_decimal(p, v, 9);
    default:
        return put_u64(p, v);
    }
}

void lines_number(struct lines *l, enum lines_unit unit, uint64_t v)
{
    char *p = line_begin(l, NUMBER_MAX + 4);

    if (p)
        line_end(l, put_number(put_head(l, p), unit, v));
}

void lines_double(struct lines *l, double v)
{
    char *p = line_begin(l, NUMBER_MAX + 4);
    int n;

    if (!p)
        return;
    p = put_head(l, p);
    if (isnan(v))
        n = snprintf(p, NUMBER_MAX, "NaN");
    else if (isinf(v))
        n = snprintf(p, NUMBER_MAX, v > 0 ? "+Inf" : "-Inf");
    else
        n = snprintf(p, NUMBER_MAX, "%.9g", v);
    line_end(l, p + n);
}

static char *put_exemplar(char *p, const struct latest *x)
{
    p = put_bytes(p, " # {trace_id=\"", 14);
    hex_encode(x->trace.b, sizeof(x->trace.b), p);
    p += 2 * sizeof(x->trace.b);
    p = put_bytes(p, "\"} ", 3);
    p = put_decimal(p, x->us, 6);
    *p++ = ' ';
    return put_decimal(p, x->at_us / 1000, 3);
}

/* name_bucket{labels,le="…"} cumulated */
static void bucket_line(struct lines *l, struct span le, uint64_t cumulated, const struct latest *exemplar)
{
    char *p = line_begin(l, NUMBER_MAX + LE_CAP + EXEMPLAR_MAX + 24);

    if (!p)
        return;
    p = put_bytes(p, l->head.p, l->name_len);
    p = put_bytes(p, "_bucket", 7);
    p = put_bytes(p, l->head.p + l->name_len, l->head.len - l->name_len);
    p = put_bytes(p, l->row->n_labels ? ",le=\"" : "{le=\"", 5);
    p = put_bytes(p, le.p, le.len);
    p = put_bytes(p, "\"} ", 3);
    p = put_u64(p, cumulated);
    if (exemplar && exemplar->at_us && l->format == EXPOSITION_OPENMETRICS)
        p = put_exemplar(p, exemplar);
    line_end(l, p);
}

static void suffix_line(struct lines *l, const char *suffix, enum lines_unit unit, uint64_t v)
{
    char *p = line_begin(l, NUMBER_MAX + 16);

    if (!p)
        return;
    p = put_bytes(p, l->head.p, l->name_len);
    p = put_bytes(p, suffix, strlen(suffix));
    p = put_bytes(p, l->head.p + l->name_len, l->head.len - l->name_len);
    if (l->row->n_labels)
        *p++ = '}';
    *p++ = ' ';
    line_end(l, put_number(p, unit, v));
}

void lines_histogram(struct lines *l, const struct metric_bounds *b, const uint64_t *n, uint64_t sum_us,
                     const struct latest *exemplars)
{
    int64_t scale = b->is_whole ? 1000000 : 1;
    uint64_t cumulated = 0;

    for (size_t i = 0; i <= b->n; i++) {
        char le[LE_CAP];

        cumulated += n[i];
        bucket_line(l, i < b->n ? span_make(le, le_text(le, b->us[i] * scale)) : SPAN_LIT("+Inf"), cumulated,
                    exemplars ? &exemplars[i] : NULL);
    }
    suffix_line(l, "_sum", b->is_whole ? LINES_COUNT : LINES_US, sum_us);
    suffix_line(l, "_count", LINES_COUNT, cumulated);
}

void lines_end(struct lines *l)
{
    if (l->format == EXPOSITION_OPENMETRICS)
        buf_addz(l->out, "# EOF\n");
}
