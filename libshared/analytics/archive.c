/* SPDX-License-Identifier: Apache-2.0 */
/* The archive of old rows. On the caller's thread. One transaction spans export and deletion, and on PostgreSQL it sees
 * one snapshot, so that a late row is neither exported nor deleted. Rows are read hour by hour, so memory is bounded by
 * one hour. The tricky part is the order at the end: the file gets its name before the deletion commits; a crash in
 * between leaves rows in both places, never in none. */
#include "libshared/analytics/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "libshared/analytics/aggregate_priv.h"
#include "libshared/base/crash.h"
#include "libshared/base/hash.h"
#include "libshared/store/measures.h"

struct table {
    const char *name, *columns, *time; /* `time`: the column that decides */
    bool is_text;                      /* of the time: `hour` as a timestamp */
};

#define MEASURE(name, text) "," #name
static const struct table TABLES[ARCHIVE_COUNT] = {
    [ARCHIVE_LEDGER] =
        {"ledger",
         "instance,seq,line,kind,minute,budget_hour,tenant,key,provider,model,endpoint,outcome,error,"
         "stream_end,usage_source,count,tokens_in,tokens_cached,tokens_cwrite,tokens_out,"
         "tokens_reasoning,images,searches,cost_nano,unpriced,latency_us,ttft_us,ttft_count",
         "minute", false},
    [ARCHIVE_SKETCHES] = {"minute_sketches", "instance,minute,provider,model,sketch,ttft", "minute", false},
    [ARCHIVE_HOURLY] = {"metrics_hourly_aggregates",
                        "hour,provider,model"
#include "libshared/store/measures.def"
                        ",p50_ms,p95_ms,p99_ms,sketch,source,aggregated_at",
                        "hour", true},
};
#undef MEASURE

const char *archive_table_name(enum archive_table t)
{
    return t < ARCHIVE_COUNT ? TABLES[t].name : "unknown";
}

struct archive {
    const struct archive_options *o;
    struct archive_result *out;
    const struct table *table;
    int64_t before;
    char part[4096]; /* the file while it is not whole */
    gzFile gz;
    struct buf line;
    int io_errno;
    struct err *err;
};

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static enum err_code io_failed(struct archive *a, const char *what)
{
    int e = a->io_errno ? a->io_errno : errno;

    return err_set(a->err, ERR_IO, "cannot %s '%s': %s", what, a->o->path,
                   e ? strerror(e) : "the file is damaged");
}

static bool put_line(struct archive *a)
{
    unsigned n = (unsigned)a->line.len;

    errno = 0;
    if (gzwrite(a->gz, a->line.p, n) != (int)n) {
        a->io_errno = errno;
        return false;
    }
    a->out->crc32c = crc32c(a->out->crc32c, a->line.p, a->line.len);
    buf_clear(&a->line);
    return true;
}

static void put_text(struct buf *b, struct span s)
{
    bool is_quoted = false;

    for (size_t i = 0; i < s.len && !is_quoted; i++)
        is_quoted = s.p[i] == ',' || s.p[i] == '"' || s.p[i] == '\n' || s.p[i] == '\r';
    if (!is_quoted) {
        buf_add(b, s);
        return;
    }
    buf_addc(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '"')
            buf_addc(b, '"');
        buf_addc(b, s.p[i]);
    }
    buf_addc(b, '"');
}

static void put_value(struct buf *b, const struct db_value *v)
{
    char hex[3];

    switch (v->type) {
    case DB_NULL:
        break;
    case DB_INT:
        buf_addf(b, "%lld", (long long)v->i);
        break;
    case DB_REAL:
        buf_addf(b, "%.17g", v->d);
        break;
    case DB_TEXT:
        put_text(b, v->s);
        break;
    case DB_BLOB:
        for (size_t i = 0; i < v->s.len; i++) {
            hex_encode((const unsigned char *)v->s.p + i, 1, hex);
            buf_addz(b, hex);
        }
        break;
    }
}

/* A line end inside a quoted text would be counted as a row when the file is read back; the store's texts are names and
 * codes, and none may hold one. */
static bool take_row(void *user, const struct db_value *v, unsigned n)
{
    struct archive *a = user;

    for (unsigned i = 0; i < n; i++) {
        if (i)
            buf_addc(&a->line, ',');
        if (v[i].type == DB_TEXT && memchr(v[i].s.p ? v[i].s.p : "", '\n', v[i].s.len)) {
            a->io_errno = EILSEQ;
            return false;
        }
        put_value(&a->line, &v[i]);
    }
    buf_addc(&a->line, '\n');
    if (!put_line(a))
        return false;
    a->out->rows++;
    return true;
}

/* ---- hours --------------------------------------------------------------------------------------------------------- */

static bool take_hour(void *user, const struct db_value *v, unsigned n)
{
    return n && v[0].type == DB_INT && hour_list_add(user, v[0].i) == ERR_OK;
}

