/* SPDX-License-Identifier: Apache-2.0 */
/* The hourly job: one run, a range of hours, and how it stands. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/stores.h"
#include "aigwctl/stores_where.h"
#include "libshared/analytics/aggregate.h"
#include "libshared/cli/human.h"

#define DEADLINE_US ((int64_t)120 * 1000000) /* of one statement over an hour */
#define HOUR_S      3600

enum {
    KEY_HOUR = 0x2000,
    KEY_FROM,
    KEY_TO,
    KEY_GAPS,
    KEY_SOURCE,
    KEY_PERIODIC,
    KEY_LOCK_WAIT,
    KEY_DRY_RUN,
};

static struct {
    int64_t from, to, periodic_ms, lock_wait_ms;
    enum aggregate_source source;
    bool allow_gaps, is_dry_run, is_quiet, is_range;
} opt;

static const char *const SOURCES[] = {"auto", "ledger", "redis"};

static const struct argp_option OPTIONS[] = {
    {"hour", KEY_HOUR, "HOUR", 0,
     "hourly: only this one, such as 2026-11-20T13 (UTC), also when it is stored", 0},
    {"from", KEY_FROM, "HOUR", 0, "backfill: the first hour", 0},
    {"to", KEY_TO, "HOUR", 0, "backfill: the last hour", 0},
    {"allow-gaps", KEY_GAPS, 0, 0, "store hours whose data is gone as empty", 0},
    {"source", KEY_SOURCE, "auto|ledger|redis", 0,
     "ledger, redis, or auto (default): the ledger where the database has one", 0},
    {"periodic", KEY_PERIODIC, "TIME", OPTION_ARG_OPTIONAL, "hourly: stay and run every TIME (default 60m)",
     0},
    {"lock-wait", KEY_LOCK_WAIT, "TIME", 0, "wait that long for another run to end (default 0)", 0},
    {"dry-run", KEY_DRY_RUN, 0, 0, "read and count, store nothing", 0},
    {"quiet", 'q', 0, 0, "print nothing unless it fails, for cron", 0},
    STORES_OPTIONS,
    {0},
};

static error_t take_hour(char *arg, int64_t *out, struct argp_state *state)
{
    if (!stores_parse_hour(arg, out) || *out == 0)
        ctl_usage(state, "'%s' is no hour: write 2026-11-20T13, in UTC", arg);
    return 0;
}

static error_t take_time(const char *arg, int64_t *out_ms, struct argp_state *state)
{
    if (!human_parse_duration(arg, out_ms))
        ctl_usage(state, "'%s' is no time: write 30s or 60m", arg);
    return 0;
}

static error_t take_source(const char *arg, struct argp_state *state)
{
    for (unsigned i = 0; i < ARRAY_LEN(SOURCES); i++)
        if (strcmp(arg, SOURCES[i]) == 0) {
            opt.source = (enum aggregate_source)i;
            return 0;
        }
    ctl_usage(state, "--source takes auto, ledger or redis, not '%s'", arg);
    return 0;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_HOUR:
        (void)take_hour(arg, &opt.from, state);
        opt.to = opt.from;
        return 0;
    case KEY_FROM:
        opt.is_range = true;
        return take_hour(arg, &opt.from, state);
    case KEY_TO:
        opt.is_range = true;
        return take_hour(arg, &opt.to, state);
    case KEY_GAPS:
        opt.allow_gaps = true;
        return 0;
    case KEY_SOURCE:
        return take_source(arg, state);
    case KEY_PERIODIC:
        (void)take_time(arg ? arg : "60m", &opt.periodic_ms, state);
        if (opt.periodic_ms < 1000)
            ctl_usage(state, "--periodic takes at least 1s");
        return 0;
    case KEY_LOCK_WAIT:
        return take_time(arg, &opt.lock_wait_ms, state);
    case KEY_DRY_RUN:
        opt.is_dry_run = true;
        return 0;
    case 'q':
        opt.is_quiet = true;
        return 0;
    default:
        return stores_take(key, arg, state);
    }
}

/* ---- hourly and backfill ------------------------------------------------------------------------------------------- */

