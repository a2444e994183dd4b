/* SPDX-License-Identifier: Apache-2.0 */
/* What surrounds the table: whose figures these are and how old, sums, tabs, the line of what is set, the function keys. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "aigwtop/view/draw_priv.h"
#include "libshared/cli/human.h"

/* ---- the first line -------------------------------------------------------------------------------------------------- */

/* How old it is, where that matters. */
static void fresh_age(char dst[VALUE_CAP], const struct scene *sc)
{
    double tick_s = (double)mono_diff_us(sc->ui->now, sc->model->at) / 1e6,
           shown_s = (double)sc->fresh.age_us / 1e6;

    switch (sc->fresh.kind) {
    case FRESH_LIVE:
        (void)snprintf(dst, VALUE_CAP, "%.1fs", fmax(tick_s, (double)sc->ui->interval_ms / 1000));
        break;
    case FRESH_SLOW:
        (void)snprintf(dst, VALUE_CAP, "%.0fs", tick_s);
        break;
    case FRESH_STALE:
    case FRESH_NO_WRITER:
        if (shown_s < 120)
            (void)snprintf(dst, VALUE_CAP, "%.0fs", floor(shown_s));
        else
            short_age(dst, shown_s);
        break;
    default:
        dst[0] = '\0';
    }
}

static unsigned fresh_text(char *dst, size_t cap, const struct screen *s, const struct scene *sc)
{
    static const struct {
        const char *word;
        enum glyph mark;
        enum style style;
    } STATES[] = {
        [FRESH_WAITING] = {"WAITING", GLYPH_STALE, STYLE_STALE},
        [FRESH_LIVE] = {"LIVE", GLYPH_OK, STYLE_OK},
        [FRESH_SLOW] = {"SLOW", GLYPH_STALE, STYLE_WARN},
        [FRESH_STALE] = {"STALE", GLYPH_STALE, STYLE_CRIT},
        [FRESH_AUTH] = {"AUTH", GLYPH_CRIT, STYLE_CRIT},
        [FRESH_NO_WRITER] = {"NO WRITER", GLYPH_STALE, STYLE_CRIT},
        [FRESH_EMPTY] = {"EMPTY", GLYPH_STALE, STYLE_STALE},
    };
    enum freshness kind = sc->fresh.kind;
    bool is_recording = sc->ui->is_recording;
    char age[VALUE_CAP];

    if (sc->ui->is_paused || (is_recording && kind == FRESH_LIVE)) {
        (void)snprintf(dst, cap, "%s%s", sc->ui->is_paused ? "" : glyph(s, GLYPH_STALE),
                       sc->ui->is_paused ? "PAUSED" : " REPLAY");
        return STYLE_BOLD;
    }
    fresh_age(age, sc);
    (void)snprintf(dst, cap, "%s%s %s%s%s", is_recording ? "REPLAY " : "", glyph(s, STATES[kind].mark),
                   STATES[kind].word, age[0] ? " " : "", age);
    return STATES[kind].style;
}

static void where_text(char *dst, size_t cap, const struct scene *sc)
{
    const struct sample *h = &sc->model->head;
    const char *where = h->where;
    char rtt[HUMAN_CAP] = "";

    /* "redis://host:port" is said by the word before it. */
    if (strncmp(where, "redis://", 8) == 0)
        where += 8;
    if (strncmp(where, "http://", 7) == 0)
        where += 7;
    if (h->rtt_us >= 0 && (h->state == SOURCE_LIVE || h->state == SOURCE_EMPTY))
        human_ms(rtt, (double)h->rtt_us / 1000);
    (void)snprintf(dst, cap, "%s %s %s", h->source, where, rtt);
}

