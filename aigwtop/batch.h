/* SPDX-License-Identifier: Apache-2.0 */
/* aigwtop -b: samples as text, without a terminal. */
#ifndef AIGWTOP_BATCH_H
#define AIGWTOP_BATCH_H

#include <stdio.h>

#include "aigwtop/export.h"
#include "aigwtop/view/ui.h"
#include "aigwtop/where.h"

struct options {
    struct where where;
    int64_t interval_ms;
    bool is_batch, has_interval, has_warmup, has_exit_code, is_mono, no_config;
    uint64_t n; /* 0: without end */
    enum export_form form;
    enum view view;
    const char *columns, *filter, *sort, *record, *conf, *theme, *glyphs;
    int64_t exit_on_loss_s; /* 0: never */
};

extern _Atomic int top_stop; /* the signal that asked us to end */

int batch_run(const struct options *o);
/* Columns by their keys, as bits; false and why. */
bool columns_parse(enum view v, const char *list, uint32_t *out, struct err *err);
/* "-cost", "p95": a column, and with '-' the highest first. */
bool sort_parse(enum view v, const char *text, struct look *look, struct err *err);
/* What a view needs to be read. */
void ask_for(struct ask *ask, enum view v, const char *provider, bool is_drill);
int64_t sleep_ms(int64_t ms); /* what was left when a signal came */

#endif