static const struct table_column RUN_COLUMNS[] = {
    {"hours", "HOURS", FORM_COUNT},
    {"rows", "ROWS", FORM_COUNT},
    {"dirty", "AGAIN", FORM_COUNT},
    {"missing_hours", "GONE", FORM_COUNT},
    {"source", "SOURCE", FORM_TEXT},
    {"took_ms", "TOOK", FORM_MS},
    {0},
};

static void print_run(const struct ctl *ctl, json_t *doc)
{
    json_t *rows = json_array();
    double took = json_number_value(json_object_get(doc, "took_s"));

    if (!json_object_get(doc, "took_ms"))
        (void)json_object_set_new(doc, "took_ms", json_real(took * 1000));
    (void)json_array_append(rows, doc);
    if (!opt.is_quiet)
        ctl_print(ctl, stdout, "aggregate.run", RUN_COLUMNS, rows, doc);
    json_decref(rows);
}

/* The gateway that has the SQLite file does it. */
static int ask_gateway(struct ctl *ctl)
{
    json_t *body = json_object(), *doc = NULL;
    char hour[WALL_TEXT_CAP];
    int rc;

    if (opt.from) {
        (void)wall_format((struct wall){opt.from * 1000000}, hour, sizeof(hour));
        (void)json_object_set_new(body, "from", json_stringn(hour, 13));
        (void)wall_format((struct wall){opt.to * 1000000}, hour, sizeof(hour));
        (void)json_object_set_new(body, "to", json_stringn(hour, 13));
    }
    (void)json_object_set_new(body, "source", json_string(SOURCES[opt.source]));
    (void)json_object_set_new(body, "allow_gaps", json_boolean(opt.allow_gaps));
    (void)json_object_set_new(body, "dry_run", json_boolean(opt.is_dry_run));
    rc = stores_ask(ctl, "/api/admin/aggregate", body, &doc);
    if (!rc && strcmp(json_string_value(json_object_get(doc, "status")) ?: "", "done") == 0)
        print_run(ctl, doc);
    else if (!rc && !opt.is_quiet)
        (void)puts("It takes longer; the gateway goes on with it. See 'aigwctl aggregate status'.");
    json_decref(doc);
    return rc;
}

struct progress {
    struct mono started;
    bool is_shown;
};

static void show_progress(void *user, int64_t hour, unsigned done, unsigned of, unsigned rows)
{
    struct progress *p = user;
    char text[WALL_TEXT_CAP];

    if (opt.is_quiet || !term_is_tty(stderr) || mono_diff_us(mono_now(), p->started) < 500000)
        return;
    (void)wall_format((struct wall){hour * 1000000}, text, sizeof(text));
    (void)fprintf(stderr, "\r%.13s  %u of %u hours, %u rows\033[K", text, done, of, rows);
    p->is_shown = true;
}

static int roll_up(struct ctl *ctl, const struct stores *s)
{
    struct progress progress = {.started = mono_now()};
    struct aggregate_options o = {.db = s->db,
                                  .kv = s->kv,
                                  .source = opt.source,
                                  .now = wall_now(),
                                  .retention_us = s->has_retention ? s->retention_us : 0,
                                  .lock_wait_us = opt.lock_wait_ms * 1000,
                                  .from_hour = opt.from,
                                  .to_hour = opt.to,
                                  .allow_gaps = opt.allow_gaps,
                                  .is_dry_run = opt.is_dry_run,
                                  .progress = show_progress,
                                  .user = &progress};
    struct aggregate_result r;
    struct err err = {0};
    enum err_code e = aggregate_run(&o, &r, &err);
    json_t *doc;

    if (progress.is_shown)
        (void)fputs("\r\033[K", stderr);
    if (e)
        return stores_failed(db_where(s->db), &err);
    if (r.was_locked)
        return ctl_fail(CLI_CONFLICT, "another roll-up is running; --lock-wait waits for it");
    doc = json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:f, s:b}", "status", "done", "hours",
                    (json_int_t)r.hours, "rows", (json_int_t)r.rows, "dirty", (json_int_t)r.dirty,
                    "missing_hours", (json_int_t)r.missing_hours, "source", SOURCES[r.source], "took_s",
                    (double)r.took_us / 1e6, "dry_run", opt.is_dry_run);
    print_run(ctl, doc);
    json_decref(doc);
    if (r.missing_hours && !opt.from)
        (void)ctl_fail(0, "%lld hours had data that is gone", (long long)r.missing_hours);
    return CLI_OK;
}