static void draw_first(struct screen *s, const struct scene *sc)
{
    char left[800], where[300], state[160], time[VALUE_CAP], right[120];
    const struct ui *ui = sc->ui;
    unsigned style = fresh_text(state, sizeof(state), s, sc), w, x;

    where_text(where, sizeof(where), sc);
    clock_text(time, sc->now.us);
    if (s->w < WIDE)
        time[strlen(time) > 5 ? 5 : strlen(time)] = '\0';
    if (ui->is_drill)
        (void)snprintf(left, sizeof(left), "aigwtop %s %s", glyph(s, GLYPH_SUB), ui->provider);
    else if (s->w < WIDE)
        (void)snprintf(left, sizeof(left), "aigwtop %s", ui->context[0] ? ui->context : view_title(ui->view));
    else
        (void)snprintf(left, sizeof(left), "aigwtop%s%s  %s%s%s", ui->context[0] ? "  ctx " : "", ui->context,
                       ui->view == VIEW_PROVIDERS ? where : view_title(ui->view),
                       ui->view != VIEW_PROVIDERS && ui->provider[0] ? "  of " : "",
                       ui->view != VIEW_PROVIDERS ? ui->provider : "");
    (void)snprintf(right, sizeof(right), "%s%sZ", s->w < WIDE ? " " : "  ",
                   strcmp(time, "-") == 0 ? "--:--" : time);
    w = screen_width(s, right);
    x = s->w > w + screen_width(s, state) ? s->w - w - screen_width(s, state) : 1;
    (void)screen_put(s, 1, 0, x > 3 ? x - 2 : 1, STYLE_BOLD, left);
    (void)screen_put(s, x, 0, 0, style, state);
    (void)screen_put(s, s->w > w ? s->w - w : 0, 0, 0, STYLE_PLAIN, right);
}

/* ---- what is wrong, in place of sums --------------------------------------------------------------------------------- */

/* "redis: 'host:port': Connection refused": the address is in the line above. */
static const char *reason_of(const struct sample *h)
{
    const char *end = strstr(h->text, "': ");

    return strncmp(h->text, "redis: '", 8) == 0 && end ? end + 3 : h->text;
}

/* The second line is the table's heading where there is little room. */
static void draw_advice(struct screen *s, const char *text)
{
    if (s->w >= WIDE)
        (void)screen_put(s, 1, 2, 0, STYLE_PLAIN, text);
}

static void draw_trouble(struct screen *s, const struct scene *sc)
{
    const struct sample *h = &sc->model->head;
    const char *what = strcmp(h->source, "api") == 0 ? "The gateway" : "Redis";
    char since[VALUE_CAP], retry[VALUE_CAP], text[300];

    clock_text(since, sc->model->live_now.us);
    short_age(retry, ceil((double)sc->fresh.retry_us / 1e6));
    if (sc->fresh.kind == FRESH_NO_WRITER) {
        (void)screen_putf(s, 1, 1, 0, STYLE_CRIT, "%s %s answers, but no gateway has written for %.0f s.",
                          glyph(s, GLYPH_CRIT), what, floor((double)sc->fresh.age_us / 1e6));
        draw_advice(s, "Is it running?  systemctl status gatewayd");
        return;
    }
    (void)screen_putf(s, 1, 1, 0, STYLE_CRIT, "%s %s: %s. Try %u, next in %s.  r now  : go to  q quit",
                      glyph(s, GLYPH_CRIT), what, reason_of(h), h->tries, retry);
    if (sc->model->has_live)
        (void)snprintf(text, sizeof(text),
                       "Rows below date from %sZ and are dimmed. Rates are blank, not zero.", since);
    else
        (void)snprintf(text, sizeof(text), "%s has not answered yet. Addresses: --redis, --url, :ctx NAME.",
                       what);
    draw_advice(s, text);
}

/* ---- sums ------------------------------------------------------------------------------------------------------------ */

static void put_or_dash(struct buf *b, const char *before, double v, void (*fn)(char *, double),
                        const char *after)
{
    char text[VALUE_CAP];

    if (isnan(v))
        (void)snprintf(text, sizeof(text), "-");
    else
        fn(text, v);
    buf_addf(b, "%s%s%s", before, text, after);
}

static void as_rate(char *dst, double v)
{
    human_rate(dst, v);
}
static void as_percent(char *dst, double v)
{
    human_percent(dst, v);
}
static void as_ms(char *dst, double v)
{
    human_ms(dst, v);
}
static void as_usd(char *dst, double v)
{
    human_usd(dst, (int64_t)(v * 1e9));
}
static void as_count(char *dst, double v)
{
    human_count(dst, v > 0 ? (uint64_t)(v + 0.5) : 0);
}

