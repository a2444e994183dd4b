/* SPDX-License-Identifier: Apache-2.0 */
/* Circuit breakers: list, show, open, close, reset, auto. A change of several says first of how many. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/change.h"
#include "aigwctl/look.h"
#include "libshared/cli/human.h"

enum { KEY_STATE = 0x2000, KEY_ALL, KEY_FOR, KEY_UNTIL, KEY_DRAIN, KEY_ALL_OPEN, KEY_HISTORY };

static struct {
    const char *state, *length;
    char until[32]; /* what is left of --until, as a duration */
    bool is_all, is_drain, is_all_open, has_history;
} opt;

static const struct argp_option OPTIONS[] = {
    {"state", KEY_STATE, "open|half_open|closed", 0, "list: only those", 0},
    {"all", KEY_ALL, 0, 0, "list: the quiet ones too", 0},
    {"history", KEY_HISTORY, 0, 0, "list: what each one went through", 0},
    {"for", KEY_FOR, "TIME", 0, "open, close: how long, at most 30d, such as 30m", 0},
    {"until", KEY_UNTIL, "INSTANT", 0, "open, close: the same as an RFC 3339 time", 0},
    {"drain", KEY_DRAIN, 0, 0, "open: let answers that are under way end", 0},
    {"all-open", KEY_ALL_OPEN, 0, 0, "reset, close, auto: every breaker that is open", 0},
    CHANGE_OPTIONS,
    {0},
};

static error_t take_until(const char *arg, struct argp_state *state)
{
    struct wall t;
    int64_t s;

    if (!human_parse_time(arg, &t))
        ctl_usage(state, "--until takes a time such as 2026-11-30T12:00:00Z, not '%s'", arg);
    s = (t.us - wall_now().us) / 1000000;
    if (s < 1)
        ctl_usage(state, "--until: '%s' is over", arg);
    (void)snprintf(opt.until, sizeof(opt.until), "%llds", (long long)s);
    opt.length = opt.until;
    return 0;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_STATE:
        opt.state = arg;
        if (strcasecmp(arg, "open") && strcasecmp(arg, "half_open") && strcasecmp(arg, "closed"))
            ctl_usage(state, "--state is open, half_open or closed, not '%s'", arg);
        return 0;
    case KEY_ALL:
        opt.is_all = true;
        return 0;
    case KEY_HISTORY:
        opt.has_history = true;
        return 0;
    case KEY_FOR:
        opt.length = arg;
        return 0;
    case KEY_UNTIL:
        return take_until(arg, state);
    case KEY_DRAIN:
        opt.is_drain = true;
        return 0;
    case KEY_ALL_OPEN:
        opt.is_all_open = true;
        return 0;
    default:
        return change_take(key, arg);
    }
}

const struct table_column BREAKERS_COLUMNS[] = {
    {"target", "PROVIDER/MODEL", FORM_TEXT | FORM_WRAP},
    {"state", "STATE", FORM_TEXT},
    {"failure_count", "FAILS", FORM_COUNT},
    {"since", "SINCE", FORM_AGE},
    {"next", "NEXT", FORM_NAME},
    {"cause", "LAST CAUSE", FORM_TEXT | FORM_WRAP},
    {0},
};
static const struct table_column HISTORY[] = {
    {"at", "AT", FORM_TEXT},
    {"from", "FROM", FORM_TEXT},
    {"to", "TO", FORM_TEXT},
    {"cause", "CAUSE", FORM_TEXT | FORM_WRAP},
    {0},
};

static const struct table_column CHANGES[] = {
    {"at", "WHEN", FORM_AGE},
    {"target", "PROVIDER/MODEL", FORM_TEXT | FORM_WRAP},
    {"from", "FROM", FORM_TEXT},
    {"to", "TO", FORM_TEXT},
    {"cause", "CAUSE", FORM_TEXT | FORM_WRAP},
    {0},
};

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static bool is_state(const json_t *row, const char *state)
{
    return strcasecmp(look_text(row, "state"), state) == 0;
}

/* What happens next, in words for a table. */
static json_t *next_of(const json_t *row)
{
    bool is_forced = json_is_object(json_object_get(row, "forced"));
    char left[HUMAN_CAP], line[HUMAN_CAP + 32];
    struct wall until;

    if (!is_forced && is_state(row, "HALF_OPEN"))
        return json_sprintf("probing %lld", (long long)json_integer_value(json_object_get(row, "probes")));
    if (!human_parse_time(look_text(row, "until"), &until))
        return json_null();
    human_duration(left, until.us > wall_now().us ? (until.us - wall_now().us) / 1000000 : 0);
    (void)snprintf(line, sizeof(line), "%s%s", is_forced ? "forced, " : "", left);
    return json_string(line);
}