static int run_once(struct ctl *ctl)
{
    struct stores s;
    int rc;

    stores_wait(opt.lock_wait_ms);
    rc = stores_open(ctl, opt.is_dry_run ? STORES_READ : STORES_WRITE, DEADLINE_US, &s);
    if (rc)
        return rc;
    if (s.is_busy)
        rc = ask_gateway(ctl);
    else if (opt.source == AGGREGATE_REDIS && !s.kv)
        rc = stores_lack("redis", "realtime store");
    else
        rc = stores_need_schema(&s);
    if (!rc && !s.is_busy)
        rc = roll_up(ctl, &s);
    stores_close(&s);
    return rc;
}

/* The stores are let go between two runs. A run that failed has said so; the next one tries again. */
static int run_periodic(struct ctl *ctl)
{
    int rc;

    stores_be_patient();
    do {
        rc = run_once(ctl);
        (void)fflush(stdout);
        if (rc == CLI_USAGE)
            return rc;
    } while (ctl_sleep_ms(opt.periodic_ms));
    return 128 + ctl_stop;
}

static bool is_open(int64_t hour)
{
    return (hour + HOUR_S) * 1000000 > wall_now().us;
}

static int run_hourly(struct ctl *ctl)
{
    if (opt.is_range)
        return ctl_fail(CLI_USAGE, "hourly takes --hour; --from and --to are of backfill");
    if (opt.from && is_open(opt.from))
        return ctl_fail(CLI_CONFLICT, "that hour is not over yet; only closed hours are stored");
    return opt.periodic_ms ? run_periodic(ctl) : run_once(ctl);
}

static int run_backfill(struct ctl *ctl)
{
    if (!opt.is_range || !opt.from || !opt.to || opt.from > opt.to)
        return ctl_fail(CLI_USAGE, "backfill needs --from and --to, the earlier hour first");
    if (opt.periodic_ms)
        return ctl_fail(CLI_USAGE, "--periodic is of hourly");
    return run_once(ctl);
}

/* ---- status -------------------------------------------------------------------------------------------------------- */

static const struct table_column STATUS_TABLE[] = {
    {"last_run", "LAST RUN", FORM_TEXT},
    {"result", "RESULT", FORM_TEXT},
    {"hours", "HOURS", FORM_COUNT},
    {"rows", "ROWS", FORM_COUNT},
    {"took_ms", "TOOK", FORM_MS},
    {"missing_hours", "MISSED", FORM_COUNT},
    {"next_run", "NEXT", FORM_TEXT},
    {"lag", "LAG", FORM_TEXT},
    {0},
};
static const struct table_column STATUS_CSV[] = {
    {"last_run", "", FORM_TEXT},     {"result", "", FORM_TEXT},   {"hours", "", FORM_COUNT},
    {"rows", "", FORM_COUNT},        {"took_ms", "", FORM_MS},    {"missing_hours", "", FORM_COUNT},
    {"dirty_hours", "", FORM_COUNT}, {"next_run", "", FORM_TEXT}, {"lag_s", "", FORM_COUNT},
    {"loss_at", "", FORM_TEXT},      {"source", "", FORM_TEXT},   {0},
};

struct verdict {
    struct wall next;
    int64_t lag_s;
    int code;
};

static int64_t interval_us(void)
{
    const char *z = getenv("GATEWAYD_AGGREGATION_INTERVAL"),
               *minutes = getenv("METRICS_AGGREGATION_INTERVAL_MINUTES");
    int64_t ms = 0;
    uint64_t n = 0;

    if (z && human_parse_duration(z, &ms) && ms > 0)
        return ms * 1000;
    return minutes && span_to_u64(span_of(minutes), &n) && n && n < 100000 ? (int64_t)n * 60000000
                                                                           : (int64_t)HOUR_S * 1000000;
}