static void draw_sums(struct screen *s, const struct scene *sc)
{
    const struct figures *f = &sc->model->all.figures;
    struct buf b AUTO(buf_release) = {0};
    struct tally t;
    float trend[8];
    unsigned x;

    put_or_dash(&b, "", f->per_s, as_rate, " req/s ");
    x = 1 + screen_put(s, 1, 1, 0, STYLE_PLAIN, b.p);
    if (s->w >= WIDE) {
        entity_series(&sc->model->all, SERIES_PER_S, sc->now, ui_span_us(sc->ui), trend, 8);
        draw_spark(s, x, 1, 8, STYLE_PLAIN, trend, 8);
        x += 8;
    }
    buf_clear(&b);
    put_or_dash(&b, s->w >= WIDE ? "  err " : " err ", f->error_rate, as_percent, "");
    put_or_dash(&b, "  p95 ", f->p95_ms, as_ms, "");
    put_or_dash(&b, "  ", f->cost_per_h, as_usd, "/h");
    if (s->w >= WIDE) {
        put_or_dash(&b, "  ", f->tokens_per_s, as_count, " tok/s");
        put_or_dash(&b, "  ", sc->model->head.streams < 0 ? NAN : (double)sc->model->head.streams, as_count,
                    " streams");
    } else if (s->w >= NARROW && sc->model->lists->has & HAS_BREAKERS) {
        model_tally(sc->model, &t);
        buf_addf(&b, "  brk %u/%u", t.breakers_open, t.breakers);
    }
    (void)screen_put(s, x, 1, 0, STYLE_PLAIN, b.p);
}

static unsigned put_count(struct screen *s, unsigned x, unsigned y, enum level level, unsigned n,
                          const char *word)
{
    if (!n && level != LEVEL_OK)
        return 0;
    return 2 + screen_putf(s, x, y, 0, style_of(level), "%s %u %s", mark_of(s, level), n, word);
}

static void draw_health(struct screen *s, const struct scene *sc)
{
    struct tally t;
    unsigned x = 1;

    model_tally(sc->model, &t);
    if (isnan(t.mean))
        x += screen_put(s, x, 2, 0, STYLE_PLAIN, "health -") + 2;
    else
        x += screen_putf(s, x, 2, 0, STYLE_PLAIN, "health %.1f", t.mean) + 2;
    x += put_count(s, x, 2, LEVEL_OK, t.ok, "ok");
    x += put_count(s, x, 2, LEVEL_WARN, t.degraded, "degraded");
    x += put_count(s, x, 2, LEVEL_CRIT, t.unhealthy, "unhealthy");
    x += put_count(s, x, 2, LEVEL_STALE, t.unknown, "unknown");
    if (sc->model->lists->has & HAS_BREAKERS)
        x += 2 + screen_putf(s, x, 2, 0, STYLE_PLAIN, "breakers %u/%u", t.breakers_open, t.breakers);
    if (!t.budgets)
        return;
    x += screen_put(s, x, 2, 0, STYLE_PLAIN, "budgets") + 1;
    if (!t.budgets_warn && !t.budgets_over)
        (void)screen_putf(s, x, 2, 0, STYLE_OK, "%s%u", glyph(s, GLYPH_OK), t.budgets);
    if (t.budgets_warn)
        x += 1 + screen_putf(s, x, 2, 0, STYLE_WARN, "%s%u", glyph(s, GLYPH_WARN), t.budgets_warn);
    if (t.budgets_over)
        (void)screen_putf(s, x, 2, 0, STYLE_CRIT, "%s%u", glyph(s, GLYPH_CRIT), t.budgets_over);
}

/* ---- sums of the other views ----------------------------------------------------------------------------------------- */

