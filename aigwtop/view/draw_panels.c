/* SPDX-License-Identifier: Apache-2.0 */
/* What stands below a table: events, the selected tenant, what errors come to. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "aigwtop/view/draw_priv.h"
#include "libshared/cli/human.h"

/* ---- events ---------------------------------------------------------------------------------------------------------- */

static enum level level_of_event(const struct sample_event *e)
{
    return strcmp(e->severity, "critical") == 0  ? LEVEL_CRIT
           : strcmp(e->severity, "warning") == 0 ? LEVEL_WARN
                                                 : LEVEL_OK;
}

void draw_events(struct screen *s, const struct scene *sc, unsigned y, unsigned rows)
{
    const struct sample *lists = sc->model->lists;

    if (rows < 2)
        return;
    (void)screen_put(s, 1, y, 0, STYLE_HEAD, "EVENTS (newest first)");
    if (!lists->events.n)
        (void)screen_put(s, 1, y + 1, 0, STYLE_PLAIN,
                         lists->has & HAS_EVENTS ? "none" : "this source has no list of events");
    for (unsigned i = 0; i + 1 < rows && i < lists->events.n; i++) {
        const struct sample_event *e = &lists->events.v[i];
        enum level level = level_of_event(e);
        char time[VALUE_CAP];

        clock_text(time, e->at_us);
        (void)screen_put(s, 1, y + 1 + i, 8, STYLE_PLAIN, time);
        (void)screen_put(s, 10, y + 1 + i, 1, style_of(level), mark_of(s, level));
        (void)screen_put(s, 12, y + 1 + i, 8, STYLE_PLAIN, e->kind);
        (void)screen_put(s, 21, y + 1 + i, 24, STYLE_PLAIN, e->subject);
        (void)screen_put(s, 46, y + 1 + i, 0, STYLE_PLAIN, e->text);
    }
}

/* ---- the selected tenant --------------------------------------------------------------------------------------------- */

static bool is_scope_of(const char *scope, const char *key)
{
    const char *colon = strchr(scope, ':');

    return colon && strcmp(colon + 1, key) == 0;
}

static unsigned draw_limits(struct screen *s, const struct scene *sc, unsigned y, const char *key)
{
    unsigned x = 1;

    for (size_t i = 0; i < sc->model->lists->limits.n; i++) {
        const struct sample_limit *l = &sc->model->lists->limits.v[i];
        double ratio = l->limit > 0 ? (double)l->used / (double)l->limit : 0;
        char used[HUMAN_CAP], limit[HUMAN_CAP];

        if (!is_scope_of(l->scope, key) || x + 30 > s->w)
            continue;
        human_count(used, l->used > 0 ? (uint64_t)l->used : 0);
        human_count(limit, l->limit > 0 ? (uint64_t)l->limit : 0);
        x += screen_putf(s, x, y, 0, STYLE_PLAIN, "%s %s of %s ", l->kind, used, limit);
        draw_bar(s, x, y, 8, ratio >= 1 ? STYLE_CRIT : ratio >= 0.8 ? STYLE_WARN : STYLE_PLAIN, ratio);
        x += 10;
    }
    return x;
}

void draw_tenant(struct screen *s, const struct scene *sc, unsigned y)
{
    const struct line *l = sc->table->lines.n ? &sc->table->lines.v[ui_selected(sc->ui, sc->table)] : NULL;
    const struct sample_budget *b = l ? l->ref : NULL;
    char spent[HUMAN_CAP], held[HUMAN_CAP], left[HUMAN_CAP] = "";

    if (!l)
        return;
    if (b) {
        human_usd(spent, b->spent_nano < 0 ? 0 : b->spent_nano);
        human_usd(held, b->held_nano < 0 ? 0 : b->held_nano);
        if (b->resets_us > sc->now.us)
            human_duration(left, (b->resets_us - sc->now.us) / 1000000);
        (void)screen_putf(s, 1, y, 0, STYLE_PLAIN, "%s   window %s%s%s   at 100%%: %s   now: %s", l->key,
                          b->window[0] ? b->window : "-", left[0] ? ", resets in " : "", left,
                          b->at_limit[0] ? b->at_limit : "-", b->verdict[0] ? b->verdict : "-");
        (void)screen_putf(s, 1, y + 1, 0, STYLE_PLAIN, "counter %s   in flight %s",
                          b->spent_nano < 0 ? "-" : spent, b->held_nano < 0 ? "-" : held);
    } else {
        (void)screen_putf(s, 1, y, 0, STYLE_PLAIN, "%s   no budget of its own", l->key);
    }
    (void)draw_limits(s, sc, y + 2, l->key);
}