/* Hourly rows by the hours that were noted as done; the others by hopping along their index. */
static enum err_code list_hours(struct archive *a, struct hour_list *out)
{
    struct buf sql AUTO(buf_release) = {0};
    struct db_value p = db_int(a->before - HOUR_S);

    if (a->table->is_text)
        buf_addz(&sql, "SELECT hour FROM aggregated_hours WHERE hour <= $1 ORDER BY hour");
    else
        buf_addf(
            &sql,
            "WITH RECURSIVE h(hour) AS (SELECT (SELECT min(minute) / 3600 * 3600 FROM %s) UNION ALL "
            "SELECT (SELECT min(minute) / 3600 * 3600 FROM %s WHERE minute >= h.hour + 3600) FROM h "
            "WHERE h.hour IS NOT NULL AND h.hour <= $1) SELECT hour FROM h WHERE hour <= $1 ORDER BY hour",
            a->table->name, a->table->name);
    return db_query(a->o->db, "archive_hours", sql.p, &p, 1, take_hour, out, a->err);
}

static enum err_code export_hour(struct archive *a, int64_t hour)
{
    char text[HOUR_TEXT_CAP];
    struct buf sql AUTO(buf_release) = {0};
    struct db_value p[2] = {db_int(hour), db_int(hour + HOUR_S)};
    enum err_code e;

    hour_column(hour, text);
    if (a->table->is_text)
        p[0] = db_textz(text);
    buf_addf(&sql, "SELECT %s FROM %s WHERE %s %s ORDER BY 1, 2, 3", a->table->columns, a->table->name,
             a->table->time, a->table->is_text ? "= $1" : ">= $1 AND minute < $2");
    e = db_query(a->o->db, "archive_export", sql.p, p, a->table->is_text ? 1 : 2, take_row, a, a->err);
    return e || !a->io_errno ? e : io_failed(a, "write");
}

static enum err_code delete_hour(struct archive *a, int64_t hour)
{
    char text[HOUR_TEXT_CAP];
    struct buf sql AUTO(buf_release) = {0};
    struct db_value p[2] = {db_int(hour), db_int(hour + HOUR_S)};
    int64_t n = 0;
    enum err_code e;

    hour_column(hour, text);
    if (a->table->is_text)
        p[0] = db_textz(text);
    buf_addf(&sql, "DELETE FROM %s WHERE %s %s", a->table->name, a->table->time,
             a->table->is_text ? "= $1" : ">= $1 AND minute < $2");
    e = db_exec(a->o->db, "archive_delete", sql.p, p, a->table->is_text ? 1 : 2, &n, a->err);
    a->out->deleted += n > 0 ? (uint64_t)n : 0;
    return e;
}

/* ---- the file ------------------------------------------------------------------------------------------------------ */

static bool ends_with(const char *z, const char *tail)
{
    size_t n = strlen(z), t = strlen(tail);

    return n >= t && strcmp(z + n - t, tail) == 0;
}

static enum err_code open_part(struct archive *a)
{
    int fd;

    if (access(a->o->path, F_OK) == 0)
        return err_set(a->err, ERR_CONFLICT, "'%s' is there already", a->o->path);
    if (snprintf(a->part, sizeof(a->part), "%s.part", a->o->path) >= (int)sizeof(a->part))
        return err_set(a->err, ERR_CONFIG, "the name of the file is too long");
    fd = open(a->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return io_failed(a, "create");
    a->gz = gzdopen(fd, ends_with(a->o->path, ".gz") ? "wb6" : "wbT");
    if (!a->gz) {
        (void)close(fd);
        return err_set(a->err, ERR_NO_MEMORY, "no memory to write '%s'", a->o->path);
    }
    buf_addf(&a->line, "%s\n", a->table->columns);
    return put_line(a) ? ERR_OK : io_failed(a, "write");
}

static bool sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        (void)close(fd);
    return ok;
}

static enum err_code close_part(struct archive *a)
{
    int rc = gzclose(a->gz);
    struct stat st;

    a->gz = NULL;
    if (rc != Z_OK || !sync_path(a->part, O_RDONLY) || stat(a->part, &st) != 0)
        return io_failed(a, "write");
    a->out->bytes = (uint64_t)st.st_size;
    return ERR_OK;
}

/* Reads the file as whoever needs it one day will, and compares what came back with what was sent. */
static enum err_code verify_part(struct archive *a)
{
    char chunk[65536];
    gzFile gz = gzopen(a->part, "rbe");
    uint64_t lines = 0;
    uint32_t crc = 0;
    int n = 0, rc;