static void draw_tenant_sums(struct screen *s, const struct scene *sc)
{
    struct tally t;
    unsigned tenants = 0;
    double spent = 0, limit = 0, spent_h = 0;
    char a[HUMAN_CAP], b[HUMAN_CAP];
    unsigned x;

    model_tally(sc->model, &t);
    for (size_t i = 0; i < sc->table->lines.n; i++) {
        const struct line *l = &sc->table->lines.v[i];
        const struct sample_budget *budget = l->ref;

        if (l->depth || (budget && strncmp(budget->account, "tenant:", 7) != 0))
            continue;
        tenants++;
        spent += budget && budget->spent_nano > 0 ? (double)budget->spent_nano : 0;
        limit += budget && budget->limit_nano > 0 ? (double)budget->limit_nano : 0;
    }
    for (size_t i = 0; i < sc->model->lists->tenants.n; i++)
        spent_h += (double)sc->model->lists->tenants.v[i].cost_nano;
    x = 3 + screen_putf(s, 1, 1, 0, STYLE_PLAIN, "%u tenant%s", tenants, tenants == 1 ? "" : "s");
    if (t.budgets_over)
        x +=
            2 + screen_putf(s, x, 1, 0, STYLE_CRIT, "%s %u over limit", glyph(s, GLYPH_CRIT), t.budgets_over);
    if (t.budgets_warn)
        x += 2 +
             screen_putf(s, x, 1, 0, STYLE_WARN, "%s %u above warning", glyph(s, GLYPH_WARN), t.budgets_warn);
    human_usd(a, (int64_t)spent);
    human_usd(b, (int64_t)limit);
    if (limit > 0)
        (void)screen_putf(s, x, 1, 0, STYLE_PLAIN, "spent %s of %s", a, b);
    else if (spent > 0)
        (void)screen_putf(s, x, 1, 0, STYLE_PLAIN, "spent %s; limits are not in Redis, the API has them", a);
    human_usd(a, (int64_t)spent_h);
    if (sc->model->lists->tenants.n)
        (void)screen_putf(s, 1, 2, 0, STYLE_PLAIN, "this hour %s", a);
}

static void draw_breaker_sums(struct screen *s, const struct scene *sc)
{
    unsigned open = 0, half = 0, closed = 0, forced = 0;

    for (size_t i = 0; i < sc->model->lists->breakers.n; i++) {
        const struct sample_breaker *b = &sc->model->lists->breakers.v[i];

        open += strcmp(b->state, "OPEN") == 0;
        half += strncmp(b->state, "HALF", 4) == 0;
        closed += strcmp(b->state, "CLOSED") == 0;
        forced += b->forced[0] != '\0';
    }
    (void)screen_putf(s, 1, 1, 0, open ? STYLE_CRIT : STYLE_PLAIN, "%s %u open",
                      mark_of(s, open ? LEVEL_CRIT : LEVEL_OK), open);
    (void)screen_putf(s, 12, 1, 0, half ? STYLE_WARN : STYLE_PLAIN, "%u half-open", half);
    (void)screen_putf(s, 26, 1, 0, STYLE_PLAIN, "%u closed   %u forced by an operator", closed, forced);
}

void draw_head(struct screen *s, const struct scene *sc)
{
    draw_first(s, sc);
    if (fresh_is_stale(sc->fresh.kind)) {
        draw_trouble(s, sc);
        return;
    }
    if (sc->ui->is_drill)
        return;
    if (s->w < WIDE) {
        draw_sums(s, sc);
        return;
    }
    switch (sc->ui->view) {
    case VIEW_TENANTS:
        draw_tenant_sums(s, sc);
        break;
    case VIEW_BREAKERS:
        draw_breaker_sums(s, sc);
        break;
    case VIEW_ERRORS:
        draw_errors_sum(s, sc, 1);
        break;
    default:
        draw_sums(s, sc);
        draw_health(s, sc);
    }
}

/* ---- tabs ------------------------------------------------------------------------------------------------------------ */

void draw_tabs(struct screen *s, const struct scene *sc, unsigned y)
{
    unsigned x = 1;

    for (unsigned v = 0; v < VIEW_COUNT; v++) {
        const char *name = view_name((enum view)v);
        bool is_here = v == (unsigned)sc->ui->view;

        x -= is_here && v ? 1 : 0; /* the bracket stands in the gap */

        x += screen_putf(s, x, y, 0, is_here ? STYLE_BOLD : STYLE_PLAIN, is_here ? "[%u %c%s]" : "%u %c%s",
                         v + 1, toupper((unsigned char)name[0]), name + 1) +
             (is_here ? 1 : 2);
    }
}

/* ---- the last lines -------------------------------------------------------------------------------------------------- */