static void dress(json_t *rows)
{
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row)
    {
        (void)json_object_set_new(row, "target",
                                  json_sprintf("%s/%s", look_text(row, "provider"), look_text(row, "model")));
        (void)json_object_set_new(row, "next", next_of(row));
    }
}

/* The target is PROVIDER or PROVIDER/MODEL. */
static bool is_meant(const json_t *row, const char *target)
{
    const char *slash = target ? strchr(target, '/') : NULL;
    size_t n = slash ? (size_t)(slash - target) : target ? strlen(target) : 0;

    if (!target)
        return true;
    return strlen(look_text(row, "provider")) == n && strncmp(look_text(row, "provider"), target, n) == 0 &&
           (!slash || strcmp(look_text(row, "model"), slash + 1) == 0);
}

static json_t *only(const json_t *rows, const char *target, const char *state)
{
    json_t *kept = json_array(), *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        if (is_meant(row, target) && (!state || is_state(row, state)))
            (void)json_array_append(kept, row);
    }
    return kept;
}

/* Those of a target, or all; *out is the caller's on CLI_OK, NULL with --raw. */
static int fetch(struct ctl *ctl, const char *target, const char *state, json_t **out)
{
    struct buf path AUTO(buf_release) = {.max = 1024};
    json_t *doc;
    int rc;

    *out = NULL;
    buf_addz(&path, "/api/monitoring/circuit-breakers");
    if (target)
        buf_addf(&path, "/%.*s", (int)strcspn(target, "/"), target);
    rc = ctl_get(ctl, path.p, &doc);
    if (rc || !doc)
        return rc;
    *out = only(doc, target, state);
    json_decref(doc);
    if (target && strchr(target, '/') && !json_array_size(*out) && !state) {
        json_decref(*out);
        *out = NULL;
        return ctl_fail(CLI_NOT_FOUND, "there is no breaker of '%s'", target);
    }
    return CLI_OK;
}

/* ---- looking --------------------------------------------------------------------------------------------------------- */

static bool is_quiet(const json_t *row)
{
    return is_state(row, "CLOSED") && !json_integer_value(json_object_get(row, "failure_count")) &&
           !json_is_object(json_object_get(row, "forced"));
}

static unsigned count(const json_t *rows, const char *state)
{
    size_t i;
    json_t *row;
    unsigned n = 0;

    json_array_foreach(rows, i, row) n += is_state(row, state);
    return n;
}

static void print_table(const struct ctl *ctl, FILE *f, const json_t *rows)
{
    json_t *shown = json_array(), *row;
    size_t i, hidden;

    json_array_foreach(rows, i, row)
    {
        if (opt.is_all || opt.state || !is_quiet(row))
            (void)json_array_append(shown, row);
    }
    hidden = json_array_size(rows) - json_array_size(shown);
    if (json_array_size(shown) || !hidden)
        ctl_print(ctl, f, "breakers", BREAKERS_COLUMNS, shown, NULL);
    (void)fprintf(f, "%s%u open, %u half-open, %u closed", json_array_size(shown) ? "\n" : "",
                  count(rows, "OPEN"), count(rows, "HALF_OPEN"), count(rows, "CLOSED"));
    if (hidden)
        (void)fprintf(f, " (%zu quiet hidden, --all shows them)", hidden);
    (void)fputc('\n', f);
    json_decref(shown);
}

static int exit_of(const struct ctl *ctl, const json_t *rows)
{
    if (!ctl->has_exit_code)
        return CLI_OK;
    return count(rows, "OPEN") ? CLI_CRITICAL : count(rows, "HALF_OPEN") ? CLI_WARNING : CLI_OK;
}

static int by_newest(const void *a, const void *b)
{
    return strcmp(look_text(*(json_t *const *)b, "at"), look_text(*(json_t *const *)a, "at"));
}

/* What all breakers of `rows` went through, newest first. */
static json_t *changes_of(const json_t *rows)
{
    json_t *all = json_array(), *row, *change;
    size_t i, k;

    json_array_foreach(rows, i, row)
    {
        json_array_foreach(json_object_get(row, "history"), k, change)
        {
            json_t *o = json_copy(change);

            (void)json_object_set_new(
                o, "target", json_sprintf("%s/%s", look_text(row, "provider"), look_text(row, "model")));
            (void)json_array_append_new(all, o);
        }
    }
    return look_sorted(all, by_newest);
}

