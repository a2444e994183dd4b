/* SPDX-License-Identifier: Apache-2.0 */
/* Views of budgets: the list with its bars and forecasts, and what `explain` says of anything. */
#ifndef AIGWCTL_BUDGETS_H
#define AIGWCTL_BUDGETS_H

#include "aigwctl/command.h"

struct budgets_view {
    int over_percent;   /* only those that have used so much; -1: all */
    const char *tenant; /* only that one's, and its keys'; NULL: all */
    bool is_all;        /* those without spending, too, on a terminal */
    enum { FORECAST_SHOWN, FORECAST_FLAT, FORECAST_HIDDEN } forecast;
};
extern struct budgets_view budgets_view;

/* For ctl_watch(). */
int budgets_list(struct ctl *ctl, FILE *f);
/* "80", or "50/80/100": the marks at which it is told, in percent. */
void budgets_warn(const json_t *budget, char *dst, size_t cap);
/* One budget, whole. */
void budgets_show(struct ctl *ctl, FILE *f, const json_t *budget);
/* "acme", "acme/web", "global": an account as people write it. */
const char *budgets_name(const char *account);

/* Why: of a request, an account, a provider. */
int explain_show(struct ctl *ctl, const char *what);
/* The ledger decides; with `apply` budgets follow it. An exit code. */
int reconcile_budgets(struct ctl *ctl, bool apply);

#endif
