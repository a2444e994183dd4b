/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and opening the stores. SQLite has one writer: while a gateway lives, its file is only read here, and what
 * changes it is asked of the gateway. */
#include "aigwctl/stores.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libshared/base/log.h"
#include "libshared/cli/human.h"
#include "libshared/store/kv_keys.h"

#define RETENTION_US ((int64_t)4 * 3600 * 1000000)

static struct {
    const char *database, *redis, *state_dir;
} opt;

error_t stores_take(int key, char *arg, struct argp_state *state)
{
    (void)state;
    switch (key) {
    case KEY_DATABASE:
        opt.database = arg;
        return 0;
    case KEY_REDIS:
        opt.redis = arg;
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

static void state_dir(char *dst, size_t cap)
{
    const char *z = first_of(opt.state_dir, "GATEWAYD_STATE_DIR", "STATE_DIRECTORY");
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (z)
        (void)snprintf(dst, cap, "%.*s", (int)strcspn(z, ":"), z);
    else if (xdg && xdg[0] == '/')
        (void)snprintf(dst, cap, "%s/gatewayd", xdg);
    else if (access("/var/lib/gatewayd/history.db", F_OK) == 0)
        (void)snprintf(dst, cap, "/var/lib/gatewayd");
    else
        (void)snprintf(dst, cap, "%s/.local/state/gatewayd", home ? home : "");
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

    return ctl_fail(code, "%s: %s", what, err_text(err));
}

static bool is_postgres(const char *url)
{
    return strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0;
}

static int open_db(struct ctl *ctl, enum stores_use use, int64_t deadline_us, struct stores *out)
{
    const char *url = first_of(opt.database, "GATEWAYD_DATABASE_URL", "DATABASE_URL");
    char dir[4096], path[4200];
    struct err err = {0};

    state_dir(dir, sizeof(dir));
    if (!url) {
        (void)snprintf(path, sizeof(path), "%s/history.db", dir);
        url = path;
    }
    if (!is_postgres(url) && use == STORES_READ && access(url, F_OK) != 0)
        return ctl_fail(CLI_NOT_FOUND,
                        "there is no history store at '%s'; name one with --database or --state-dir", url);
    out->db = db_new(
        &(struct db_options){
            .url = url, .is_read_only = use == STORES_READ, .deadline_us = deadline_us, .slow_us = -1},
        &err);
    out->is_busy = !out->db && err.code == ERR_CONFLICT && use == STORES_WRITE;
    if (out->is_busy)
        point_at(ctl, dir);
    return out->db || out->is_busy ? CLI_OK : stores_failed("the history store", &err);
}

int stores_open(struct ctl *ctl, enum stores_use use, int64_t deadline_us, struct stores *out)
{
    const char *redis = first_of(opt.redis, "GATEWAYD_REDIS_URL", "REDIS_URL");
    const char *enabled = first_of(NULL, "GATEWAYD_REDIS_ENABLED", "REDIS_ENABLED");
    struct err err = {0};
    int rc;

    log_set_level(LOG_WARN);
    *out = (struct stores){.retention_us = retention()};
    rc = open_db(ctl, use, deadline_us, out);
    if (rc || out->is_busy || !redis || (!opt.redis && is_false(enabled)))
        return rc;
    out->kv = kv_new(&(struct kv_options){.url = redis}, &err);
    if (!out->kv) {
        stores_close(out);
        return stores_failed("the realtime store", &err);
    }
    return CLI_OK;
}

void stores_close(struct stores *s)
{
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
