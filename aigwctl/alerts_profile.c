/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for a gateway that shows some families only (metrics.profiles): the same number goes by several names, and a rule reads
 * the one that is there. What is shown under no name cannot be judged, and its rule is left out and named. Pure. */
#include <stdio.h>
#include <string.h>

#include "aigwctl/alerts.h"
#include "libshared/catalog/metrics.h"
#include "libshared/catalog/promql.h"

struct rewrite {
    const struct alerts_pick *pick;
    struct buf *out;
    const char *from; /* what is written up to */
};

static void rewrite_name(struct span name, void *ctx)
{
    struct rewrite *w = ctx;
    size_t n;
    const struct metric_row *r = metric_of_sample(name, &n), *as;

    as = r ? metric_shown_as(r, w->pick->profiles) : NULL;
    if (!as || as == r)
        return;
    buf_add(w->out, span_make(w->from, (size_t)(name.p - w->from)));
    buf_addz(w->out, as->name);
    w->from = name.p + n;
}

void alerts_in_profile(struct buf *out, const struct alerts_pick *p, struct span expr)
{
    struct rewrite w = {p, out, expr.p};

    if (p->profiles && expr.len)
        promql_metrics(expr, rewrite_name, &w);
    buf_add(out, span_make(w.from, (size_t)(expr.p + expr.len - w.from)));
}

struct lack {
    const struct alerts_pick *pick;
    const char *family;
    int depth; /* of records that read records */
};

static void look_into(struct lack *l, const struct alert_row *row, const char *template_text);

/* Several records have one name and differ by a label: whether the selector that begins with `name` may mean this one. */
static bool may_read(struct span name, const struct alert_record *r)
{
    struct span value = span_of(r->labels), key = span_split(&value, '=');
    const char *open = name.p + name.len, *close, *at;
    char has[64], is[128];

    if (!key.len || *open != '{' || !(close = strchr(open, '}')))
        return true;
    (void)snprintf(has, sizeof(has), "%.*s=\"", (int)key.len, key.p);
    (void)snprintf(is, sizeof(is), "%s%.*s\"", has, (int)value.len, value.p);
    at = strstr(open, has);
    return !at || at > close || strncmp(at, is, strlen(is)) == 0;
}

static void look(struct span name, void *ctx)
{
    struct lack *l = ctx;
    size_t n;
    const struct metric_row *r = metric_of_sample(name, &n);

    if (l->family)
        return;
    if (r && !metric_shown_as(r, l->pick->profiles))
        l->family = r->name;
    for (size_t i = 0; !r && i < alert_record_count() && l->depth < 4; i++)
        if (span_is(name, alert_record(i)->name) && may_read(name, alert_record(i)))
            look_into(l, NULL, alert_record(i)->expr);
}

static void look_into(struct lack *l, const struct alert_row *row, const char *template_text)
{
    struct buf text AUTO(buf_release) = {0};

    l->depth++;
    alert_fill(&text, &l->pick->settings, row, template_text);
    promql_metrics(buf_span(&text), look, l);
    l->depth--;
}

const char *alerts_lacks(const struct alerts_pick *p, const struct alert_row *row, const char *template_text)
{
    struct lack l = {.pick = p};

    if (p->profiles)
        look_into(&l, row, template_text);
    return l.family;
}

void alerts_tell_left_out(const struct alerts_pick *p)
{
    struct alerts_pick any = *p;

    any.profiles = 0;
    for (size_t i = 0; i < alert_count(); i++)
        if (alerts_wants(&any, alert_row(i)) && !alerts_wants(p, alert_row(i)))
            (void)fprintf(stderr, "left out: %s reads '%s', which these metrics.profiles switch off\n",
                          alert_row(i)->name, alerts_lacks(p, alert_row(i), alert_row(i)->expr));
}
