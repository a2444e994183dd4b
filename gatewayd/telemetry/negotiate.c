/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the two text formats a scraper wants, by RFC 9110 §12.5.1: the most specific media range that
 * matches a format gives its weight; the heavier format wins. */
#include "gatewayd/telemetry/exposition.h"

static const struct offer {
    const char *type, *subtype, *version, *content_type;
} OFFERS[] = {
    [EXPOSITION_TEXT_004] = {"text", "plain", "0.0.4", "text/plain; version=0.0.4; charset=utf-8"},
    [EXPOSITION_OPENMETRICS] = {"application", "openmetrics-text", "1.0.0",
                                "application/openmetrics-text; version=1.0.0; charset=utf-8"},
};

const char *exposition_content_type(enum exposition_format f)
{
    return OFFERS[f].content_type;
}

/* "0", "0.5", "1.000" in thousandths; -1 when it is nothing of the kind. */
static int parse_weight(struct span s)
{
    struct span whole = span_split(&s, '.');
    int w, scale = 100;

    if (whole.len != 1 || (whole.p[0] != '0' && whole.p[0] != '1') || s.len > 3)
        return -1;
    w = (whole.p[0] - '0') * 1000;
    for (size_t i = 0; i < s.len; i++, scale /= 10) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -1;
        w += (s.p[i] - '0') * scale;
    }
    return w > 1000 ? -1 : w;
}

static struct span unquote(struct span s)
{
    return s.len >= 2 && s.p[0] == '"' && s.p[s.len - 1] == '"' ? span_make(s.p + 1, s.len - 2) : s;
}

struct range { /* one element of the header */
    struct span type, subtype, version;
    int weight;
};

static struct range parse_range(struct span s)
{
    struct span media = span_split(&s, ';');
    struct range r = {.weight = 1000};

    r.type = span_trim(span_split(&media, '/'));
    r.subtype = span_trim(media);
    while (s.len) {
        struct span value = span_split(&s, ';');
        struct span name = span_trim(span_split(&value, '='));

        value = unquote(span_trim(value));
        if (span_eq_nocase(name, SPAN_LIT("q")))
            r.weight = parse_weight(value);
        else if (span_eq_nocase(name, SPAN_LIT("version")))
            r.version = value;
    }
    return r;
}

/* How closely a range names an offer: 0 not at all, 1 any type, 2 the type, 3 the format, 4 its version too.
 */
static int specificity(const struct range *r, const struct offer *o)
{
    if (span_is(r->type, "*"))
        return span_is(r->subtype, "*") ? 1 : 0;
    if (!span_eq_nocase(r->type, span_of(o->type)))
        return 0;
    if (span_is(r->subtype, "*"))
        return 2;
    if (!span_eq_nocase(r->subtype, span_of(o->subtype)))
        return 0;
    if (r->version.len)
        return span_is(r->version, o->version) ? 4 : 0;
    return 3;
}

/* Weight of an offer, -1 when nothing matches; `*closest` says how closely it was named. */
static int weigh(struct span accept, const struct offer *o, int *closest)
{
    int weight = -1;

    *closest = 0;
    while (accept.len) {
        struct range r = parse_range(span_split(&accept, ','));
        int s = specificity(&r, o);

        if (r.weight < 0 || s < *closest || s == 0)
            continue;
        if (s > *closest || r.weight > weight)
            weight = r.weight;
        *closest = s;
    }
    return weight;
}

enum exposition_format exposition_negotiate(struct span accept)
{
    int text_close, open_close;
    int text = weigh(accept, &OFFERS[EXPOSITION_TEXT_004], &text_close);
    int open = weigh(accept, &OFFERS[EXPOSITION_OPENMETRICS], &open_close);

    if (open <= 0 || open < text)
        return EXPOSITION_TEXT_004;
    /* Of equal weight: the one that was asked for by name, and the old one when in doubt. */
    return open > text || (open_close >= 3 && open_close > text_close) ? EXPOSITION_OPENMETRICS
                                                                       : EXPOSITION_TEXT_004;
}
