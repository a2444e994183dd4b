/* SPDX-License-Identifier: Apache-2.0 */
/* Which stores are meant. An option names one of them. What is said besides belongs together: the stores of a context that was named,
 * else those of the variables, else those of the current context. Never one of each, since a repair would then write the ledger of one
 * gateway into the Redis of another. The tricky part is what a context leaves out: a gateway that is reached by a socket is on this
 * machine, and so is its file; of any other one this machine's file would be somebody else's. */
#include "aigwctl/stores_where.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/stores.h"
#include "libshared/cli/context.h"
#include "libshared/cli/options.h"

static struct {
    const char *database, *redis, *state_dir;
} opt;

/* The context in force, as the command's calls have it, too. */
static struct {
    struct context of;
    bool is_known, is_there, is_named;
} now;

error_t stores_take(int key, char *arg, struct argp_state *state)
{
    (void)state;
    switch (key) {
    case KEY_DATABASE:
        opt.database = cli_hidden(arg);
        return 0;
    case KEY_REDIS:
        opt.redis = cli_hidden(arg);
        return 0;
    case KEY_STATE_DIR:
        opt.state_dir = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- what is said -------------------------------------------------------------------------------------------------- */

static const char *said(const char *z)
{
    return z && *z ? z : NULL;
}

static int find_context(struct ctl *ctl)
{
    int rc = now.is_known ? CLI_OK : ctl_find_context(ctl, &now.of, &now.is_named);

    now.is_known = rc == CLI_OK;
    now.is_there = now.is_known && now.of.name[0];
    return rc;
}

/* As in the gateway's configuration an address may be in a file: then `out` is its text. */
static int address_of(const char *what, const char *url, char out[STORES_URL_CAP])
{
    FILE *f;
    size_t n;

    if (strncmp(url, "file:/", 6) != 0 || url[6] == '/')
        return snprintf(out, STORES_URL_CAP, "%s", url) < STORES_URL_CAP
                   ? CLI_OK
                   : ctl_fail(CLI_USAGE, "%s: the address is too long", what);
    f = fopen(url + 5, "re");
    n = f ? fread(out, 1, STORES_URL_CAP - 1, f) : 0;
    if (!f || ferror(f)) {
        if (f)
            (void)fclose(f);
        return ctl_fail(CLI_USAGE, "the address of %s cannot be read: %s\n  '%s'", what, strerror(errno),
                        url + 5);
    }
    (void)fclose(f);
    while (n && (out[n - 1] == '\n' || out[n - 1] == '\r'))
        n--;
    out[n] = '\0';
    return n && !memchr(out, '\0', n) ? CLI_OK
                                      : ctl_fail(CLI_USAGE, "%s: '%s' holds no address", what, url + 5);
}

/* ---- the default place --------------------------------------------------------------------------------------------- */

static bool is_history(const char *dir)
{
    char file[STORES_URL_CAP];

    (void)snprintf(file, sizeof(file), "%s/history.db", dir);
    return access(file, F_OK) == 0;
}

/* The folder of the socket, when the history is there, too. */
static bool beside_socket(char *dst, size_t cap)
{
    const char *z = now.of.url, *slash = strrchr(z, '/');

    if (!now.is_there || strncmp(z, "unix:/", 6) != 0)
        return false;
    (void)snprintf(dst, cap, "%.*s", (int)(slash - (z + 5)), z + 5);
    return is_history(dst);
}

static bool default_dir(char *dst, size_t cap)
{
    const char *z = said(opt.state_dir), *xdg = getenv("XDG_STATE_HOME");

    if (!z)
        z = context_variable("GATEWAYD_STATE_DIR", "STATE_DIRECTORY");
    if (z)
        (void)snprintf(dst, cap, "%.*s", (int)strcspn(z, ":"), z);
    else if (now.is_there && strncmp(now.of.url, "unix:", 5) != 0)
        return false;
    else if (beside_socket(dst, cap))
        return true;
    else if (xdg && xdg[0] == '/')
        (void)snprintf(dst, cap, "%s/gatewayd", xdg);
    else if (is_history("/var/lib/gatewayd"))
        (void)snprintf(dst, cap, "/var/lib/gatewayd");
    else
        (void)snprintf(dst, cap, "%s/.local/state/gatewayd", context_home());
    return true;
}

static int take_default(char dst[STORES_URL_CAP])
{
    char dir[4096];

    if (!default_dir(dir, sizeof(dir)))
        return stores_lack("database", "history store");
    (void)snprintf(dst, STORES_URL_CAP, "%s/history.db", dir);
    return CLI_OK;
}

/* ---- choosing ------------------------------------------------------------------------------------------------------ */

static const char *choose(const char *option, const char *of_context, const char *of_variable,
                          bool is_of_context, enum stores_origin *from)
{
    *from = option          ? STORES_OF_OPTION
            : is_of_context ? STORES_OF_CONTEXT
            : of_variable   ? STORES_OF_VARIABLE
                            : STORES_OF_DEFAULT;
    return option ? option : said(is_of_context ? of_context : of_variable);
}

int stores_where(struct ctl *ctl, struct stores_where *out)
{
    const char *v_database = context_variable("GATEWAYD_DATABASE_URL", "DATABASE_URL");
    const char *v_redis = context_variable("GATEWAYD_REDIS_URL", "REDIS_URL"), *database, *redis;
    int rc = find_context(ctl);
    bool is_of_context = now.is_there && context_gives_stores(&now.of, now.is_named);

    *out = (struct stores_where){.is_context_named = now.is_there && now.is_named};
    if (rc)
        return rc;
    database = choose(said(opt.database), now.of.database, v_database, is_of_context && !said(opt.state_dir),
                      &out->database_of);
    redis = choose(said(opt.redis), now.of.redis, v_redis, is_of_context, &out->redis_of);
    if (context_redis_is_off() && !said(opt.redis) && !(is_of_context && now.is_named))
        redis = NULL;
    if (!database)
        out->database_of = STORES_OF_DEFAULT;
    rc = database ? address_of("the history store", database, out->database) : take_default(out->database);
    if (rc && database)
        return stores_blame(rc, "database", out->database_of);
    if (!rc && redis && address_of("the realtime store", redis, out->redis))
        rc = stores_blame(CLI_USAGE, "redis", out->redis_of);
    return rc;
}

/* ---- complaining --------------------------------------------------------------------------------------------------- */

static void put_place(const char *before, const char *key)
{
    char place[CONTEXT_TEXT_CAP + 200];

    context_place(&now.of, key, place, sizeof(place));
    (void)fputs(before, stderr);
    term_put(stderr, place);
    (void)fputc('\n', stderr);
}

/* How the context gets the key that it lacks. */
static void put_remedy(const char *key)
{
    if (now.is_there && !now.of.is_running)
        (void)fprintf(stderr, "  Add it:   aigwctl config set %s --%s URL\n", now.of.name, key);
    (void)fprintf(stderr, "  Or give:  --%s URL%s\n", key,
                  strcmp(key, "database") == 0 ? ", or --state-dir DIR" : "");
    if (now.is_there)
        put_place("  The key is ", key);
}

int stores_blame(int code, const char *key, enum stores_origin from)
{
    if (from == STORES_OF_CONTEXT)
        put_place("  It is the key ", key);
    else if (from == STORES_OF_DEFAULT && code == CLI_NOT_FOUND)
        put_remedy(key);
    return code;
}

int stores_lack(const char *key, const char *what)
{
    if (now.is_there)
        (void)ctl_fail(CLI_USAGE, "context '%s' names no %s", now.of.name, what);
    else
        (void)ctl_fail(CLI_USAGE, "no %s is named", what);
    put_remedy(key);
    return CLI_USAGE;
}
