/* SPDX-License-Identifier: Apache-2.0 */
/* What -o json holds, as JSON Schema: the envelope, and the members that tables show. The gateway's answers have more members; new
 * ones may come, none of these goes or changes within a major number. */
#include <string.h>

#include "aigwctl/command.h"

static const struct shape {
    const char *name;
    const struct table_column *columns;
    const char *list; /* member of `data` that holds the rows; NULL: `data` is the list, or the one object */
    bool is_object;   /* `data` is one object */
} SHAPES[] = {
    {"status", STATUS_COLUMNS, "providers", true},
    {"health", HEALTH_COLUMNS, NULL, false},
    {"events", EVENTS_COLUMNS, NULL, false},
    {"errors", ERRORS_COLUMNS, NULL, false},
    {"error-rates", RATES_BY_MODEL, "models", true},
    {"stats", STATS_NOW, NULL, true},
    {"stats-hourly", STATS_HOURLY, "stats", true},
    {"comparison", COMPARE_COLUMNS, "providers", true},
    {"latency", LATENCY_COLUMNS, NULL, false},
    {"latency-trend", TREND_COLUMNS, "trends", true},
    {"anomalies", ANOMALY_COLUMNS, "anomalies", true},
    {"cost", COST_COLUMNS, "providers", true},
    {"tokens", TOKENS_COLUMNS, NULL, true},
    {"trials", TRIALS_COLUMNS, NULL, true},
    {"models", MODELS_COLUMNS, "models", true},
    {"metrics", CARDINALITY_COLUMNS, NULL, false},
    {"metrics-check", METRICS_CHECK_COLUMNS, NULL, false},
    {"ping", PING_COLUMNS, NULL, false},
    {"breakers", BREAKERS_COLUMNS, NULL, false},
    {"providers", PROVIDERS_COLUMNS, NULL, false},
    {"tenants", TENANTS_COLUMNS, NULL, false},
    {"keys", KEYS_COLUMNS, NULL, false},
    {"limits", LIMITS_COLUMNS, NULL, false},
    {"budget", BUDGETS_COLUMNS, NULL, false},
    {"audit", AUDIT_COLUMNS, NULL, false},
    {"config", CONFIG_COLUMNS, NULL, false},
    {"contexts", CONTEXT_COLUMNS, NULL, false},
};

static json_t *type_of(const struct table_column *c)
{
    switch (FORM_OF(c)) {
    case FORM_TEXT: /* or a number that is a name */
    case FORM_WORD:
    case FORM_NUMBER:
        return json_pack("{s:[s,s,s,s]}", "type", "string", "number", "boolean", "null");
    case FORM_NAME:
    case FORM_HEALTH:
        return json_pack("{s:[s,s]}", "type", "string", "null");
    case FORM_AGE:
    case FORM_UNTIL:
        return json_pack("{s:[s,s], s:s}", "type", "string", "null", "format", "date-time");
    case FORM_YES:
        return json_pack("{s:[s,s,s]}", "type", "boolean", "number", "null");
    case FORM_USD:
    case FORM_COUNT:
    case FORM_LIMIT:
        return json_pack("{s:[s,s]}", "type", "integer", "null");
    default:
        return json_pack("{s:[s,s]}", "type", "number", "null");
    }
}

static json_t *row_of(const struct table_column *columns)
{
    json_t *properties = json_object();

    for (; columns->key; columns++)
        (void)json_object_set_new(properties, columns->key, type_of(columns));
    return json_pack("{s:s, s:o}", "type", "object", "properties", properties);
}

static json_t *data_of(const struct shape *s)
{
    json_t *row = row_of(s->columns), *rows;

    if (!s->list && s->is_object)
        return row;
    rows = json_pack("{s:s, s:o}", "type", "array", "items", row);
    if (!s->list)
        return rows;
    return json_pack("{s:[o, {s:s, s:[s], s:{s:O}}]}", "anyOf", rows, "type", "object", "required", s->list,
                     "properties", s->list, rows);
}

static json_t *schema_of(const struct shape *s)
{
    char id[64];
    json_t *text = json_pack("{s:s}", "type", "string"), *o;

    (void)snprintf(id, sizeof(id), "gatewayd.%s/1", s->name);
    o = json_pack(
        "{s:s, s:s, s:s, s:[s,s,s,s,s,s], s:{s:{s:s}, s:{s:s,s:s}, s:O, s:{s:s}, s:{s:s,s:O}, s:o}}",
        "$schema", "https://json-schema.org/draft/2020-12/schema", "$id", id, "type", "object", "required",
        "schema", "generated_at", "source", "stale", "warnings", "data", "properties", "schema", "const", id,
        "generated_at", "type", "string", "format", "date-time", "source", text, "stale", "type", "boolean",
        "warnings", "type", "array", "items", text, "data", data_of(s));
    json_decref(text);
    return o;
}

static int list(void)
{
    for (size_t i = 0; i < ARRAY_LEN(SHAPES); i++)
        (void)puts(SHAPES[i].name);
    return CLI_OK;
}

static int run(struct ctl *ctl)
{
    const char *names[ARRAY_LEN(SHAPES) + 1] = {NULL}, *nearest;
    json_t *o;

    if (!ctl->n_args)
        return list();
    for (size_t i = 0; i < ARRAY_LEN(SHAPES); i++) {
        names[i] = SHAPES[i].name;
        if (strcmp(SHAPES[i].name, ctl->args[0]) != 0)
            continue;
        o = schema_of(&SHAPES[i]);
        table_print_document(stdout, o);
        json_decref(o);
        return CLI_OK;
    }
    nearest = help_nearest(ctl->args[0], names);
    return nearest ? ctl_fail(CLI_NOT_FOUND, "no schema is named '%s'. Closest: %s", ctl->args[0], nearest)
                   : ctl_fail(CLI_NOT_FOUND, "no schema is named '%s'; 'aigwctl schema' lists them",
                              ctl->args[0]);
}

static const struct command_verb VERBS[] = {
    {"", "[SCHEMA]", "one as JSON Schema, or their names", READS, NULL},
    {0},
};

const struct command CMD_SCHEMA = {
    .name = "schema",
    .verbs = VERBS,
    .group = GROUP_SETUP,
    .summary = "what -o json holds, as JSON Schema",
    .help = "The name is what stands in the envelope's member `schema`, between 'gatewayd.' and '/'. Members "
            "may be added; "
            "those that are here stay as they are. With --filter, --sort-by, --limit or --columns, `data` is "
            "the list of "
            "rows alone.\v"
            "  aigwctl schema health",
    .run = run,
    .max_args = 1,
};
