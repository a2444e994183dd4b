/* SPDX-License-Identifier: Apache-2.0 */
/* The history store itself: its schema, its health, its view, its old rows. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/stores.h"
#include "libshared/analytics/aggregate.h"
#include "libshared/analytics/archive.h"
#include "libshared/analytics/reconcile.h"
#include "libshared/cli/human.h"

#define DEADLINE_US ((int64_t)600 * 1000000)

enum { KEY_TO = 0x2000, KEY_SQL, KEY_CONFIRM, KEY_OLDER, KEY_OUT_FILE, KEY_KEEP, KEY_TABLE };

static struct {
    int to;
    bool sql, keep;
    const char *confirm, *out_file;
    int64_t older_s;
    enum archive_table table;
} opt = {.to = -1};

static const struct argp_option OPTIONS[] = {
    {"to", KEY_TO, "N", 0, "migrate down: the version to end at", 0},
    {"sql", KEY_SQL, 0, 0, "migrate: print the statements, run nothing", 0},
    {"confirm", KEY_CONFIRM, "NAME", 0, "the database's name, for what destroys data", 0},
    {"older-than", KEY_OLDER, "TIME", 0, "archive: rows of hours that ended before, such as 90d", 0},
    {"out-file", KEY_OUT_FILE, "FILE", 0, "archive: CSV, gzip when it ends with .gz; must not exist", 0},
    {"keep", KEY_KEEP, 0, 0, "archive: export, delete nothing", 0},
    {"table", KEY_TABLE, "ledger|minute_sketches|metrics_hourly_aggregates", 0,
     "archive: ledger (default), minute_sketches or metrics_hourly_aggregates", 0},
    STORES_OPTIONS,
    {0},
};

static error_t take_age(const char *arg, struct argp_state *state)
{
    size_t n = strlen(arg);
    uint64_t days;
    int64_t ms = 0;

    if (n > 1 && arg[n - 1] == 'd' && span_to_u64(span_make(arg, n - 1), &days) && days < 36500)
        opt.older_s = (int64_t)days * 86400;
    else if (human_parse_duration(arg, &ms))
        opt.older_s = ms / 1000;
    else
        ctl_usage(state, "'%s' is no time: write 90d or 48h", arg);
    if (opt.older_s < 3600)
        ctl_usage(state, "--older-than takes at least 1h");
    return 0;
}

static error_t take_table(const char *arg, struct argp_state *state)
{
    for (unsigned t = 0; t < ARCHIVE_COUNT; t++)
        if (strcmp(arg, archive_table_name((enum archive_table)t)) == 0) {
            opt.table = (enum archive_table)t;
            return 0;
        }
    ctl_usage(state, "--table takes ledger, minute_sketches or metrics_hourly_aggregates, not '%s'", arg);
    return 0;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    uint64_t n;

    switch (key) {
    case KEY_TO:
        if (!span_to_u64(span_of(arg), &n) || n > 10000)
            ctl_usage(state, "--to takes the number of a version, not '%s'", arg);
        opt.to = (int)n;
        return 0;
    case KEY_SQL:
        opt.sql = true;
        return 0;
    case KEY_CONFIRM:
        opt.confirm = arg;
        return 0;
    case KEY_OLDER:
        return take_age(arg, state);
    case KEY_OUT_FILE:
        opt.out_file = arg;
        return 0;
    case KEY_KEEP:
        opt.keep = true;
        return 0;
    case KEY_TABLE:
        return take_table(arg, state);
    default:
        return stores_take(key, arg, state);
    }
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static int open_for(struct ctl *ctl, enum stores_use use, struct stores *s)
{
    int rc = stores_open(ctl, use, DEADLINE_US, s);

    if (!rc && s->is_busy)
        rc = ctl_fail(CLI_CONFLICT, "the database belongs to a running gateway; stop it first");
    return rc;
}

/* The last part of the address: a database's or a file's name. */
static void name_of(const struct stores *s, char *dst, size_t cap)
{
    const char *z = db_where(s->db), *slash = strrchr(z, '/');
    struct span name = span_of(slash ? slash + 1 : z);
    const char *query = memchr(name.p, '?', name.len);

    if (query)
        name.len = (size_t)(query - name.p);
    (void)span_copy(dst, cap, name);
}

/* What destroys data wants its name typed, by a person or by --confirm. */
static int confirmed(const struct stores *s, const char *what)
{
    char name[256], line[256] = "";

    name_of(s, name, sizeof(name));
    if (opt.confirm)
        return strcmp(opt.confirm, name) == 0
                   ? CLI_OK
                   : ctl_fail(CLI_CANCELLED, "--confirm says '%s', and the database is '%s'", opt.confirm,
                              name);
    if (!term_is_tty(stdin) || !term_is_tty(stderr))
        return ctl_fail(CLI_CANCELLED, "%s; say so with --confirm %s", what, name);
    (void)fprintf(stderr, "%s. Type '%s' to go on: ", what, name);
    if (!fgets(line, sizeof(line), stdin))
        return CLI_CANCELLED;
    line[strcspn(line, "\r\n")] = '\0';
    return strcmp(line, name) == 0 ? CLI_OK : ctl_fail(CLI_CANCELLED, "nothing was done");
}