/* Only the page of a provider tells what was before, so each is asked once. */
static int fetch_history(struct ctl *ctl, const char *target, json_t **out)
{
    json_t *rows, *row, *seen = json_object(), *some, *all = json_array();
    size_t i;
    int rc = fetch(ctl, target, opt.state, &rows);

    ctl->is_raw = false;
    json_array_foreach(rows, i, row)
    {
        char only_model[600];

        (void)snprintf(only_model, sizeof(only_model), "%s/%s", look_text(row, "provider"),
                       look_text(row, "model"));
        if (!opt.state && json_object_get(seen, look_text(row, "provider")))
            continue;
        (void)json_object_set_new(seen, look_text(row, "provider"), json_true());
        rc = fetch(ctl, target || opt.state ? only_model : look_text(row, "provider"), opt.state, &some);
        if (rc)
            break;
        (void)json_array_extend(all, some);
        json_decref(some);
    }
    json_decref(seen);
    json_decref(rows);
    *out = changes_of(all);
    json_decref(all);
    return rc;
}

static int list_history(struct ctl *ctl, FILE *f)
{
    json_t *rows;
    int rc = fetch_history(ctl, ctl->n_args == 2 ? ctl->args[1] : NULL, &rows);

    if (!rc)
        ctl_print(ctl, f, "history", CHANGES, rows, NULL);
    json_decref(rows);
    return rc;
}

static int list(struct ctl *ctl, FILE *f)
{
    json_t *rows;
    int rc = fetch(ctl, ctl->n_args == 2 ? ctl->args[1] : NULL, opt.state, &rows);

    if (rc || !rows)
        return rc;
    if (ctl->output == OUTPUT_JSON) {
        ctl_print(ctl, f, "breakers", BREAKERS_COLUMNS, rows, NULL);
    } else {
        dress(rows);
        if (ctl->output == OUTPUT_TABLE)
            print_table(ctl, f, rows);
        else
            ctl_print(ctl, f, "breakers", BREAKERS_COLUMNS, rows, NULL);
    }
    rc = exit_of(ctl, rows);
    json_decref(rows);
    return rc;
}

static void show_one(struct ctl *ctl, FILE *f, const json_t *row)
{
    const json_t *forced = json_object_get(row, "forced"), *history = json_object_get(row, "history");
    char line[768];

    ctl_put_member(f, row, "target");
    (void)fputs("  ", f);
    ctl_put_member(f, row, "state");
    (void)fprintf(f, "\n  failures in a row: %lld; of the window's %lld attempts %lld failed\n",
                  (long long)json_integer_value(json_object_get(row, "failure_count")),
                  (long long)json_integer_value(json_object_get(row, "window_attempts")),
                  (long long)json_integer_value(json_object_get(row, "window_failures")));
    if (json_is_object(forced)) {
        (void)snprintf(line, sizeof(line), "forced until %s by %s, reason: %s", look_text(forced, "until"),
                       look_text(forced, "actor"),
                       *look_text(forced, "reason") ? look_text(forced, "reason") : "-");
        (void)fputs("  ", f);
        ctl_put_text(f, line, 2);
        (void)fputc('\n', f);
    }
    if (json_array_size(history))
        ctl_print(ctl, f, "history", HISTORY, history, NULL);
}

static int show(struct ctl *ctl, FILE *f)
{
    json_t *rows, *row;
    size_t i;
    int rc = fetch(ctl, ctl->args[1], NULL, &rows);

    if (rc || !rows)
        return rc;
    if (ctl->output == OUTPUT_TABLE) {
        dress(rows);
        json_array_foreach(rows, i, row) show_one(ctl, f, row);
    } else {
        if (ctl->output == OUTPUT_CSV)
            dress(rows);
        ctl_print(ctl, f, "breakers", BREAKERS_COLUMNS, rows, NULL);
    }
    rc = exit_of(ctl, rows);
    json_decref(rows);
    return rc;
}

/* ---- changing -------------------------------------------------------------------------------------------------------- */

/* The same with the forced state in words. */
static json_t *in_words(const json_t *row)
{
    json_t *o = json_copy((json_t *)(uintptr_t)row), *forced = json_object_get(o, "forced");

    if (json_is_object(forced))
        (void)json_object_set_new(o, "forced",
                                  json_sprintf("%s until %s by %s%s%s", look_text(forced, "state"),
                                               look_text(forced, "until"), look_text(forced, "actor"),
                                               *look_text(forced, "reason") ? ": " : "",
                                               look_text(forced, "reason")));
    return o;
}

