/* SPDX-License-Identifier: Apache-2.0 */
/* The list of budgets as a table of 80 columns. What a table shows differs from what CSV and JSON carry: those have the figures as
 * the gateway gives them, and its own names. Accounts that spent nothing are hidden on a terminal only, where a line says so. */
#include "aigwctl/budgets.h"
#include "aigwctl/look.h"

#include <langinfo.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/cli/human.h"

#define BAR 10

struct budgets_view budgets_view = {.over_percent = -1};

const struct table_column BUDGETS_COLUMNS[] = {
    /* of CSV */
    {"account", "ACCOUNT", FORM_TEXT},
    {"period", "PERIOD", FORM_TEXT},
    {"spent_nanousd", "SPENT", FORM_USD},
    {"held_nanousd", "HELD", FORM_USD},
    {"limit_nanousd", "LIMIT", FORM_USD},
    {"used_ratio", "USED", FORM_PERCENT},
    {"forecast_nanousd", "FORECAST", FORM_USD},
    {"exhausts_at", "REACHED AT", FORM_TEXT},
    {"at_limit", "AT LIMIT", FORM_TEXT},
    {"verdict", "NOW", FORM_TEXT},
    {"resets_at", "RESETS", FORM_UNTIL},
    {"source", "FROM", FORM_TEXT},
    {0},
};
static const struct table_column TABLE[] = {
    {"name", "ACCOUNT", FORM_TEXT},       {"period", "PERIOD", FORM_TEXT},
    {"spent_nanousd", "SPENT", FORM_USD}, {"limit_nanousd", "LIMIT", FORM_USD},
    {"used", "USED", FORM_TEXT},          {"forecast_text", "FORECAST", FORM_WORD},
    {"resets_at", "RESETS", FORM_UNTIL},  {0},
};
static const struct table_column TABLE_WITHOUT[] = {
    {"name", "ACCOUNT", FORM_TEXT},
    {"period", "PERIOD", FORM_TEXT},
    {"spent_nanousd", "SPENT", FORM_USD},
    {"limit_nanousd", "LIMIT", FORM_USD},
    {"used", "USED", FORM_TEXT},
    {"resets_at", "RESETS", FORM_UNTIL},
    {0},
};

static double number(const json_t *row, const char *name)
{
    return json_number_value(json_object_get(row, name));
}

const char *budgets_name(const char *account)
{
    if (strncmp(account, "tenant:", 7) == 0)
        return account + 7;
    return strncmp(account, "key:", 4) == 0 ? account + 4 : account;
}

void budgets_warn(const json_t *budget, char *dst, size_t cap)
{
    const json_t *warn = json_object_get(budget, "warn"), *one;
    size_t i, n = 0;

    dst[0] = '\0';
    if (json_is_integer(warn))
        (void)snprintf(dst, cap, "%lld", (long long)json_integer_value(warn));
    json_array_foreach(warn, i, one)
    {
        if (n < cap)
            n += (size_t)snprintf(dst + n, cap - n, "%s%lld", i ? "/" : "",
                                  (long long)json_integer_value(one));
    }
}

/* ---- cells ----------------------------------------------------------------------------------------------------------- */

static json_t *bar(double ratio)
{
    bool is_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    int full = (int)(ratio * BAR + 0.5);
    char line[16 + 3 * BAR];
    size_t n = (size_t)snprintf(line, sizeof(line), "%3.0f%%  ", ratio < 9.99 ? ratio * 100 : 999.0);

    for (int i = 0; i < BAR; i++) {
        const char *cell = is_utf8 ? (i < full ? "█" : "░") : (i < full ? "#" : ".");

        n += (size_t)snprintf(line + n, sizeof(line) - n, "%s", cell);
    }
    return json_string(line);
}

static bool is_blocking(const json_t *row)
{
    return strcmp(look_text(row, "at_limit"), "block") == 0;
}

/* What is spent by the end if the rate goes on as it is, whatever the hour of the week. */
static bool flat(const json_t *row, double *out)
{
    struct wall end;

    if (!json_object_get(row, "rate_usd_per_hour") || !human_parse_time(look_text(row, "resets_at"), &end))
        return false;
    *out = number(row, "spent_nanousd") +
           number(row, "rate_usd_per_hour") * 1e9 * (double)(end.us - wall_now().us) / 3.6e9;
    return true;
}

static json_t *forecast(const json_t *row)
{
    const char *state = look_text(row, "forecast");
    double end = number(row, "forecast_nanousd");
    bool has_end = json_object_get(row, "forecast_nanousd") != NULL;
    char usd[HUMAN_CAP];

    if (strcmp(state, "spent") == 0 && is_blocking(row))
        return json_string("blocked");
    if (budgets_view.forecast == FORECAST_FLAT)
        has_end = flat(row, &end);
    if (has_end) {
        human_usd(usd, (int64_t)end);
        return json_sprintf("%s%s", usd, end > number(row, "limit_nanousd") ? " !" : "");
    }
    if (strcmp(state, "at") == 0) /* it never resets */
        return json_sprintf("%.10s !", look_text(row, "exhausts_at"));
    return strcmp(state, "never") == 0 ? json_string("never") : json_null();
}

