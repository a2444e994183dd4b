/* SPDX-License-Identifier: Apache-2.0 */
/* `budgets reconcile`: what the counters of budgets and the ledger differ by, and with --apply the counters follow. It asks the
 * gateway, whose counters they are; `aigwctl reconcile` compares all books, also without one. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/budgets.h"
#include "aigwctl/change.h"
#include "libshared/cli/human.h"

static const struct table_column LINES[] = {
    {"where", "ACCOUNT, WINDOW", FORM_TEXT},
    {"other", "COUNTER", FORM_USD},
    {"ledger", "LEDGER", FORM_USD},
    {0},
};

static const json_t *pair_of(const json_t *doc)
{
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(doc, "pairs"), i, row)
    {
        const char *name = json_string_value(json_object_get(row, "pair"));

        if (name && strcmp(name, "ledger_budgets") == 0)
            return row;
    }
    return NULL;
}

static json_t *lines_of(const json_t *doc)
{
    json_t *rows = json_array(), *row;
    size_t i;

    json_array_foreach(json_object_get(doc, "differences"), i, row)
    {
        const char *name = json_string_value(json_object_get(row, "pair"));

        if (name && strcmp(name, "ledger_budgets") == 0)
            (void)json_array_append(rows, row);
    }
    return rows;
}

static int show(struct ctl *ctl, const json_t *doc, bool apply)
{
    const json_t *pair = pair_of(doc);
    json_t *rows = lines_of(doc);
    long long compared = json_integer_value(json_object_get(pair, "compared"));
    size_t n = json_array_size(rows);

    if (ctl->output != OUTPUT_TABLE) {
        ctl_print(ctl, stdout, "reconcile", LINES, rows, doc);
    } else if (!json_is_true(json_object_get(pair, "known"))) {
        (void)puts("The history store could not be read, or is behind: nothing was compared.");
    } else {
        if (n)
            ctl_print(ctl, stdout, "reconcile", LINES, rows, NULL);
        (void)printf("%s%zu of %lld differ%s\n", n ? "\n" : "", n, compared,
                     !n      ? ""
                     : apply ? "ed; the counters follow the ledger now"
                             : "; make the counters follow the ledger: aigwctl budgets reconcile --apply");
    }
    json_decref(rows);
    return ctl->has_exit_code && n && !apply ? CLI_WARNING : CLI_OK;
}

int reconcile_budgets(struct ctl *ctl, bool apply)
{
    json_t *doc;
    int rc;

    ctl->is_raw = false;
    rc = change_make(ctl,
                     &(struct change){.danger = apply ? DANGER_MODERATE : DANGER_MILD,
                                      .what = "make the counters follow",
                                      .name = "the ledger",
                                      .method = "POST",
                                      .path = "/api/admin/reconcile",
                                      .body = json_pack("{s:b, s:b, s:s}", "repair", 1, "apply", apply,
                                                        "only", "budgets")},
                     &doc);
    if (rc || !doc)
        return rc;
    if (json_object_get(doc, "pairs"))
        rc = show(ctl, doc, apply);
    else
        (void)puts("It takes longer; the gateway goes on with it.");
    json_decref(doc);
    return rc;
}
