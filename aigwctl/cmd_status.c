/* SPDX-License-Identifier: Apache-2.0 */
/* The whole picture on one page, or in one line. */
#include <math.h>
#include <string.h>

#include "aigwctl/command.h"
#include "libshared/cli/human.h"

static bool is_brief;

static const struct argp_option OPTIONS[] = {
    {"brief", 'b', 0, 0, "one line", 0},
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    (void)arg;
    (void)state;
    if (key != 'b')
        return ARGP_ERR_UNKNOWN;
    is_brief = true;
    return 0;
}

const struct table_column STATUS_COLUMNS[] = {
    {"name", "PROVIDER", FORM_TEXT},       {"status", "STATUS", FORM_HEALTH},
    {"health_score", "SCORE", FORM_SCORE}, {"availability", "AVAILABLE", FORM_YES},
    {"error_rate", "ERR", FORM_PERCENT},   {0},
};

static uint64_t count_of(const json_t *o, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(o, name));

    return v > 0 ? (uint64_t)v : 0;
}

static void print_head(FILE *f, const json_t *doc)
{
    const json_t *s = json_object_get(doc, "summary");
    char uptime[HUMAN_CAP], requests[HUMAN_CAP], cost[HUMAN_CAP], rate[HUMAN_CAP] = "-";

    human_duration(uptime, json_integer_value(json_object_get(doc, "uptime_s")));
    human_count(requests, count_of(s, "total_requests"));
    human_usd(cost, json_integer_value(json_object_get(s, "total_cost_nanousd")));
    if (json_is_number(json_object_get(s, "requests_per_s")))
        human_rate(rate, json_number_value(json_object_get(s, "requests_per_s")));
    (void)fputs("gatewayd ", f);
    ctl_put_member(f, doc, "version");
    (void)fprintf(f, ", up %s%s: ", uptime,
                  json_is_true(json_object_get(doc, "draining")) ? ", draining" : "");
    ctl_put_member(f, s, "status");
    (void)fputc('\n', f);
    (void)fprintf(f,
                  "%s requests, %s/s, %llu streams open, %s\n"
                  "%llu ok, %llu failed, %llu rejected, %llu cancelled\n",
                  requests, rate, (unsigned long long)count_of(s, "active_streams"), cost,
                  (unsigned long long)count_of(s, "successful_requests"),
                  (unsigned long long)count_of(s, "failed_requests"),
                  (unsigned long long)count_of(s, "rejected_requests"),
                  (unsigned long long)count_of(s, "cancelled_requests"));
}

static bool is_down(const json_t *store)
{
    const char *status = json_string_value(json_object_get(store, "status"));

    return status && strcmp(status, "down") == 0;
}

static bool any_down(const json_t *doc)
{
    const json_t *store;
    size_t i;

    json_array_foreach(json_object_get(doc, "stores"), i, store) if (is_down(store)) return true;
    return false;
}

static double share_held(const json_t *journal)
{
    double room = json_number_value(json_object_get(journal, "room_bytes")),
           held = json_number_value(json_object_get(journal, "held_bytes"));

    return room + held > 0 ? held / (room + held) : 0;
}

/* Where requests would begin to be refused. */
static void print_journal(FILE *f, const json_t *journal)
{
    const json_t *room_s = json_object_get(journal, "room_s");
    char room[HUMAN_CAP], lasts[HUMAN_CAP];

    human_bytes(room, count_of(journal, "room_bytes"));
    (void)fprintf(f, "journal: room for %s more", room);
    if (json_is_integer(room_s)) {
        human_duration(lasts, json_integer_value(room_s));
        (void)fprintf(f, ", about %s at this rate", lasts);
    }
    (void)fprintf(f, ", then requests are refused; %llu were\n",
                  (unsigned long long)count_of(journal, "refused_requests"));
}