static void silent_text(const struct scene *sc, struct buf *b)
{
    const struct entity *worst = NULL;
    char age[VALUE_CAP];

    for (size_t i = 0; i < sc->model->entities.n; i++) {
        const struct entity *e = sc->model->entities.v[i];

        if (!e->model[0] && e->figures.active_us && sc->now.us - e->figures.active_us > SILENT_US &&
            (!worst || e->figures.active_us < worst->figures.active_us))
            worst = e;
    }
    if (!worst || sc->fresh.kind != FRESH_LIVE)
        return;
    short_age(age, (double)(sc->now.us - worst->figures.active_us) / 1e6);
    buf_addf(b, "   %s has been silent for %s", worst->provider, age);
}

static void draw_prompt(struct screen *s, const struct scene *sc, unsigned y)
{
    const char *what = sc->ui->overlay == OVERLAY_FIND     ? "find: "
                       : sc->ui->overlay == OVERLAY_FILTER ? "filter: "
                                                           : ":";
    unsigned x = 1 + screen_put(s, 1, y, 0, STYLE_BOLD, what);

    x += screen_put(s, x, y, 0, STYLE_PLAIN, sc->ui->prompt);
    screen_add_style(s, x, y, 1, STYLE_SELECTED);
}

static void draw_set(struct screen *s, const struct scene *sc, unsigned y)
{
    const struct place *p = ui_place(sc->ui);
    const struct table *t = sc->table;
    struct buf b AUTO(buf_release) = {0};
    bool is_narrow = s->w < WIDE;

    if (sc->ui->is_paused)
        buf_addf(&b, "PAUSED: %u newer waiting (Space resumes)   ", sc->ui->waiting);
    if (t->lines.n == t->total || t->view == VIEW_TENANTS)
        buf_addf(&b, is_narrow ? "%zu of %zu" : "%zu of %zu shown", t->lines.n, t->total);
    else
        buf_addf(&b, "%zu of %zu", t->lines.n, t->total);
    buf_addf(&b, "%s%s %s", is_narrow ? "  sort " : "   sort: ",
             t->columns[p->look.sort].heading[0] ? t->columns[p->look.sort].heading
                                                 : t->columns[p->look.sort].key,
             glyph(s, p->look.is_reversed ? GLYPH_DOWN : GLYPH_UP));
    if (!is_narrow || p->look.filter.n)
        buf_addf(&b, "%s%s",
                 is_narrow ? "  filter " : "   filter: ", p->look.filter.n ? p->look.filter_text : "none");
    if (sc->model->head.surprises)
        buf_addf(&b, "   ? %u unreadable (v)", sc->model->head.surprises);
    if (!is_narrow)
        silent_text(sc, &b);
    if (is_narrow)
        buf_addz(&b, "  ?help  q quit");
    (void)screen_put(s, 1, y, 0, STYLE_PLAIN, b.p);
}

static void draw_keys(struct screen *s, unsigned y)
{
    static const char *const KEYS[][2] = {{"F1", "Help"},   {"F2", "Setup"}, {"F3", "Find"}, {"F4", "Filter"},
                                          {"F5", "Tree"},   {"F6", "Sort"},  {"F7", "-"},    {"F8", "+"},
                                          {"F9", "Export"}, {"F10", "Quit"}};
    unsigned x = 1;

    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++) {
        x += screen_put(s, x, y, 0, STYLE_BAR, KEYS[i][0]);
        x += screen_put(s, x, y, 0, STYLE_PLAIN, KEYS[i][1]) + 1;
    }
    screen_put_right(s, s->w - 7, y, 6, STYLE_PLAIN, "q Back");
}

void draw_foot(struct screen *s, const struct scene *sc)
{
    bool has_keys = s->w >= WIDE && s->h >= 12;
    unsigned y = s->h - (has_keys ? 2 : 1);

    if (sc->ui->overlay >= OVERLAY_FIND)
        draw_prompt(s, sc, y);
    else if (sc->ui->message[0])
        (void)screen_put(s, 1, y, 0, STYLE_BOLD, sc->ui->message);
    else
        draw_set(s, sc, y);
    if (has_keys)
        draw_keys(s, s->h - 1);
}
