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
    int64_t interval_ms; /* 0: as set up */
    bool is_batch, has_warmup, has_exit_code, is_mono, no_config;
    uint64_t n; /* 0: without end */
    enum export_form form;
    enum view view;
    const char *columns, *filter, *sort, *record, *conf, *theme, *glyphs;
    int64_t exit_on_loss_s; /* 0: never */
};

extern _Atomic int top_stop; /* the signal that asked us to end */

int batch_run(const struct options *o);
/* What options say of the view; false and why. */
bool options_apply(const struct options *o, struct ui *ui, struct err *err);
/* Tells the error on stderr; returns the exit code. */
int top_fail(int code, const struct err *err);
/* What a view needs to be read. */
void ask_for(struct ask *ask, enum view v, const char *provider, bool is_drill);

#endif
