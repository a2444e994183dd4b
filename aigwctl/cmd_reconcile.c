/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the books agree, and making them follow the ledger. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/stores.h"
#include "libshared/analytics/reconcile.h"

#define DEADLINE_US ((int64_t)120 * 1000000)
#define LINES_SHOWN 50u

enum { KEY_REPAIR = 0x2000, KEY_APPLY, KEY_FROM };

static struct {
    bool is_repair, apply;
    int64_t from;
} opt;

static const struct argp_option OPTIONS[] = {
    {"from", KEY_FROM, "HOUR", 0, "compare from this hour on (default: the last 24)", 0},
    {"repair", KEY_REPAIR, 0, 0, "say what a repair would change", 0},
    {"apply", KEY_APPLY, 0, 0, "with --repair: change it; the ledger decides, and is never changed", 0},
    STORES_OPTIONS,
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_FROM:
        if (!stores_parse_hour(arg, &opt.from))
            ctl_usage(state, "'%s' is no hour: write 2026-11-20T13", arg);
        return 0;
    case KEY_REPAIR:
        opt.is_repair = true;
        return 0;
    case KEY_APPLY:
        opt.apply = true;
        return 0;
    default:
        return stores_take(key, arg, state);
    }
}

static const struct table_column PAIRS[] = {
    {"pair", "BOOKS", FORM_TEXT},
    {"known", "KNOWN", FORM_YES},
    {"compared", "COMPARED", FORM_COUNT},
    {"different", "DIFFER", FORM_COUNT},
    {"drift", "DRIFT", FORM_COUNT},
    {"repaired", "REPAIRED", FORM_COUNT},
    {0},
};
static const struct table_column LINES[] = {
    {"where", "WHERE", FORM_TEXT},
    {"measure", "MEASURE", FORM_TEXT},
    {"ledger", "LEDGER", FORM_TEXT},
    {"other", "OTHER", FORM_TEXT},
    {0},
};

/* ---- here ---------------------------------------------------------------------------------------------------------- */

static void take_line(void *user, const struct reconcile_line *l)
{
    (void)json_array_append_new(user,
                                json_pack("{s:s, s:s, s:s, s:I, s:I}", "pair", reconcile_pair_name(l->pair),
                                          "where", l->where, "measure", l->measure, "ledger",
                                          (json_int_t)l->ledger, "other", (json_int_t)l->other));
}

static json_t *pair_json(const struct reconcile_result *r, enum reconcile_pair p, unsigned changed)
{
    bool known = r->pairs[p].is_known;
    json_t *o = json_pack("{s:s, s:b}", "pair", reconcile_pair_name(p), "known", known);

    (void)json_object_set_new(o, "compared",
                              known ? json_integer((json_int_t)r->pairs[p].compared) : json_null());
    (void)json_object_set_new(o, "different",
                              known ? json_integer((json_int_t)r->pairs[p].different) : json_null());
    (void)json_object_set_new(o, "drift", known ? json_integer(r->pairs[p].drift) : json_null());
    (void)json_object_set_new(o, "repaired", json_integer(changed));
    return o;
}

static int compare_here(const struct stores *s, json_t **out)
{
    json_t *lines = json_array(), *pairs = json_array();
    struct reconcile_options o = {.db = s->db,
                                  .kv = s->kv,
                                  .now = wall_now(),
                                  .from_hour = opt.from,
                                  .retention_us = s->retention_us,
                                  .fn = take_line,
                                  .user = lines};
    struct reconcile_result r;
    unsigned changed[RECONCILE_COUNT] = {0};
    struct err err = {0};
    enum err_code e = reconcile_run(&o, &r, &err);

    o.fn = NULL;
    for (unsigned p = RECONCILE_LEDGER_HOURLY; p < RECONCILE_COUNT && !e && opt.is_repair; p++)
        if (r.pairs[p].different)
            e = reconcile_repair(&o, (enum reconcile_pair)p, !opt.apply, &changed[p], &err);
    for (unsigned p = 0; p < RECONCILE_COUNT && !e; p++)
        (void)json_array_append_new(pairs, pair_json(&r, (enum reconcile_pair)p, changed[p]));
    *out = json_pack("{s:b, s:o, s:o}", "applied", opt.is_repair && opt.apply, "pairs", pairs, "differences",
                     lines);
    return e ? stores_failed(db_where(s->db), &err) : CLI_OK;
}

