/* SPDX-License-Identifier: Apache-2.0 */
/* What happened: breakers, budgets, health, stores. With -f it goes on; it asks only for what is newer than what it has seen, and
 * goes on where it was when the gateway was away or has been started anew meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/base/buf.h"
#include "libshared/cli/human.h"

#define FOLLOW_MS 1000

enum { KEY_SINCE = 0x2000, KEY_KIND, KEY_SEVERITY, KEY_LIMIT };

static const struct argp_option OPTIONS[] = {
    {"follow", 'f', 0, 0, "go on as they happen", 0},
    {"since", KEY_SINCE, "WHEN", 0, "how long ago (1h), or a time", 0},
    {"kind", KEY_KIND, "KINDS", 0,
     "breaker, health, budget, provider, store, anomaly, config, key; several with commas", 0},
    {"severity", KEY_SEVERITY, "info|warning|critical", 0, "that, and what is worse", 0},
    {"limit", KEY_LIMIT, "N", 0, "the newest, 100 by default", 0},
    {0},
};

static struct {
    bool is_follow;
    const char *since, *kind, *severity, *limit;
} opt;

static error_t take(int key, char *arg, struct argp_state *state)
{
    struct wall t;
    int64_t ms;

    switch (key) {
    case 'f':
        opt.is_follow = true;
        return 0;
    case KEY_SINCE:
        opt.since = arg;
        if (!human_parse_time(arg, &t) && !human_parse_duration(arg, &ms))
            ctl_usage(state, "--since takes how long ago, such as 1h, or a time, not '%s'", arg);
        return 0;
    case KEY_KIND:
        opt.kind = arg;
        return 0;
    case KEY_SEVERITY:
        opt.severity = arg;
        if (strcmp(arg, "info") != 0 && strcmp(arg, "warning") != 0 && strcmp(arg, "critical") != 0)
            ctl_usage(state, "--severity takes info, warning or critical, not '%s'", arg);
        return 0;
    case KEY_LIMIT:
        opt.limit = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct table_column EVENTS_COLUMNS[] = {
    {"at", "WHEN", FORM_AGE},
    {"kind", "KIND", FORM_NAME},
    {"severity", "SEVERITY", FORM_NAME},
    {"subject", "SUBJECT", FORM_TEXT | FORM_WRAP},
    {"text", "WHAT", FORM_TEXT | FORM_WRAP},
    {0},
};

static int get(struct ctl *ctl, const char *since, json_int_t after, json_t **out)
{
    struct buf path AUTO(buf_release) = {.max = 4096};

    buf_addf(&path, "/api/monitoring/events?after=%lld", (long long)after);
    look_add_param(&path, "since", since);
    look_add_param(&path, "kind", opt.kind);
    look_add_param(&path, "severity", opt.severity);
    look_add_param(&path, "limit", after ? "1000" : opt.limit);
    return ctl_get(ctl, path.p, out);
}

static int list(struct ctl *ctl, FILE *f)
{
    json_t *doc;
    int rc = get(ctl, opt.since, 0, &doc);

    if (!rc && doc) {
        ctl_print(ctl, f, "events", EVENTS_COLUMNS, json_object_get(doc, "events"), NULL);
        ctl_put_none(ctl, json_object_get(doc, "events"),
                     opt.since || opt.kind || opt.severity ? "No event is like that."
                                                           : "Nothing has happened since the start.");
    }
    json_decref(doc);
    return rc;
}

/* ---- following ------------------------------------------------------------------------------------------------------- */

static void put_line(const struct ctl *ctl, const json_t *row)
{
    char line[1024];

    if (ctl->output == OUTPUT_JSON) {
        char *text = json_dumps(row, JSON_COMPACT);

        (void)puts(text ? text : "{}");
        free(text);
    } else {
        (void)snprintf(line, sizeof(line), "%.19sZ  %-8s  %-8s  %s: %s", look_shown(row, "at"),
                       look_shown(row, "kind"), look_shown(row, "severity"), look_shown(row, "subject"),
                       look_shown(row, "text"));
        term_put(stdout, line);
        (void)putchar('\n');
    }
}

struct place { /* how far the follower has read */
    json_int_t epoch, next;
    char at[WALL_TEXT_CAP], id[64]; /* of the last event that it showed */
};

/* Of an answer that begins anew: events up to the one that was shown last are known. */
static bool is_known(const struct place *p, const json_t *row)
{
    return strcmp(look_shown(row, "at"), p->at) < 0 || strcmp(look_shown(row, "id"), p->id) == 0;
}

static void show_new(const struct ctl *ctl, struct place *p, const json_t *doc)
{
    bool is_anew = json_integer_value(json_object_get(doc, "epoch")) != p->epoch;
    struct place was = *p;
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(doc, "events"), i, row)
    {
        if (is_anew && was.epoch && is_known(&was, row))
            continue;
        put_line(ctl, row);
        (void)snprintf(p->at, sizeof(p->at), "%s", look_shown(row, "at"));
        (void)snprintf(p->id, sizeof(p->id), "%s", look_shown(row, "id"));
    }
    p->epoch = json_integer_value(json_object_get(doc, "epoch"));
    p->next = json_integer_value(json_object_get(doc, "next"));
    (void)fflush(stdout);
}

static int follow(struct ctl *ctl)
{
    struct place p = {0};
    json_t *doc;
    int rc;

    do {
        rc = get(ctl, p.epoch ? NULL : opt.since, p.next, &doc);
        if (!rc && doc && p.epoch && json_integer_value(json_object_get(doc, "epoch")) != p.epoch) {
            json_decref(doc);
            rc = get(ctl, p.at[0] ? p.at : opt.since, 0, &doc);
        }
        if (!rc && doc)
            show_new(ctl, &p, doc);
        json_decref(doc);
        ctl->is_watch = true; /* it was there once: from now on a silence is waited out */
    } while ((rc == CLI_OK || (rc == CLI_NO_ANSWER && p.epoch)) && ctl_sleep_ms(FOLLOW_MS));
    return ctl_stop ? 128 + ctl_stop : rc;
}

static int run(struct ctl *ctl)
{
    if (!opt.is_follow)
        return ctl_watch(ctl, list);
    ctl->is_raw = false;
    return follow(ctl);
}

static const struct command_verb VERBS[] = {
    {"", "", "the last events, or with -f all that come", READS, "GET /api/monitoring/events"},
    {0},
};

const struct command CMD_EVENTS = {
    .name = "events",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "what happened: breakers, budgets, health, stores",
    .help = "The last events of this gateway, and of others that share its Redis, oldest first. With -f it "
            "goes on; "
            "-o json then prints one object a line.\v"
            "  aigwctl events -f --since 1h --kind breaker,budget",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
