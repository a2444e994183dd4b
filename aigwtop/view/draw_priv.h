/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a screen; each draws into its own place. */
#ifndef AIGWTOP_VIEW_DRAW_PRIV_H
#define AIGWTOP_VIEW_DRAW_PRIV_H

#include "aigwtop/view/ui.h"

#define VALUE_CAP 96

/* A value as text for `width` cells; true: it is put to the right. */
bool value_text(char dst[VALUE_CAP], const struct screen *s, const struct value *v, enum form form,
                unsigned width);
unsigned style_of(enum level l);
const char *mark_of(const struct screen *s, enum level l);
void clock_text(char dst[VALUE_CAP], int64_t us);    /* "14:32:07" */
void short_age(char dst[VALUE_CAP], double seconds); /* in four cells */

void draw_head(struct screen *s, const struct scene *sc);
void draw_tabs(struct screen *s, const struct scene *sc, unsigned y);
void draw_foot(struct screen *s, const struct scene *sc);
void draw_table(struct screen *s, const struct scene *sc, unsigned y, unsigned rows);
void draw_events(struct screen *s, const struct scene *sc, unsigned y, unsigned rows);
void draw_tenant(struct screen *s, const struct scene *sc, unsigned y);
void draw_errors_sum(struct screen *s, const struct scene *sc, unsigned y);
void draw_drill(struct screen *s, const struct scene *sc);
void draw_overlay(struct screen *s, const struct scene *sc);
void draw_box(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned h, const char *title);

#endif