/* Critical when data goes before the next run; a warning when a run was missed, failed, or left something. */
static struct verdict judge(const struct aggregate_status *s, struct wall now)
{
    struct verdict v = {.code = CLI_OK};
    int64_t interval = interval_us(), from = s->last_started.us ? s->last_started.us : now.us - interval;
    int64_t late = s->oldest_missing ? now.us - (s->oldest_missing + HOUR_S) * 1000000 : 0;

    v.next.us = from + interval > now.us ? from + interval : now.us;
    v.lag_s = s->last_started.us ? (now.us - s->last_started.us) / 1000000 : -1;
    if (strcmp(s->last_result, "error") == 0 || s->dirty_hours || late > interval + (int64_t)600 * 1000000)
        v.code = CLI_WARNING;
    /* A run that is due already may not come at all. */
    if (s->loss_at.us && s->loss_at.us <= (v.next.us > now.us ? v.next.us : now.us + interval))
        v.code = CLI_CRITICAL;
    return v;
}

static json_t *time_or_null(struct wall t)
{
    char text[WALL_TEXT_CAP];

    if (t.us <= 0)
        return json_null();
    (void)wall_format(t, text, sizeof(text));
    return json_string(text);
}

static json_t *status_json(const struct aggregate_status *s, const struct verdict *v)
{
    json_t *o = json_object();
    bool has_run = s->last_started.us > 0, has_end = s->last_finished.us > 0;

    (void)json_object_set_new(o, "last_run", time_or_null(s->last_started));
    (void)json_object_set_new(o, "result", has_run ? json_string(s->last_result) : json_null());
    (void)json_object_set_new(o, "error", s->last_error[0] ? json_string(s->last_error) : json_null());
    (void)json_object_set_new(o, "hours", has_run ? json_integer(s->last_hours) : json_null());
    (void)json_object_set_new(o, "rows", has_run ? json_integer(s->last_rows) : json_null());
    (void)json_object_set_new(o, "took_ms",
                              has_end ? json_real((double)(s->last_finished.us - s->last_started.us) / 1000)
                                      : json_null());
    (void)json_object_set_new(o, "missing_hours", json_integer(s->missing_hours));
    (void)json_object_set_new(o, "oldest_missing", time_or_null((struct wall){s->oldest_missing * 1000000}));
    (void)json_object_set_new(o, "dirty_hours", json_integer(s->dirty_hours));
    (void)json_object_set_new(o, "newest_stored", time_or_null((struct wall){s->last_hour * 1000000}));
    (void)json_object_set_new(o, "next_run", time_or_null(v->next));
    (void)json_object_set_new(o, "lag_s", v->lag_s < 0 ? json_null() : json_integer(v->lag_s));
    (void)json_object_set_new(o, "loss_at", time_or_null(s->loss_at));
    (void)json_object_set_new(o, "source", json_string(s->is_ledger_complete ? "ledger" : "redis"));
    return o;
}

/* "2026-11-20 11:05", or from `skip` on. */
static void set_short(json_t *o, const char *name, struct wall t, size_t skip)
{
    char text[WALL_TEXT_CAP];

    if (t.us <= 0)
        return;
    (void)wall_format(t, text, sizeof(text));
    text[10] = ' ';
    text[16] = '\0';
    (void)json_object_set_new(o, name, json_string(text + skip));
}