static int change_one(struct ctl *ctl, const char *verb, const json_t *was)
{
    static const char *const CHANGED[] = {"state", "forced", "failure_count", NULL};
    struct buf path AUTO(buf_release) = {.max = 2048};
    char what[32], name[512];
    json_t *out, *body = json_pack("{s:s}", "action", verb), *rows;
    int rc;

    if (opt.length)
        (void)json_object_set_new(body, "for", json_string(opt.length));
    if (opt.is_drain)
        (void)json_object_set_new(body, "drain", json_true());
    (void)snprintf(what, sizeof(what), "%s breaker", verb);
    (void)snprintf(name, sizeof(name), "%s/%s", look_text(was, "provider"), look_text(was, "model"));
    buf_addz(&path, "/api/admin/breakers/");
    look_add_part(&path, name);
    rc = change_make(ctl,
                     &(struct change){.danger = DANGER_MODERATE,
                                      .what = what,
                                      .name = name,
                                      .method = "POST",
                                      .path = path.p,
                                      .body = body},
                     &out);
    if (rc || !out)
        return rc;
    rows = json_pack("[O]", out);
    if (ctl->output == OUTPUT_TABLE) {
        json_t *before = in_words(was), *after = in_words(out);

        (void)printf("%s\n", name);
        change_show(stdout, before, after, CHANGED);
        json_decref(before);
        json_decref(after);
        if (opt.length)
            (void)printf("undo: aigwctl breakers auto %s\n", name);
    } else {
        if (ctl->output == OUTPUT_CSV)
            dress(rows);
        ctl_print(ctl, stdout, "breaker", BREAKERS_COLUMNS, rows, out);
    }
    json_decref(rows);
    json_decref(out);
    return rc;
}

static int change_all(struct ctl *ctl, const char *verb, const char *target)
{
    json_t *rows, *row;
    size_t i;
    int rc;

    ctl->is_raw = false;
    rc = fetch(ctl, target, opt.is_all_open ? "OPEN" : NULL, &rows);
    if (rc)
        return rc;
    if (opt.is_all_open || json_array_size(rows) != 1)
        (void)fprintf(stderr, "%s: %zu breakers\n", verb, json_array_size(rows));
    json_array_foreach(rows, i, row)
    {
        rc = change_one(ctl, verb, row);
        if (rc)
            break;
    }
    json_decref(rows);
    return rc;
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "list", *target = ctl->n_args == 2 ? ctl->args[1] : NULL;
    bool is_forced = strcmp(verb, "open") == 0 || strcmp(verb, "close") == 0;

    if (strcmp(verb, "list") == 0)
        return ctl_watch(ctl, opt.has_history ? list_history : list);
    if (strcmp(verb, "show") == 0)
        return target ? ctl_watch(ctl, show)
                      : ctl_fail(CLI_USAGE, "breakers show: name PROVIDER or PROVIDER/MODEL");
    if (!is_forced && strcmp(verb, "reset") != 0 && strcmp(verb, "auto") != 0)
        return ctl_fail(CLI_USAGE,
                        "breakers: the verbs are list, show, open, close, reset and auto, not '%s'", verb);
    if (!target && !opt.is_all_open)
        return ctl_fail(CLI_USAGE, "breakers %s: name PROVIDER or PROVIDER/MODEL, or say --all-open", verb);
    if (is_forced != (opt.length != NULL))
        return ctl_fail(CLI_USAGE,
                        is_forced ? "breakers %s: say how long: --for 30m, or --until"
                                  : "breakers %s: --for and --until are for open and close",
                        verb);
    if (opt.is_drain && strcmp(verb, "open") != 0)
        return ctl_fail(CLI_USAGE, "breakers %s: --drain is for open", verb);
    return change_all(ctl, verb, target);
}

static const struct command_verb VERBS[] = {
    {"list", "[TARGET]", "states; the quiet ones are hidden", READS, "GET /api/monitoring/circuit-breakers"},
    {"show", "TARGET", "one breaker, with its last 20 changes", READS,
     "GET /api/monitoring/circuit-breakers/{provider}"},
    {"open", "TARGET --for TIME", "keep requests away", MODERATE,
     "POST /api/admin/breakers/{provider/model}"},
    {"close", "TARGET --for TIME", "let requests through whatever fails", MODERATE,
     "POST /api/admin/breakers/{provider/model}"},
    {"reset", "TARGET", "close it and forget what it counted", MODERATE,
     "POST /api/admin/breakers/{provider/model}"},
    {"auto", "TARGET", "end a forced state", MODERATE, "POST /api/admin/breakers/{provider/model}"},
    {0},
};

const struct command CMD_BREAKERS = {
    .name = "breakers",
    .verbs = VERBS,
    .group = GROUP_CONTROL,
    .summary = "circuit breakers: their states, and forcing them",
    .help =
        "The breaker of each provider and model. TARGET is PROVIDER or PROVIDER/MODEL. `open` keeps requests "
        "away and ends what is under way unless --drain is given, `close` lets requests through whatever "
        "fails; both end by themselves, and `auto` ends them now. `reset` closes a breaker and forgets what "
        "it counted.\v"
        "  aigwctl breakers open openrouter/openai/gpt-4o-mini --drain --for 30m \\\n"
        "    --reason 'maintenance'",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