static void dress(json_t *rows)
{
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row)
    {
        (void)json_object_set_new(row, "name", json_string(budgets_name(look_text(row, "account"))));
        (void)json_object_set_new(row, "used", bar(number(row, "used_ratio")));
        (void)json_object_set_new(row, "forecast_text", forecast(row));
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static bool is_of_tenant(const json_t *row, const char *tenant)
{
    const char *name = budgets_name(look_text(row, "account"));
    size_t n = strlen(tenant);

    return strchr(look_text(row, "account"), ':') && strncmp(name, tenant, n) == 0 &&
           (name[n] == '\0' || name[n] == '/');
}

static bool is_meant(const json_t *row)
{
    return (!budgets_view.tenant || is_of_tenant(row, budgets_view.tenant)) &&
           number(row, "used_ratio") * 100 >= budgets_view.over_percent;
}

static int by_use(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    double u = number(x, "used_ratio"), v = number(y, "used_ratio");

    if (u < v || u > v)
        return u > v ? -1 : 1;
    return strcmp(look_text(x, "account"), look_text(y, "account"));
}

static json_t *chosen(const json_t *all, bool hides_idle, size_t *out_hidden)
{
    json_t *row, *rows = json_array();
    size_t i;

    *out_hidden = 0;
    json_array_foreach(all, i, row)
    {
        bool is_idle = number(row, "spent_nanousd") <= 0 && number(row, "held_nanousd") <= 0;

        if (!is_meant(row))
            continue;
        if (hides_idle && is_idle)
            ++*out_hidden;
        else
            (void)json_array_append(rows, row);
    }
    return look_sorted(rows, by_use);
}

/* The one that is spent next. */
static const json_t *next_spent(const json_t *rows)
{
    const json_t *row, *first = NULL;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        if (strcmp(look_text(row, "forecast"), "at") == 0 &&
            (!first || strcmp(look_text(row, "exhausts_at"), look_text(first, "exhausts_at")) < 0))
            first = row;
    }
    return first;
}

/* Two sentences, on one line where that fits. */
static void footer(FILE *f, const json_t *rows, size_t hidden)
{
    const json_t *next = budgets_view.forecast == FORECAST_SHOWN ? next_spent(rows) : NULL;
    size_t all = json_array_size(rows) + hidden;
    char first[128], second[320] = "";
    int n = snprintf(first, sizeof(first), "%zu account%s", all, all == 1 ? "" : "s");

    if (hidden && n > 0)
        (void)snprintf(first + n, sizeof(first) - (size_t)n, ", %zu without spend hidden (--all)", hidden);
    if (next)
        (void)snprintf(second, sizeof(second), "At this rate %.160s reaches its limit on %.10s.",
                       look_text(next, "name"), look_text(next, "exhausts_at"));
    (void)fprintf(f, "\n%s.%s", first,
                  !second[0]                                ? ""
                  : strlen(first) + strlen(second) + 2 > 80 ? "\n"
                                                            : " ");
    term_put(f, second);
    (void)fputc('\n', f);
}

/* The first of its marks, in percent. */
static double first_mark(const json_t *row)
{
    const json_t *warn = json_object_get(row, "warn");

    return json_number_value(json_is_array(warn) ? json_array_get(warn, 0) : warn);
}

static int exit_of(const struct ctl *ctl, const json_t *rows)
{
    const json_t *row;
    int rc = CLI_OK;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        if (number(row, "used_ratio") >= 1)
            rc = CLI_CRITICAL;
        else if (first_mark(row) > 0 && number(row, "used_ratio") * 100 >= first_mark(row) && rc == CLI_OK)
            rc = CLI_WARNING;
    }
    return ctl->has_exit_code ? rc : CLI_OK;
}

int budgets_list(struct ctl *ctl, FILE *f)
{
    bool is_table = ctl->output == OUTPUT_TABLE, is_tty = is_table && term_is_tty(stdout);
    bool has_filter = budgets_view.tenant || budgets_view.over_percent >= 0;
    json_t *doc, *rows;
    size_t hidden;
    int rc = ctl_get(ctl, "/api/admin/budgets", &doc);

    if (rc || !doc)
        return rc;
    rows = chosen(json_object_get(doc, "budgets"), is_tty && !budgets_view.is_all && !has_filter, &hidden);
    if (is_table)
        dress(rows);
    ctl_print(ctl, f, "budgets",
              !is_table                                  ? BUDGETS_COLUMNS
              : budgets_view.forecast == FORECAST_HIDDEN ? TABLE_WITHOUT
                                                         : TABLE,
              rows, NULL);
    ctl_put_none(ctl, json_object_get(doc, "budgets"),
                 "No budget is set. To set one: aigwctl budgets set TENANT --limit USD");
    if (is_tty && json_array_size(json_object_get(doc, "budgets")))
        footer(f, rows, hidden);
    rc = exit_of(ctl, rows);
    json_decref(rows);
    json_decref(doc);
    return rc;
}

void budgets_show(struct ctl *ctl, FILE *f, const json_t *budget)
{
    json_t *rows = json_pack("[o]", json_deep_copy(budget));
    char held[HUMAN_CAP], marks[64], line[256];

    if (ctl->output == OUTPUT_TABLE) {
        dress(rows);
        budgets_warn(budget, marks, sizeof(marks));
        human_usd(held, (int64_t)number(budget, "held_nanousd"));
        (void)snprintf(
            line, sizeof(line), "held %s; warn at %s%%; at limit: %.16s; now: %.16s; set in the %.16s", held,
            marks, look_text(budget, "at_limit"), look_text(budget, "verdict"), look_text(budget, "source"));
        ctl_print(ctl, f, "budget", TABLE, rows, budget);
        term_put(f, line);
        (void)fputc('\n', f);
    } else {
        ctl_print(ctl, f, "budget", BUDGETS_COLUMNS, rows, budget);
    }
    json_decref(rows);
}