static void print_advice(FILE *f, const struct aggregate_status *s, const struct verdict *v, struct wall now)
{
    char first[WALL_TEXT_CAP], at[WALL_TEXT_CAP], in[HUMAN_CAP];

    (void)wall_format((struct wall){s->oldest_missing * 1000000}, first, sizeof(first));
    if (s->missing_hours)
        (void)fprintf(f, "%lld closed hours are not stored, the oldest is %.13s.",
                      (long long)s->missing_hours, first);
    if (s->dirty_hours)
        (void)fprintf(f, "%s%lld hours changed since they were stored.", s->missing_hours ? " " : "",
                      (long long)s->dirty_hours);
    if (s->loss_at.us) {
        (void)wall_format(s->loss_at, at, sizeof(at));
        human_duration(in, (s->loss_at.us - now.us) / 1000000);
        (void)fprintf(f, "\nRedis forgets the first of it at %.5s UTC, in %s%s.", at + 11, in,
                      v->code == CLI_CRITICAL ? ", before the next run" : "");
    } else if (s->missing_hours) {
        (void)fputs(" The ledger has them.", f);
    }
    if (s->last_error[0]) {
        (void)fputs("\nThe last run failed: ", f);
        term_put(f, s->last_error);
    }
    if (v->code != CLI_OK)
        (void)fputs("\nRun now: aigwctl aggregate hourly", f);
    if (s->missing_hours || s->dirty_hours || v->code != CLI_OK)
        (void)fputc('\n', f);
}

static void print_status(const struct ctl *ctl, FILE *f, const struct aggregate_status *s, struct wall now)
{
    struct verdict v = judge(s, now);
    json_t *doc = status_json(s, &v), *shown = json_copy(doc), *rows = json_array();
    char lag[HUMAN_CAP + 2] = "-";

    if (v.lag_s >= 0)
        human_duration(lag, v.lag_s);
    if (v.code != CLI_OK)
        (void)strncat(lag, " !", sizeof(lag) - strlen(lag) - 1);
    set_short(shown, "last_run", s->last_started, 0);
    set_short(shown, "next_run", v.next, 11);
    (void)json_object_set_new(shown, "lag", json_string(lag));
    (void)json_array_append(rows, ctl->output == OUTPUT_TABLE ? shown : doc);
    ctl_print(ctl, f, "aggregate", ctl->output == OUTPUT_TABLE ? STATUS_TABLE : STATUS_CSV, rows, doc);
    if (ctl->output == OUTPUT_TABLE)
        print_advice(f, s, &v, now);
    json_decref(rows);
    json_decref(shown);
    json_decref(doc);
}

static int show_status(struct ctl *ctl, FILE *f)
{
    struct aggregate_status status;
    struct stores s;
    struct err err = {0};
    struct wall now = wall_now();
    int rc = stores_open(ctl, STORES_READ, DEADLINE_US, &s);

    if (!rc && opt.source == AGGREGATE_REDIS && !s.kv)
        rc = stores_lack("redis", "realtime store");
    if (!rc)
        rc = stores_need_schema(&s);
    if (!rc) {
        struct aggregate_options o = {
            .db = s.db, .kv = s.kv, .source = opt.source, .now = now, .retention_us = s.retention_us};

        if (aggregate_status(&o, &status, &err))
            rc = stores_failed(db_where(s.db), &err);
    }
    if (!rc) {
        print_status(ctl, f, &status, now);
        rc = judge(&status, now).code;
    }
    stores_close(&s);
    return rc;
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "status";

    if (strcmp(verb, "status") == 0)
        return ctl_watch(ctl, show_status);
    if (strcmp(verb, "hourly") == 0)
        return run_hourly(ctl);
    if (strcmp(verb, "backfill") == 0)
        return run_backfill(ctl);
    return ctl_fail(CLI_USAGE, "aggregate: the verbs are hourly, backfill and status, not '%s'", verb);
}

static const struct command_verb VERBS[] = {
    {"hourly", "", "every closed hour that is not stored yet", MILD, "POST /api/admin/aggregate"},
    {"backfill", "--from HOUR --to HOUR", "a range of hours again", MILD, "POST /api/admin/aggregate"},
    {"status", "", "what is not stored, and when it would be lost", READS, NULL},
    {0},
};

const struct command CMD_AGGREGATE = {
    .name = "aggregate",
    .verbs = VERBS,
    .group = GROUP_DATA,
    .summary = "roll hours up into the history, and how that stands",
    .help = "hourly stores every closed hour that is not stored yet and every hour that changed since. "
            "backfill does "
            "a range of hours again. status says what is not stored and when it would be lost: exit 10 when "
            "behind, "
            "11 when data goes before the next run. Doing an hour twice changes nothing.\v"
            "  5 * * * * aigwctl aggregate hourly --quiet --lock-wait 30s",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 1,
};
