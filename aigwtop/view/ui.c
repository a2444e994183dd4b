/* SPDX-License-Identifier: Apache-2.0 */
/* What is derived from the state of the screen: which table, which row, which columns, which command. Pure. */
#include "aigwtop/view/ui.h"

#include <stdio.h>

void ui_init(struct ui *ui)
{
    *ui = (struct ui){.interval_ms = 2000};
    for (int v = 0; v < VIEW_COUNT; v++)
        look_init(&ui->places[v].look, (enum view)v);
    look_init(&ui->places[PLACE_DRILL].look, VIEW_MODELS);
    ui->places[PLACE_DRILL].hidden = 1u << column_place(COL_MODELS_provider); /* it is in the first line */
}

bool place_set_columns(struct place *p, enum view v, const char *list, struct err *err)
{
    struct span rest = span_of(list);
    uint32_t chosen = 0;
    size_t n;

    (void)view_columns(v, &n);
    while (rest.len) {
        char name[64];
        size_t i;

        (void)span_copy(name, sizeof(name), span_trim(span_split(&rest, ',')));
        i = column_find(v, name);
        if (i == n) {
            (void)err_set(err, ERR_BAD_REQUEST, "view '%s' has no column '%s'", view_name(v), name);
            return false;
        }
        chosen |= 1u << i;
    }
    p->forced = chosen;
    p->hidden = ~chosen & ((1u << n) - 1);
    return true;
}

enum view ui_table_view(const struct ui *ui)
{
    return ui->is_drill ? VIEW_MODELS : ui->view;
}

static const struct {
    int64_t us;
    const char *text;
} SPANS[] = {{INT64_C(600000000), "10m"}, {INT64_C(3600000000), "60m"}, {INT64_C(7200000000), "2h"}};

int64_t ui_span_us(const struct ui *ui)
{
    return SPANS[ui->span].us;
}

const char *ui_span_text(const struct ui *ui)
{
    return SPANS[ui->span].text;
}

void ui_next_span(struct ui *ui)
{
    ui->span = (ui->span + 1) % ARRAY_LEN(SPANS);
}

bool ui_set_span(struct ui *ui, const char *text)
{
    for (unsigned i = 0; i < ARRAY_LEN(SPANS); i++)
        if (strcmp(SPANS[i].text, text) == 0) {
            ui->span = i;
            return true;
        }
    return false;
}

static const char *const THEMES[THEME_COUNT] = {"default", "light", "high-contrast", "cb", "mono"};

const char *theme_name(enum theme t)
{
    return THEMES[t];
}

bool theme_parse(const char *name, enum theme *out)
{
    for (int t = 0; t < THEME_COUNT; t++)
        if (strcmp(THEMES[t], name) == 0) {
            *out = (enum theme)t;
            return true;
        }
    return false;
}

void ui_build(const struct ui *ui, const struct model *m, struct table *out)
{
    struct fresh f = model_fresh(m, ui->now, ui->interval_ms);
    struct scope scope = {.view = ui_table_view(ui),
                          .provider = ui->provider,
                          .span_us = ui_span_us(ui),
                          .now = model_now(m, ui->now),
                          .is_stale = fresh_is_stale(f.kind)};

    table_build(out, m, &scope, &ui->places[ui->is_drill ? PLACE_DRILL : ui->view].look);
}

/* ---- selection ------------------------------------------------------------------------------------------------------- */

size_t ui_selected(const struct ui *ui, const struct table *t)
{
    const struct place *p = &ui->places[ui->is_drill ? PLACE_DRILL : ui->view];

    for (size_t i = 0; i < t->lines.n; i++)
        if (strcmp(t->lines.v[i].key, p->selected) == 0)
            return i;
    if (!t->lines.n)
        return 0;
    return p->selected[0] && p->selected_at < t->lines.n ? p->selected_at
           : p->selected[0]                              ? t->lines.n - 1
                                                         : 0;
}

void ui_select(struct ui *ui, const struct table *t, size_t line)
{
    struct place *p = ui_place(ui);

    if (line >= t->lines.n)
        return;
    (void)snprintf(p->selected, sizeof(p->selected), "%s", t->lines.v[line].key);
    p->selected_at = line;
}

static const char *account_of(const struct line *l, char *dst, size_t cap)
{
    const struct sample_budget *b = l->ref;

    if (b)
        return b->account;
    (void)snprintf(dst, cap, "%s:%s", l->depth ? "key" : "tenant", l->key);
    return dst;
}