    if (!gz)
        return io_failed(a, "read");
    while ((n = gzread(gz, chunk, sizeof(chunk))) > 0) {
        crc = crc32c(crc, chunk, (size_t)n);
        for (int i = 0; i < n; i++)
            lines += chunk[i] == '\n';
    }
    rc = gzclose(gz);
    if (n < 0 || rc != Z_OK || crc != a->out->crc32c || lines != a->out->rows + 1)
        return err_set(a->err, ERR_IO, "'%s' does not read back as it was written; nothing was deleted",
                       a->o->path);
    return ERR_OK;
}

static enum err_code name_it(struct archive *a)
{
    char dir[sizeof(a->part)];
    char *slash;

    if (renameat2(AT_FDCWD, a->part, AT_FDCWD, a->o->path, RENAME_NOREPLACE) != 0)
        return io_failed(a, "name");
    a->part[0] = '\0';
    (void)snprintf(dir, sizeof(dir), "%s", a->o->path);
    slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    return sync_path(slash ? dir : ".", O_RDONLY | O_DIRECTORY) ? ERR_OK : io_failed(a, "sync");
}

/* ---- the run ------------------------------------------------------------------------------------------------------- */

/* The ledger and its sketches are what hours are computed from. */
static enum err_code refuse_open_hours(struct archive *a)
{
    struct hour_list missing = {0};
    char text[HOUR_TEXT_CAP];
    enum err_code e;

    if (a->table->is_text)
        return ERR_OK;
    e = hours_not_stored(a->o->db, a->before - HOUR_S, &missing, a->err);
    if (!e && !missing.n)
        e = hours_dirty(a->o->db, a->before - HOUR_S, &missing, a->err);
    if (!e && missing.n) {
        hour_column(missing.v[0], text);
        e = err_set(a->err, ERR_CONFLICT, "hour '%s' is not rolled up; 'aigwctl aggregate hourly' does it",
                    text);
    }
    hour_list_release(&missing);
    return e;
}

static enum err_code remember(struct archive *a)
{
    char value[24];
    struct db_value p[] = {db_textz(ARCHIVED_SETTING), db_textz(value)};
    int64_t before = 0;
    enum err_code e = ledger_archived_before(a->o->db, &before, a->err);

    (void)snprintf(value, sizeof(value), "%lld", (long long)a->before);
    p[1] = db_textz(value);
    if (e || a->table->is_text || before >= a->before)
        return e;
    return db_exec(a->o->db, "archive_mark",
                   "INSERT INTO settings (name, value) VALUES ($1, $2) "
                   "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                   p, 2, NULL, a->err);
}

static enum err_code export_all(struct archive *a, const struct hour_list *hours)
{
    enum err_code e = open_part(a);

    for (size_t i = 0; i < hours->n && !e; i++)
        e = export_hour(a, hours->v[i]);
    if (!e)
        e = close_part(a);
    if (!e)
        e = verify_part(a);
    CRASH_POINT(archive_after_verify);
    return e;
}

static enum err_code delete_all(struct archive *a, const struct hour_list *hours)
{
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < hours->n && !e; i++)
        e = delete_hour(a, hours->v[i]);
    if (!e && a->out->deleted != a->out->rows)
        e = err_set(a->err, ERR_CONFLICT, "the rows changed while they were exported; nothing was deleted");
    return e ? e : remember(a);
}

static enum err_code one_snapshot(struct db *db, struct err *err)
{
    if (db_dialect(db) != DB_POSTGRES)
        return ERR_OK;
    return db_exec(db, "archive_snapshot", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", NULL, 0, NULL,
                   err);
}

static enum err_code in_transaction(struct archive *a, struct hour_list *hours)
{
    enum err_code e = one_snapshot(a->o->db, a->err);

    if (!e && !a->o->keep)
        e = refuse_open_hours(a);
    if (!e)
        e = list_hours(a, hours);
    if (!e)
        e = export_all(a, hours);
    if (!e && !a->o->keep)
        e = delete_all(a, hours);
    if (!e)
        e = name_it(a);
    CRASH_POINT(archive_before_commit);
    return e;
}

enum err_code archive_run(const struct archive_options *o, struct archive_result *out, struct err *err)
{
    struct archive a = {.o = o, .out = out, .before = o->before / HOUR_S * HOUR_S, .err = err};
    struct hour_list hours = {0};
    enum err_code e = o->table < ARCHIVE_COUNT ? db_begin(o->db, err)
                                               : err_set(err, ERR_BAD_REQUEST, "no such table to archive");

    *out = (struct archive_result){0};
    if (e)
        return e;
    a.table = &TABLES[o->table];
    e = in_transaction(&a, &hours);
    if (!e)
        e = db_commit(o->db, err);
    if (e)
        db_rollback(o->db);
    if (a.gz)
        (void)gzclose(a.gz);
    if (a.part[0])
        (void)unlink(a.part);
    if (e)
        out->deleted = 0;
    buf_release(&a.line);
    hour_list_release(&hours);
    return e;
}