/* ---- what errors come to --------------------------------------------------------------------------------------------- */

struct cause {
    const char *type;
    unsigned n;
};

static size_t causes_of(const struct model *m, const char *provider, struct cause out[12])
{
    size_t n = 0;

    for (size_t i = 0; i < m->lists->errors.n; i++) {
        const struct sample_error *e = &m->lists->errors.v[i];
        const char *type = e->type[0] ? e->type : "-";
        size_t k = 0;

        if (provider && strcmp(e->provider, provider) != 0)
            continue;
        while (k < n && strcmp(out[k].type, type) != 0)
            k++;
        if (k == 12)
            continue;
        if (k == n)
            out[n++] = (struct cause){type, 0};
        out[k].n++;
    }
    for (size_t i = 0; i < n; i++) /* few: the largest first */
        for (size_t k = i + 1; k < n; k++)
            if (out[k].n > out[i].n) {
                struct cause c = out[i];

                out[i] = out[k];
                out[k] = c;
            }
    return n;
}

void draw_errors_sum(struct screen *s, const struct scene *sc, unsigned y)
{
    const struct figures *f = &sc->model->all.figures;
    struct cause causes[12];
    size_t n = causes_of(sc->model, sc->ui->provider[0] ? sc->ui->provider : NULL, causes);
    unsigned x = 1;

    if (!isnan(f->error_rate) && f->attempts > 0)
        x += screen_putf(s, 1, y, 0, STYLE_PLAIN, "last 5m: %.0f errors of %.0f attempts (%.1f%%)",
                         f->error_rate * f->attempts, f->attempts, f->error_rate * 100) +
             3;
    (void)screen_putf(
        s, x, y, 0, STYLE_PLAIN, "%zu stored%s, %zu distinct cause%s", sc->model->lists->errors.n,
        sc->table->total >= 100 && sc->ui->provider[0] ? " (buffer full)" : "", n, n == 1 ? "" : "s");
    x = 1;
    for (size_t i = 0; i < n && x + 20 < s->w; i++) {
        unsigned bar = causes[0].n ? 1 + causes[i].n * 9 / causes[0].n : 1;

        x += 1 + screen_putf(s, x, y + 1, 0, STYLE_PLAIN, "%s %u", causes[i].type, causes[i].n);
        for (unsigned k = 0; k < bar; k++)
            x += screen_put(s, x, y + 1, 1, STYLE_PLAIN, glyph(s, GLYPH_FULL));
        x += 2;
    }
}

/* ---- the drill-down -------------------------------------------------------------------------------------------------- */

static void draw_axis(struct screen *s, unsigned x, unsigned y, const char *top, const char *mid)
{
    screen_put_right(s, x, y, 5, STYLE_PLAIN, top);
    screen_put_right(s, x, y + 1, 5, STYLE_PLAIN, mid);
    screen_put_right(s, x, y + 2, 5, STYLE_PLAIN, "0");
    (void)screen_put(s, x + 5, y, 1, STYLE_PLAIN, glyph(s, GLYPH_TICK));
    (void)screen_put(s, x + 5, y + 1, 1, STYLE_PLAIN, glyph(s, GLYPH_TICK));
    (void)screen_put(s, x + 5, y + 2, 1, STYLE_PLAIN, glyph(s, GLYPH_CROSS));
}

