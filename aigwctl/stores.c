/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and opening the stores. SQLite has one writer: while a gateway lives, its file is only read here, and what
 * changes it is asked of the gateway. */
#include "aigwctl/stores.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libshared/base/log.h"
#include "libshared/cli/human.h"
#include "libshared/store/kv_keys.h"

#define RETENTION_US ((int64_t)4 * 3600 * 1000000)
#define URL_CAP      4200

static struct {
    const char *database, *redis, *state_dir;
} opt;

/* An address may hold a password, and everybody on the machine can read the words of a command. */
static const char *hidden(char *arg)
{
    char *kept = strstr(arg, "://") ? strdup(arg) : arg;

    if (!kept)
        abort();
    if (kept != arg)
        memset(arg, 'x', strlen(arg));
    return kept;
}

error_t stores_take(int key, char *arg, struct argp_state *state)
{
    (void)state;
    switch (key) {
    case KEY_DATABASE:
        opt.database = hidden(arg);
        return 0;
    case KEY_REDIS:
        opt.redis = hidden(arg);
        return 0;
    case KEY_STATE_DIR:
        opt.state_dir = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- where --------------------------------------------------------------------------------------------------------- */

static const char *first_of(const char *option, const char *variable, const char *alias)
{
    const char *z = option;

    if (!z)
        z = getenv(variable);
    if ((!z || !*z) && alias)
        z = getenv(alias);
    return z && *z ? z : NULL;
}

/* cron and systemd may set no HOME. */
static const char *home_dir(void)
{
    const char *home = getenv("HOME");
    const struct passwd *pw = home && home[0] == '/' ? NULL : getpwuid(getuid());

    return home && home[0] == '/' ? home : pw ? pw->pw_dir : "";
}

static void state_dir(char *dst, size_t cap)
{
    const char *z = first_of(opt.state_dir, "GATEWAYD_STATE_DIR", "STATE_DIRECTORY");
    const char *xdg = getenv("XDG_STATE_HOME");

    if (z)
        (void)snprintf(dst, cap, "%.*s", (int)strcspn(z, ":"), z);
    else if (xdg && xdg[0] == '/')
        (void)snprintf(dst, cap, "%s/gatewayd", xdg);
    else if (access("/var/lib/gatewayd/history.db", F_OK) == 0)
        (void)snprintf(dst, cap, "/var/lib/gatewayd");
    else
        (void)snprintf(dst, cap, "%s/.local/state/gatewayd", home_dir());
}

/* As in the gateway's configuration an address may be in a file: then `out` is its text. */
static int address_of(const char *what, const char *url, char out[URL_CAP])
{
    FILE *f;
    size_t n;

    if (strncmp(url, "file:/", 6) != 0 || url[6] == '/')
        return snprintf(out, URL_CAP, "%s", url) < URL_CAP
                   ? CLI_OK
                   : ctl_fail(CLI_USAGE, "%s: the address is too long", what);
    f = fopen(url + 5, "re");
    n = f ? fread(out, 1, URL_CAP - 1, f) : 0;
    if (!f || ferror(f)) {
        if (f)
            (void)fclose(f);
        return ctl_fail(CLI_USAGE, "%s: the address cannot be read from '%s': %s", what, url + 5,
                        strerror(errno));
    }
    (void)fclose(f);
    while (n && (out[n - 1] == '\n' || out[n - 1] == '\r'))
        n--;
    out[n] = '\0';
    return n && !memchr(out, '\0', n) ? CLI_OK
                                      : ctl_fail(CLI_USAGE, "%s: '%s' holds no address", what, url + 5);
}

static bool is_false(const char *z)
{
    return z &&
           (strcmp(z, "false") == 0 || strcmp(z, "0") == 0 || strcmp(z, "no") == 0 || strcmp(z, "off") == 0);
}

static int64_t retention(void)
{
    const char *z = first_of(NULL, "GATEWAYD_AGGREGATION_RETENTION", NULL);
    int64_t ms = 0;
    uint64_t hours = 0;

    if (z && human_parse_duration(z, &ms) && ms > 0)
        return ms * 1000;
    z = getenv("METRICS_REDIS_RETENTION_HOURS");
    if (z && span_to_u64(span_of(z), &hours) && hours >= 1 && hours <= 168)
        return (int64_t)hours * 3600 * 1000000;
    return RETENTION_US;
}

/* The socket of the gateway that has the file, unless another address was given. */
static void point_at(struct ctl *ctl, const char *dir)
{
    static char url[4200];

    if (ctl->url || ctl->context || getenv("GATEWAYD_CONTEXT") || first_of(NULL, "GATEWAYD_URL", NULL))
        return;
    (void)snprintf(url, sizeof(url), "unix:%s/admin.sock", dir);
    if (access(url + 5, F_OK) == 0)
        ctl->url = url;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

int stores_failed(const char *what, const struct err *err)
{
    int code = err->code == ERR_IO || err->code == ERR_TIMEOUT || err->code == ERR_UNAVAILABLE ? CLI_NO_ANSWER
               : err->code == ERR_CONFLICT                                                     ? CLI_CONFLICT
               : err->code == ERR_CONFIG                                                       ? CLI_USAGE
               : err->code == ERR_NOT_FOUND                                                    ? CLI_NOT_FOUND
                                                                                               : CLI_FAILED;

    /* What says by itself whose fault it is needs no other store's name in front of it. */
    if (strncmp(err_text(err), "redis", 5) == 0)
        return ctl_fail(code, "%s", err_text(err));
    return ctl_fail(code, "%s: %s", what, err_text(err));
}

static bool is_postgres(const char *url)
{
    return strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0;
}

/* A file that is not there is not made, but where that is asked for: an address that was mistyped would look like a history
 * without anything in it. */
static int find_file(const char *path, enum stores_use use)
{
    if (strstr(path, "://") || (!strchr("/.", path[0]) && strchr(path, '@')))
        return ctl_fail(
            CLI_USAGE, "the address of the history store is neither 'postgresql://…' nor the path of a file");
    if (access(path, F_OK) == 0 || (use == STORES_CREATE && errno == ENOENT))
        return CLI_OK;
    return ctl_fail(errno == ENOENT || errno == ENOTDIR ? CLI_NOT_FOUND : CLI_NO_ANSWER,
                    "there is no history store at '%s' (%s); name one with --database or --state-dir", path,
                    strerror(errno));
}

/* A statement may take minutes; that nobody answers is known much sooner. */
static int probe(const struct ctl *ctl, const char *url)
{
    struct err err = {0};
    unsigned version;
    struct db *db = db_new(
        &(struct db_options){
            .url = url, .is_read_only = true, .deadline_us = ctl->timeout_ms * 1000, .slow_us = -1},
        &err);
    int rc = !db || db_schema_version(db, &version, &err)
                 ? stores_failed(db ? db_where(db) : "the history store", &err)
                 : CLI_OK;

    db_free(db);
    return rc;
}

static int open_db(struct ctl *ctl, enum stores_use use, int64_t deadline_us, struct stores *out)
{
    const char *named = first_of(opt.database, "GATEWAYD_DATABASE_URL", "DATABASE_URL");
    char dir[4096], url[URL_CAP];
    struct err err = {0};
    int rc;

    state_dir(dir, sizeof(dir));
    if (!named)
        (void)snprintf(url, sizeof(url), "%s/history.db", dir);
    rc = named ? address_of("the history store", named, url) : CLI_OK;
    if (!rc)
        rc = is_postgres(url) ? probe(ctl, url) : find_file(url, use);
    if (rc)
        return rc;
    out->db = db_new(
        &(struct db_options){
            .url = url, .is_read_only = use == STORES_READ, .deadline_us = deadline_us, .slow_us = -1},
        &err);
    out->is_busy = !out->db && err.code == ERR_CONFLICT && use != STORES_READ;
    if (out->is_busy)
        point_at(ctl, dir);
    return out->db || out->is_busy ? CLI_OK : stores_failed("the history store", &err);
}

static int open_kv(struct stores *out)
{
    const char *named = first_of(opt.redis, "GATEWAYD_REDIS_URL", "REDIS_URL");
    const char *enabled = first_of(NULL, "GATEWAYD_REDIS_ENABLED", "REDIS_ENABLED");
    char url[URL_CAP];
    struct err err = {0};
    int rc;

    if (!named || (!opt.redis && is_false(enabled)))
        return CLI_OK;
    rc = address_of("the realtime store", named, url);
    if (!rc) {
        out->kv = kv_new(&(struct kv_options){.url = url}, &err);
        rc = out->kv ? CLI_OK : stores_failed("the realtime store", &err);
    }
    explicit_bzero(url, sizeof(url));
    return rc;
}

static bool is_patient;

void stores_be_patient(void)
{
    is_patient = true;
}

/* A call to a store waits for the store, not for ctl_stop. What it was about to do is undone by the store, or was a whole
 * transaction. */
static void leave(int signo)
{
    if (!is_patient || ctl_stop)
        _exit(128 + signo);
    ctl_stop = signo;
}

static const int ENDINGS[] = {SIGINT, SIGTERM, SIGHUP};
static struct sigaction kept[ARRAY_LEN(ENDINGS)];
static bool is_leaving;

static void leave_on_signals(bool on)
{
    struct sigaction sa = {.sa_handler = leave};

    if (on == is_leaving)
        return;
    is_leaving = on;
    (void)sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(ENDINGS); i++)
        (void)sigaction(ENDINGS[i], on ? &sa : &kept[i], on ? &kept[i] : NULL);
}

int stores_open(struct ctl *ctl, enum stores_use use, int64_t deadline_us, struct stores *out)
{
    int rc;

    log_set_level(LOG_WARN);
    leave_on_signals(true);
    *out = (struct stores){.retention_us = retention()};
    rc = open_db(ctl, use, deadline_us, out);
    if (!rc && !out->is_busy)
        rc = open_kv(out);
    if (rc || out->is_busy)
        leave_on_signals(false);
    if (rc)
        stores_close(out);
    return rc;
}

void stores_close(struct stores *s)
{
    leave_on_signals(false);
    db_free(s->db);
    kv_free(s->kv);
    *s = (struct stores){0};
}

int stores_need_schema(const struct stores *s)
{
    struct err err = {0};
    unsigned version = 0;

    if (db_schema_version(s->db, &version, &err))
        return stores_failed("the history store", &err);
    if (version == db_schema_latest())
        return CLI_OK;
    return ctl_fail(CLI_CONFLICT,
                    "the schema of %s is version %u and this program's is %u; see 'aigwctl db migrate'",
                    db_where(s->db), version, db_schema_latest());
}

bool stores_parse_hour(const char *z, int64_t *out)
{
    *out = strlen(z) < KV_HOUR_CAP ? kv_hour_parse(z) : -1;
    return *out >= 0;
}

int stores_ask(struct ctl *ctl, const char *path, json_t *body, json_t **out)
{
    struct api_answer a = {0};
    char *text = json_dumps(body, JSON_COMPACT);
    int rc = text ? ctl_call(ctl, "POST", path, span_of(text), &a) : CLI_FAILED;

    *out = NULL;
    if (!rc && (a.status < 200 || a.status > 299))
        rc = ctl_refused(&a);
    else if (!rc && !(*out = json_loadb(a.body.p ? a.body.p : "", a.body.len, JSON_REJECT_DUPLICATES, NULL)))
        rc = ctl_fail(CLI_FAILED, "the answer of %s%s is not JSON", ctl->found_url, path);
    api_answer_release(&a);
    free(text);
    json_decref(body);
    return rc;
}