/* ---- at the gateway ------------------------------------------------------------------------------------------------ */

static int compare_there(struct ctl *ctl, json_t **out)
{
    json_t *body = json_pack("{s:b, s:b}", "repair", opt.is_repair, "apply", opt.apply);
    char hour[WALL_TEXT_CAP];
    int rc;

    if (opt.from) {
        (void)wall_format((struct wall){opt.from * 1000000}, hour, sizeof(hour));
        (void)json_object_set_new(body, "from", json_stringn(hour, 13));
    }
    rc = stores_ask(ctl, "/api/admin/reconcile", body, out);
    if (!rc && !json_object_get(*out, "pairs")) {
        json_decref(*out);
        *out = NULL;
        (void)puts("It takes longer; the gateway goes on with it.");
    }
    return rc;
}

/* ---- showing ------------------------------------------------------------------------------------------------------- */

static bool any_difference(const json_t *doc)
{
    json_t *row;
    size_t i;

    json_array_foreach(json_object_get(doc, "pairs"), i,
                       row) if (json_integer_value(json_object_get(row, "different")) > 0) return true;
    return false;
}

/* Figures of money are compared digit by digit, so they are shown whole. */
static json_t *spelt_out(const json_t *lines)
{
    json_t *rows = json_array(), *row, *copy;
    char text[32];
    size_t i;

    json_array_foreach(lines, i, row)
    {
        if (i == LINES_SHOWN)
            break;
        copy = json_copy(row);
        for (unsigned k = 0; k < 2; k++) {
            const char *name = k ? "other" : "ledger";

            (void)snprintf(text, sizeof(text), "%lld",
                           (long long)json_integer_value(json_object_get(row, name)));
            (void)json_object_set_new(copy, name, json_string(text));
        }
        (void)json_array_append_new(rows, copy);
    }
    return rows;
}

static void show(struct ctl *ctl, json_t *doc)
{
    json_t *lines = json_object_get(doc, "differences"), *rows;

    ctl_print(ctl, stdout, "reconcile", PAIRS, json_object_get(doc, "pairs"), doc);
    if (ctl->output != OUTPUT_TABLE)
        return;
    if (json_array_size(lines)) {
        (void)putchar('\n');
        rows = spelt_out(lines);
        ctl_print(ctl, stdout, "reconcile", LINES, rows, NULL);
        json_decref(rows);
        if (json_array_size(lines) > LINES_SHOWN)
            (void)printf("… and %zu more (-o json has them)\n", json_array_size(lines) - LINES_SHOWN);
    }
    if (any_difference(doc) && !opt.is_repair)
        (void)puts("\nThe ledger is right by definition. Make the others follow: aigwctl reconcile --repair "
                   "--apply");
    else if (any_difference(doc) && !opt.apply)
        (void)puts("\nNothing was changed. Change it: aigwctl reconcile --repair --apply");
}

static int run(struct ctl *ctl)
{
    bool writes = opt.is_repair && opt.apply;
    json_t *doc = NULL;
    struct stores s;
    int rc;

    if (opt.apply && !opt.is_repair)
        return ctl_fail(CLI_USAGE, "--apply goes with --repair");
    rc = stores_open(ctl, writes ? STORES_WRITE : STORES_READ, DEADLINE_US, &s);
    if (!rc && !s.is_busy)
        rc = stores_need_schema(&s);
    if (!rc)
        rc = s.is_busy ? compare_there(ctl, &doc) : compare_here(&s, &doc);
    stores_close(&s);
    if (!rc && doc) {
        show(ctl, doc);
        if (ctl->has_exit_code && any_difference(doc))
            rc = writes ? CLI_OK : CLI_WARNING;
    }
    json_decref(doc);
    return rc;
}

static const struct command_verb VERBS[] = {
    {"", "", "compare the books", READS, "POST /api/admin/reconcile"},
    {0},
};

const struct command CMD_RECONCILE = {
    .name = "reconcile",
    .verbs = VERBS,
    .group = GROUP_DATA,
    .summary = "whether ledger, hourly rows, Redis and budgets agree",
    .help =
        "Compares the books on the dimensions that they share. A pair is unknown where a store is missing or "
        "behind. "
        "A repair makes the other book follow the ledger. With --exit-code, exit 10 when anything differs.\v"
        "  aigwctl reconcile --repair",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
