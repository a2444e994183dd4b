/* SPDX-License-Identifier: Apache-2.0 */
/* The whole screen, from the model and what the person at it chose. Pure: the same scene gives the same cells. */
#include <stdio.h>

#include "aigwtop/view/draw_priv.h"

static void draw_too_small(struct screen *s)
{
    char text[120];

    (void)snprintf(text, sizeof(text), "%ux%u, needs %ux%u, q quits", s->w, s->h, LEAST_WIDTH, LEAST_HEIGHT);
    (void)screen_put(s, 0, 0, 0, STYLE_PLAIN, text);
}

static void draw_below(struct screen *s, const struct scene *sc, unsigned y)
{
    unsigned foot = s->w < WIDE || s->h < 12 ? 1 : 2;

    if (s->h < 24 || s->w < WIDE || y + 1 >= s->h - foot)
        return;
    if (sc->ui->view == VIEW_PROVIDERS)
        draw_events(s, sc, y, s->h - foot - y - 1 > 40 ? 40 : s->h - foot - y - 1);
    else if (sc->ui->view == VIEW_TENANTS)
        draw_tenant(s, sc, y + 1);
}

void draw(struct screen *s, const struct scene *sc)
{
    unsigned top, rows;

    if (s->w < LEAST_WIDTH || s->h < LEAST_HEIGHT) {
        draw_too_small(s);
        return;
    }
    draw_head(s, sc);
    if (sc->ui->is_drill) {
        draw_drill(s, sc);
    } else {
        top = ui_table_top(sc->ui, s->w, s->h);
        rows = ui_table_rows(sc->ui, s->w, s->h);
        if (s->w >= WIDE && s->h >= 16)
            draw_tabs(s, sc, 3);
        draw_table(s, sc, top, rows);
        draw_below(s, sc, top + rows);
    }
    draw_foot(s, sc);
    draw_overlay(s, sc);
}