/* A name as one word for a shell, which must not act on what a store says. */
static void put_word(struct buf *b, const char *z)
{
    bool is_plain = *z != '\0';

    for (const char *p = z; *p; p++)
        is_plain &= (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                    strchr("/:._-+@=,", *p);
    if (is_plain) {
        buf_addz(b, z);
        return;
    }
    buf_addc(b, '\'');
    for (; *z; z++)
        if (*z == '\'')
            buf_addz(b, "'\\''");
        else
            buf_addc(b, *z);
    buf_addc(b, '\'');
}

static void add_command(struct buf *b, const char *command, const char *word)
{
    buf_addz(b, command);
    if (word && *word) {
        buf_addc(b, ' ');
        put_word(b, word);
    }
}

static void command_of(const struct ui *ui, const struct line *l, struct buf *b)
{
    const struct sample_error *e;
    const struct sample_breaker *br;
    char account[LINE_KEY + 8];

    switch (ui_table_view(ui)) {
    case VIEW_PROVIDERS:
        add_command(b, "aigwctl health", l->key);
        buf_addz(b, " --explain");
        break;
    case VIEW_TENANTS:
        add_command(b, "aigwctl explain", account_of(l, account, sizeof(account)));
        break;
    case VIEW_BREAKERS:
        br = l->ref;
        add_command(b, strcmp(br->state, "CLOSED") == 0 ? "aigwctl breakers show" : "aigwctl breakers reset",
                    l->key);
        break;
    case VIEW_ERRORS:
        e = l->ref;
        add_command(b, "aigwctl explain", e->request);
        break;
    case VIEW_ANOMALIES:
        buf_addz(b, "aigwctl events --kind anomaly");
        break;
    default:
        add_command(b, "aigwctl explain", l->key);
    }
}

void ui_command(const struct ui *ui, const struct table *t, char *dst, size_t cap)
{
    static const char *const PLAIN[VIEW_COUNT] = {"aigwctl health",
                                                  "aigwctl cost",
                                                  "aigwctl budgets",
                                                  "aigwctl breakers",
                                                  "aigwctl events",
                                                  "aigwctl health",
                                                  "aigwctl events --kind anomaly"};
    struct buf b AUTO(buf_release) = {0};

    if (t->lines.n)
        command_of(ui, &t->lines.v[ui_selected(ui, t)], &b);
    else
        buf_addz(&b, PLAIN[ui_table_view(ui)]);
    (void)span_copy(dst, cap, buf_span(&b));
}

/* ---- room ------------------------------------------------------------------------------------------------------------ */

static bool wants_column(const struct place *p, const struct table *t, size_t i, unsigned width)
{
    if (p->hidden & 1u << i)
        return false;
    return (t->columns[i].from && width >= t->columns[i].from) || (p->forced & 1u << i);
}

/* Below 80 cells the state is its mark alone. */
static unsigned width_of(const struct column *c, unsigned width)
{
    if (c->form == FORM_STATUS && width < WIDE)
        return 2;
    if (c->form == FORM_TREND)
        return width >= 160 ? 40 : width >= 100 ? 20 : c->width;
    return c->width;
}

unsigned ui_columns(const struct place *p, const struct table *t, unsigned width,
                    struct shown out[VIEW_COLUMNS_MAX])
{
    unsigned n = 0, used = 1, x = 1, spare;

    for (size_t i = 0; i < t->n_columns; i++) {
        unsigned w = width_of(&t->columns[i], width);

        if (!wants_column(p, t, i, width) || (n && used + w > width))
            continue;
        out[n++] = (struct shown){i, 0, w};
        used += w + 1;
    }
    spare = used < width + 1 ? width + 1 - used : 0;
    for (unsigned k = 0; k < n; k++) {
        if (t->columns[out[k].column].form == FORM_NAME && spare) {
            out[k].width += spare > 60 ? 60 : spare;
            spare = 0;
        }
        out[k].x = x;
        x += out[k].width + 1;
    }
    return n;
}

unsigned ui_table_top(const struct ui *ui, unsigned w, unsigned h)
{
    if (ui->is_drill)
        return w < WIDE || h < 20 ? 3 : 7;
    return w < WIDE ? 3 : h < 16 ? 4 : 5;
}

static unsigned below(const struct ui *ui, unsigned w, unsigned h)
{
    unsigned lines = w < WIDE || h < 12 ? 1 : 2;

    if (h < 24 || w < WIDE)
        return lines;
    if (ui->is_drill)
        return lines + 10;
    return lines + (ui->view == VIEW_PROVIDERS ? 6 + (h > 30 ? (h - 30) / 2 : 0)
                    : ui->view == VIEW_TENANTS ? 5
                                               : 0);
}

unsigned ui_table_rows(const struct ui *ui, unsigned w, unsigned h)
{
    unsigned taken = ui_table_top(ui, w, h) + below(ui, w, h);

    return h >= taken + 3 ? h - taken : 3;
}