/* Nothing while all is well. */
static void print_stores(FILE *f, const json_t *doc)
{
    const json_t *store, *journal = json_object_get(doc, "journal");
    char since[HUMAN_CAP];
    size_t i;

    json_array_foreach(json_object_get(doc, "stores"), i, store)
    {
        if (!is_down(store))
            continue;
        human_duration(since, json_integer_value(json_object_get(store, "down_s")));
        (void)fputs("store ", f);
        ctl_put_member(f, store, "name");
        (void)fprintf(f, " is down for %s: ", since);
        ctl_put_member(f, store, "error");
        (void)fputc('\n', f);
    }
    if (json_is_object(journal) && (any_down(doc) || share_held(journal) > 0.5))
        print_journal(f, journal);
}

static void print_brief(FILE *f, const json_t *doc)
{
    const json_t *s = json_object_get(doc, "summary");

    ctl_put_member(f, s, "status");
    (void)fprintf(f, ": %llu of %llu providers healthy, %llu degraded, %llu unhealthy%s\n",
                  (unsigned long long)count_of(s, "healthy"),
                  (unsigned long long)count_of(s, "total_providers"),
                  (unsigned long long)count_of(s, "degraded"), (unsigned long long)count_of(s, "unhealthy"),
                  any_down(doc) ? ", a store is down" : "");
}

static int code_of(const struct ctl *ctl, const json_t *doc)
{
    const char *status = json_string_value(json_object_get(json_object_get(doc, "summary"), "status"));

    if (!ctl->has_exit_code || !status)
        return CLI_OK;
    if (strcmp(status, "unhealthy") == 0 || share_held(json_object_get(doc, "journal")) > 0.9)
        return CLI_CRITICAL;
    return strcmp(status, "degraded") == 0 || any_down(doc) ? CLI_WARNING : CLI_OK;
}

/* The dashboard's scores are 0 to 1; operators see 0 to 100 everywhere. */
static void rescale(json_t *o, const char *name)
{
    const json_t *score = json_object_get(o, name);

    if (json_is_number(score))
        (void)json_object_set_new(o, name, json_real(round(json_number_value(score) * 1e6) / 1e4));
}

static void rescale_all(json_t *doc)
{
    json_t *row;
    size_t i;

    json_array_foreach(json_object_get(doc, "providers"), i, row) rescale(row, "health_score");
    rescale(json_object_get(doc, "summary"), "avg_health_score");
}

static int show(struct ctl *ctl, FILE *f)
{
    json_t *doc;
    int rc = ctl_get(ctl, "/health/dashboard", &doc);

    if (rc || !doc)
        return rc;
    if (!json_is_object(json_object_get(doc, "summary"))) {
        rc = ctl_fail(CLI_FAILED, "%s does not answer like a gatewayd", ctl->found_url);
    } else if (ctl->output == OUTPUT_TABLE && is_brief) {
        print_brief(f, doc);
    } else {
        if (ctl->output == OUTPUT_TABLE) {
            print_head(f, doc);
            print_stores(f, doc);
            (void)fputc('\n', f);
        }
        rescale_all(doc);
        ctl_print(ctl, f, "status", STATUS_COLUMNS, json_object_get(doc, "providers"), doc);
    }
    rc = rc ? rc : code_of(ctl, doc);
    json_decref(doc);
    return rc;
}

static int run(struct ctl *ctl)
{
    return ctl_watch(ctl, show);
}

static const struct command_verb VERBS[] = {
    {"", "", "the whole picture on one page", READS, "GET /health/dashboard"},
    {0},
};

const struct command CMD_STATUS = {
    .name = "status",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "the whole picture on one page",
    .help =
        "Version, traffic, cost, and how each provider fares; stores that are down, since when, and how long "
        "the journal can keep what they do not take. --exit-code: 10 also when a store is down, 11 also when "
        "the "
        "journal is nearly full.\v"
        "  aigwctl status --brief --exit-code || page-somebody",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