/* ---- migrate ------------------------------------------------------------------------------------------------------- */

static const struct table_column MIGRATE_COLUMNS[] = {
    {"database", "DATABASE", FORM_TEXT},
    {"version", "VERSION", FORM_COUNT},
    {"latest", "LATEST", FORM_COUNT},
    {"state", "STATE", FORM_TEXT},
    {0},
};

static int show_version(struct ctl *ctl, const struct stores *s)
{
    struct err err = {0};
    unsigned version = 0, latest = db_schema_latest();
    json_t *rows, *doc;

    if (db_schema_version(s->db, &version, &err))
        return stores_failed(db_where(s->db), &err);
    doc = json_pack("{s:s, s:I, s:I, s:s}", "database", db_where(s->db), "version", (json_int_t)version,
                    "latest", (json_int_t)latest, "state",
                    version == latest  ? "current"
                    : !version         ? "empty"
                    : version < latest ? "behind"
                                       : "newer than this program");
    rows = json_pack("[O]", doc);
    ctl_print(ctl, stdout, "db.migrate", MIGRATE_COLUMNS, rows, doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

/* Of the dialect that the address has, or SQLite's. */
static int print_sql(const struct stores *s)
{
    for (unsigned v = 1; v <= db_schema_latest(); v++) {
        struct buf b AUTO(buf_release) = {0};

        db_migration_sql(v, s->db ? db_dialect(s->db) : DB_SQLITE, &b);
        if (b.len)
            (void)printf("-- version %u\n%s\n", v, b.p);
    }
    return CLI_OK;
}

static int migrate_down(struct ctl *ctl, const struct stores *s)
{
    struct err err = {0};
    int rc;

    if (opt.to < 0)
        return ctl_fail(CLI_USAGE, "migrate down needs --to N");
    rc = confirmed(s, "Going down destroys the tables and data that later versions added");
    if (rc)
        return rc;
    if (db_migrate_down(s->db, (unsigned)opt.to, &err))
        return stores_failed(db_where(s->db), &err);
    return show_version(ctl, s);
}

static int migrate(struct ctl *ctl)
{
    const char *what = ctl->n_args > 1 ? ctl->args[1] : "status";
    bool is_up = strcmp(what, "up") == 0, is_down = strcmp(what, "down") == 0;
    struct err err = {0};
    struct stores s;
    int rc;

    if (!is_up && !is_down && strcmp(what, "status") != 0)
        return ctl_fail(CLI_USAGE, "migrate takes status, up or down, not '%s'", what);
    rc = open_for(ctl,
                  opt.sql   ? STORES_READ
                  : is_up   ? STORES_CREATE
                  : is_down ? STORES_WRITE
                            : STORES_READ,
                  &s);
    if (opt.sql && (!rc || rc == CLI_NOT_FOUND))
        rc = print_sql(&s);
    else if (!rc && is_up && db_migrate(s.db, &err))
        rc = stores_failed(db_where(s.db), &err);
    else if (!rc)
        rc = is_down ? migrate_down(ctl, &s) : show_version(ctl, &s);
    stores_close(&s);
    return rc;
}

/* ---- verify -------------------------------------------------------------------------------------------------------- */

static const struct table_column VERIFY_COLUMNS[] = {
    {"check", "CHECK", FORM_TEXT}, {"state", "STATE", FORM_TEXT}, {"detail", "DETAIL", FORM_TEXT}, {0}};

struct verify {
    const struct stores *s;
    json_t *rows;
    int worst;
    struct err err;
};

static void PRINTF_LIKE(4, 5) found(struct verify *v, const char *check, int code, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (code > v->worst)
        v->worst = code;
    (void)json_array_append_new(v->rows, json_pack("{s:s, s:s, s:s}", "check", check, "state",
                                                   code == CLI_OK        ? "ok"
                                                   : code == CLI_WARNING ? "warning"
                                                                         : "critical",
                                                   "detail", text));
}

static bool take_one(void *user, const struct db_value *c, unsigned n)
{
    if (n && c[0].type == DB_INT)
        *(int64_t *)user = c[0].i;
    return false;
}

static bool ask(struct verify *v, const char *check, const char *sql, int64_t *out)
{
    *out = 0;
    if (!db_query(v->s->db, "verify", sql, NULL, 0, take_one, out, &v->err))
        return true;
    found(v, check, CLI_CRITICAL, "%s", err_text(&v->err));
    return false;
}

static void verify_indexes(struct verify *v)
{
    static const char *const SQL[] = {
        [DB_SQLITE] = "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = "
                      "'metrics_hourly_aggregates' AND name IN ('metrics_hourly_aggregates_hour', "
                      "'sqlite_autoindex_metrics_hourly_aggregates_1')",
        [DB_POSTGRES] =
            "SELECT count(*) FROM pg_indexes WHERE schemaname = current_schema() AND indexname IN "
            "('metrics_hourly_aggregates_hour', 'metrics_hourly_aggregates_pkey')",
    };
    int64_t n;

    if (ask(v, "indexes", SQL[db_dialect(v->s->db)], &n))
        found(v, "indexes", n == 2 ? CLI_OK : CLI_CRITICAL, "%lld of (hour, provider, model) and (hour DESC)",
              (long long)n);
}

static void verify_rows(struct verify *v)
{
    int64_t n;

    if (ask(v, "duplicates",
            "SELECT count(*) FROM (SELECT 1 FROM metrics_hourly_aggregates GROUP BY hour, provider, model "
            "HAVING count(*) > 1) AS d",
            &n))
        found(v, "duplicates", n ? CLI_CRITICAL : CLI_OK, "%lld keys more than once", (long long)n);
}

static void verify_hours(struct verify *v)
{
    struct aggregate_options o = {
        .db = v->s->db, .kv = v->s->kv, .now = wall_now(), .retention_us = v->s->retention_us};
    struct aggregate_status s;

    if (aggregate_status(&o, &s, &v->err)) {
        found(v, "hours", CLI_CRITICAL, "%s", err_text(&v->err));
        return;
    }
    found(v, "hours", s.missing_hours > 1 || s.dirty_hours ? CLI_WARNING : CLI_OK,
          "%lld not stored, %lld to do again", (long long)s.missing_hours, (long long)s.dirty_hours);
}

static void verify_view(struct verify *v)
{
    int64_t n;

    if (db_dialect(v->s->db) != DB_POSTGRES) {
        found(v, "view", CLI_OK, "a query here, never stale");
        return;
    }
    if (ask(v, "view",
            "SELECT count(*) FROM (SELECT provider, sum(attempts)::bigint AS n FROM "
            "metrics_hourly_aggregates "
            "WHERE hour >= now() - interval '24 hours' GROUP BY provider) q FULL JOIN provider_stats_24h s "
            "USING (provider) WHERE q.n IS DISTINCT FROM s.attempts",
            &n))
        found(v, "view", n ? CLI_WARNING : CLI_OK,
              n ? "%lld providers differ; 'aigwctl db refresh'" : "fresh", (long long)n);
}

static void verify_agreement(struct verify *v)
{
    struct reconcile_options o = {.db = v->s->db, .now = wall_now(), .retention_us = v->s->retention_us};
    struct reconcile_result r;
    uint64_t n;

    if (reconcile_run(&o, &r, &v->err)) {
        found(v, "agreement", CLI_CRITICAL, "%s", err_text(&v->err));
        return;
    }
    n = r.pairs[RECONCILE_LEDGER_HOURLY].different + r.pairs[RECONCILE_LEDGER_SELF].different +
        r.pairs[RECONCILE_LEDGER_BUDGETS].different;
    found(v, "agreement", n ? CLI_CRITICAL : CLI_OK, "%llu of %llu places differ from the ledger in 24 h",
          (unsigned long long)n,
          (unsigned long long)(r.pairs[RECONCILE_LEDGER_HOURLY].compared +
                               r.pairs[RECONCILE_LEDGER_SELF].compared +
                               r.pairs[RECONCILE_LEDGER_BUDGETS].compared));
}

static int verify(struct ctl *ctl)
{
    struct stores s;
    struct verify v = {.s = &s};
    int rc = open_for(ctl, STORES_READ, &s);

    if (!rc)
        rc = stores_need_schema(&s);
    if (!rc) {
        v.rows = json_array();
        verify_indexes(&v);
        verify_rows(&v);
        verify_hours(&v);
        verify_view(&v);
        verify_agreement(&v);
        ctl_print(ctl, stdout, "db.verify", VERIFY_COLUMNS, v.rows, NULL);
        json_decref(v.rows);
        rc = v.worst;
    }
    stores_close(&s);
    return rc;
}

/* ---- refresh, archive ---------------------------------------------------------------------------------------------- */

static void print_refreshed(const struct ctl *ctl, bool is_done)
{
    static const struct table_column COLUMNS[] = {{"refreshed", "", FORM_TEXT}, {0}};
    json_t *doc = json_pack("{s:b}", "refreshed", is_done), *rows = json_pack("[O]", doc);

    if (ctl->output == OUTPUT_TABLE)
        (void)puts(is_done ? "refreshed" : "nothing to refresh: SQLite computes it");
    else
        ctl_print(ctl, stdout, "db.refresh", COLUMNS, rows, doc);
    json_decref(rows);
    json_decref(doc);
}

static int refresh(struct ctl *ctl)
{
    struct err err = {0};
    struct stores s;
    int rc = open_for(ctl, STORES_WRITE, &s);

    if (!rc)
        rc = stores_need_schema(&s);
    if (!rc && aggregate_refresh_view(s.db, &err))
        rc = stores_failed(db_where(s.db), &err);
    if (!rc)
        print_refreshed(ctl, db_dialect(s.db) == DB_POSTGRES);
    stores_close(&s);
    return rc;
}

static const struct table_column ARCHIVE_COLUMNS[] = {
    {"table", "TABLE", FORM_TEXT},
    {"rows", "EXPORTED", FORM_COUNT},
    {"deleted", "DELETED", FORM_COUNT},
    {"bytes", "BYTES", FORM_COUNT},
    {"crc32c", "CRC32C", FORM_TEXT},
    {"file", "FILE", FORM_TEXT},
    {0},
};

static int run_archive(struct ctl *ctl, const struct stores *s)
{
    struct wall now = wall_now();
    struct archive_options o = {.db = s->db,
                                .table = opt.table,
                                .before = now.us / 1000000 - opt.older_s,
                                .path = opt.out_file,
                                .keep = opt.keep,
                                .now = now};
    struct archive_result r;
    struct err err = {0};
    char crc[12];
    json_t *rows, *doc;

    if (archive_run(&o, &r, &err))
        return stores_failed(db_where(s->db), &err);
    (void)snprintf(crc, sizeof(crc), "%08x", r.crc32c);
    doc = json_pack("{s:s, s:I, s:I, s:I, s:s, s:s}", "table", archive_table_name(opt.table), "rows",
                    (json_int_t)r.rows, "deleted", (json_int_t)r.deleted, "bytes", (json_int_t)r.bytes,
                    "crc32c", crc, "file", opt.out_file);
    rows = json_pack("[O]", doc);
    ctl_print(ctl, stdout, "db.archive", ARCHIVE_COLUMNS, rows, doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int archive(struct ctl *ctl)
{
    struct stores s;
    int rc;

    if (!opt.older_s || !opt.out_file)
        return ctl_fail(CLI_USAGE, "archive needs --older-than and --out-file");
    rc = open_for(ctl, opt.keep ? STORES_READ : STORES_WRITE, &s);
    if (!rc)
        rc = stores_need_schema(&s);
    if (!rc && !opt.keep)
        rc = confirmed(&s, "Archived rows are deleted from the database");
    if (!rc)
        rc = run_archive(ctl, &s);
    stores_close(&s);
    return rc;
}

static int run(struct ctl *ctl)
{
    static const struct {
        const char *name;
        int (*run)(struct ctl *);
    } VERBS[] = {{"migrate", migrate}, {"verify", verify}, {"refresh", refresh}, {"archive", archive}};
    const char *verb = ctl->n_args ? ctl->args[0] : "verify";

    if (ctl->n_args > 1 && strcmp(verb, "migrate") != 0)
        return ctl_fail(CLI_USAGE, "db %s: '%s' is one argument too many", verb, ctl->args[1]);
    for (unsigned i = 0; i < ARRAY_LEN(VERBS); i++)
        if (strcmp(verb, VERBS[i].name) == 0)
            return VERBS[i].run(ctl);
    return ctl_fail(CLI_USAGE, "db: the verbs are migrate, verify, refresh and archive, not '%s'", verb);
}

static const struct command_verb VERBS[] = {
    {"migrate", "[status|up|down]", "the schema", SEVERE, NULL},
    {"verify", "", "indexes, hours, duplicates, view, agreement", READS, NULL},
    {"refresh", "", "provider_stats_24h", MILD, NULL},
    {"archive", "--older-than TIME --out-file FILE", "export, verify, delete", SEVERE, NULL},
    {0},
};

const struct command CMD_DB = {
    .name = "db",
    .verbs = VERBS,
    .group = GROUP_DATA,
    .summary = "schema, health, view and archive of the history store",
    .help = "migrate brings the schema up or down. verify checks indexes, hours, duplicates, the view and "
            "whether rows "
            "agree with the ledger: exit 10 or 11. refresh renews provider_stats_24h. archive exports old "
            "rows, reads "
            "the file back and only then deletes them.\v"
            "  aigwctl db archive --older-than 90d --out-file ledger.csv.gz --confirm metrics",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