/* In five cells. */
static void axis_text(char dst[HUMAN_CAP], double ms)
{
    (void)snprintf(dst, HUMAN_CAP,
                   ms < 9.95    ? "%.1fms"
                   : ms < 999.5 ? "%.0fms"
                                : "%.1fs",
                   ms < 999.5 ? ms : ms / 1000);
}

static void draw_title(struct screen *s, unsigned x, unsigned y, unsigned w, const char *title)
{
    unsigned used =
        screen_putf(s, x, y, w, STYLE_HEAD, "%s%s %s ", glyph(s, GLYPH_LINE), glyph(s, GLYPH_LINE), title);

    for (; used < w; used++)
        (void)screen_put(s, x + used, y, 1, STYLE_PLAIN, glyph(s, GLYPH_LINE));
}

static void draw_history(struct screen *s, const struct scene *sc, const struct entity *e, unsigned x,
                         unsigned y, unsigned w, enum series what, const char *name)
{
    float v[512];
    unsigned n = (w - 6) * (s->glyphs == GLYPHS_BRAILLE ? 2 : 1);
    char title[64], top_text[HUMAN_CAP] = "100", mid_text[HUMAN_CAP] = "50";
    double top = 100;

    n = n > ARRAY_LEN(v) ? ARRAY_LEN(v) : n;
    entity_series(e, what, sc->now, ui_span_us(sc->ui), v, n);
    if (what == SERIES_P95) {
        top = 0;
        for (unsigned i = 0; i < n; i++)
            top = (double)v[i] > top ? (double)v[i] : top;
        axis_text(top_text, top);
        axis_text(mid_text, top / 2);
        if (top <= 0)
            top_text[0] = mid_text[0] = '\0';
    }
    (void)snprintf(title, sizeof(title), "%s %s", name, ui_span_text(sc->ui));
    draw_title(s, x, y, w, title);
    draw_axis(s, x, y + 1, top_text, mid_text);
    draw_graph(s, x + 6, y + 1, w - 6, 3, STYLE_PLAIN, v, n, top);
}

static void draw_score(struct screen *s, const struct entity *e, unsigned x, unsigned y, unsigned w)
{
    static const struct {
        const char *name;
        double of;
    } TERMS[] = {{"success rate", 50}, {"p95 vs target", 30}, {"breakers", 20}};
    const double got[] = {e->last.of_success, e->last.of_latency, e->last.of_breakers};

    draw_title(s, x, y, w, "score explained");
    if (isnan(got[0])) {
        (void)screen_put(s, x, y + 1, w, STYLE_PLAIN, "c shows the command that tells");
        return;
    }
    for (unsigned i = 0; i < 3; i++)
        (void)screen_putf(s, x, y + 1 + i, w, STYLE_PLAIN, "%-14s %5.1f of %.0f  %+.1f", TERMS[i].name,
                          got[i], TERMS[i].of, got[i] - TERMS[i].of);
    if (!isnan(e->last.score))
        (void)screen_putf(s, x, y + 4, w, STYLE_PLAIN, "score          %5.1f", e->last.score);
}

static void draw_causes(struct screen *s, const struct scene *sc, unsigned x, unsigned y, unsigned w)
{
    struct cause causes[12];
    size_t n = causes_of(sc->model, sc->ui->provider, causes);

    (void)screen_put(s, x, y, w, STYLE_HEAD, "ERRORS by type (last 100 stored)");
    if (!n)
        (void)screen_put(s, x, y + 1, w, STYLE_PLAIN,
                         sc->model->lists->has & HAS_ERRORS ? "none" : "not read");
    for (size_t i = 0; i < n && i < 4; i++) {
        (void)screen_put(s, x, y + 1 + (unsigned)i, 19, STYLE_PLAIN, causes[i].type);
        for (unsigned k = 0; k < 1 + causes[i].n * 8 / causes[0].n; k++)
            (void)screen_put(s, x + 20 + k, y + 1 + (unsigned)i, 1, STYLE_PLAIN, glyph(s, GLYPH_FULL));
        (void)screen_putf(s, x + 30, y + 1 + (unsigned)i, 5, STYLE_PLAIN, "%4u", causes[i].n);
    }
}

static void draw_last_errors(struct screen *s, const struct scene *sc, unsigned y)
{
    unsigned n = 0;

    (void)screen_put(s, 1, y, 0, STYLE_HEAD, "LAST ERRORS");
    for (size_t i = 0; i < sc->model->lists->errors.n && n < 2; i++) {
        const struct sample_error *e = &sc->model->lists->errors.v[i];
        char time[VALUE_CAP];

        if (strcmp(e->provider, sc->ui->provider) != 0)
            continue;
        clock_text(time, e->at_us);
        n++;
        (void)screen_put(s, 1, y + n, 8, STYLE_PLAIN, time);
        (void)screen_put(s, 10, y + n, 20, STYLE_PLAIN, e->model);
        (void)screen_putf(s, 31, y + n, 4, STYLE_PLAIN, "%d", e->http_status);
        (void)screen_putf(s, 36, y + n, 0, STYLE_PLAIN, "%s  %s", e->type, e->detail);
    }
}

static void draw_drill_sums(struct screen *s, const struct scene *sc, const struct entity *e)
{
    const struct figures *f = &e->figures;
    struct value v[] = {{.kind = VALUE_NUMBER, .n = f->per_s},  {.kind = VALUE_NUMBER, .n = f->error_rate},
                        {.kind = VALUE_NUMBER, .n = f->p50_ms}, {.kind = VALUE_NUMBER, .n = f->p95_ms},
                        {.kind = VALUE_NUMBER, .n = f->p99_ms}, {.kind = VALUE_NUMBER, .n = f->cost_per_h}};
    static const enum form FORMS[] = {FORM_RATE, FORM_PERCENT, FORM_MS, FORM_MS, FORM_MS, FORM_DOLLARS};
    char t[ARRAY_LEN(v)][VALUE_CAP], age[VALUE_CAP] = "-";
    enum level level = level_of_score(e->last.score);
    unsigned x;

    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        (void)value_text(t[i], s, &v[i], FORMS[i], 8);
    if (f->active_us)
        short_age(age, fmax(0, (double)(sc->now.us - f->active_us) / 1e6));
    (void)screen_putf(s, 1, 1, 0, STYLE_PLAIN,
                      "%s req/s  err %s%%  p50 %s  p95 %s  p99 %s  $%s/h  heard of %s ago", t[0], t[1], t[2],
                      t[3], t[4], t[5], age);
    x = 14 + screen_width(s, e->provider);
    if (!isnan(e->last.score) && x + 40 < s->w)
        (void)screen_putf(s, x, 0, 0, style_of(level), "%s %s  %.1f", mark_of(s, level),
                          word_of_score(e->last.score), e->last.score);
}

void draw_drill(struct screen *s, const struct scene *sc)
{
    const struct entity *e = model_find(sc->model, sc->ui->provider, "");
    unsigned top = ui_table_top(sc->ui, s->w, s->h), rows = ui_table_rows(sc->ui, s->w, s->h),
             half = s->w / 2;

    if (!e) {
        (void)screen_putf(s, 1, 1, 0, STYLE_PLAIN, "Nothing is known of '%s' any more.", sc->ui->provider);
    } else {
        if (!fresh_is_stale(sc->fresh.kind))
            draw_drill_sums(s, sc, e);
        if (top >= 7) {
            draw_history(s, sc, e, 1, 2, half - 2, SERIES_SCORE, "health score");
            draw_history(s, sc, e, half, 2, s->w - half - 1, SERIES_P95, "p95 latency");
        }
    }
    draw_table(s, sc, top, rows);
    if (s->h < 24 || s->w < 80)
        return;
    draw_causes(s, sc, 1, top + rows, half - 2);
    if (e)
        draw_score(s, e, half, top + rows, s->w - half - 1);
    draw_last_errors(s, sc, top + rows + 5 + 1);
}
