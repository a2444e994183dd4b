/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration takes from the machine: default paths, number of cores, and the key of the default
 * tenant, which is minted once. The key file appears complete or not at all, also when two processes start
 * together. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/config/config_priv.h"
#include "libshared/base/id.h"

/* ---- paths ---- */

static const char *join(struct arena *a, struct span dir, const char *name)
{
    char *p = arena_alloc(a, dir.len + strlen(name) + 2);

    memcpy(p, dir.p, dir.len);
    p[dir.len] = '/';
    memcpy(p + dir.len + 1, name, strlen(name));
    return p;
}

/* systemd gives several directories separated by ':' when the unit names several. */
static struct span first_dir(const char *variable)
{
    const char *value = getenv(variable);
    struct span rest = span_of(value ? value : "");

    return span_split(&rest, ':');
}

static const char *home_dir(struct arena *a)
{
    const char *home = getenv("HOME");
    struct passwd pw, *found = NULL;
    char scratch[4096];

    if (home && home[0] == '/')
        return home;
    if (getpwuid_r(getuid(), &pw, scratch, sizeof(scratch), &found) || !found || pw.pw_dir[0] != '/')
        return NULL;
    return arena_dup(a, span_of(pw.pw_dir));
}

static const char *default_state_dir(struct arena *a)
{
    struct span unit = first_dir("STATE_DIRECTORY");
    const char *xdg = getenv("XDG_STATE_HOME"), *home;

    if (unit.len)
        return arena_dup(a, unit);
    if (xdg && xdg[0] == '/')
        return join(a, span_of(xdg), "gatewayd");
    home = home_dir(a);
    return home ? join(a, span_of(home), ".local/state/gatewayd") : "/var/lib/gatewayd";
}

static unsigned core_count(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

    return n < 1 ? 1 : (unsigned)n < LIMIT_WORKERS ? (unsigned)n : LIMIT_WORKERS;
}

enum err_code resolve_paths(struct build *b)
{
    struct config *c = b->c;
    struct span run = first_dir("RUNTIME_DIRECTORY");

    if (!c->state_dir)
        c->state_dir = default_state_dir(b->a);
    if (!c->admin_socket)
        c->admin_socket = join(b->a, run.len ? run : span_of(c->state_dir), "admin.sock");
    if (!c->access_log)
        c->access_log = join(b->a, span_of(c->state_dir), "access.log");
    if (!c->workers)
        c->workers = core_count();
    if (!c->is_redis_enabled)
        c->redis = "";
    return ERR_OK;
}

/* ---- the default tenant ---- */

static enum err_code fail_file(struct err *err, const char *what, const char *path)
{
    return err_set(err, ERR_IO, "%s '%s': %s", what, path, strerrordesc_np(errno));
}

enum err_code config_make_state_dir(const struct config *c, struct err *err)
{
    char part[1024];
    size_t n = strlen(c->state_dir);

    if (n >= sizeof(part))
        return err_set(err, ERR_CONFIG, "the path of the state directory is too long");
    for (size_t i = 1; i <= n; i++) {
        if (c->state_dir[i] != '/' && c->state_dir[i] != '\0')
            continue;
        (void)span_copy(part, sizeof(part), span_make(c->state_dir, i));
        if (mkdir(part, 0700) && errno != EEXIST)
            return fail_file(err, "cannot make the state directory", part);
    }
    return ERR_OK;
}

static bool is_written(int fd, const char *text, size_t len)
{
    return fchmod(fd, 0600) == 0 && write(fd, text, len) == (ssize_t)len && write(fd, "\n", 1) == 1 &&
           fsync(fd) == 0;
}

/* link() refuses to replace, so the first of two processes wins and the other reads what it wrote. */
static enum err_code write_key(struct build *b, const char *dir, const char *path)
{
    char key[KEY_TEXT_CAP], tmp[1100];
    bool ok;
    int fd;

    (void)snprintf(tmp, sizeof(tmp), "%s/.default.key.%ld", dir, (long)getpid());
    (void)unlink(tmp);
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail_file(b->err, "cannot write", tmp);
    key_mint(key);
    ok = is_written(fd, key, KEY_TEXT_CAP - 1);
    explicit_bzero(key, sizeof(key));
    ok = close(fd) == 0 && ok;
    if (ok && link(tmp, path) && errno != EEXIST)
        ok = false;
    if (!ok) {
        enum err_code e = fail_file(b->err, "cannot write", path);

        (void)unlink(tmp);
        return e;
    }
    (void)unlink(tmp);
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
    return ERR_OK;
}

/* `out` gets the key of the file, which is made when it is not there; empty when that is not allowed now. */
static enum err_code kept_key(struct build *b, const char *path, struct buf *out)
{
    static const struct origin NOWHERE;
    enum err_code e = ERR_OK;

    if (access(path, F_OK) && errno == ENOENT) {
        if (b->o->is_check)
            return ERR_OK;
        e = config_make_state_dir(b->c, b->err);
        if (!e)
            e = write_key(b, b->c->state_dir, path);
    }
    if (!e)
        e = read_secret_file(b, path, &NOWHERE, out);
    if (!e && out->len < 16)
        return err_set(b->err, ERR_CONFIG,
                       "the key in '%s' is shorter than 16 characters; remove the file for a new one", path);
    return e;
}

static enum err_code find_default_key(struct build *b, struct buf *out)
{
    struct origin at = {.variable = "GATEWAYD_KEY"};
    const char *value = getenv("GATEWAYD_KEY"), *path;
    enum err_code e;

    if (value && value[0]) {
        e = read_secret(b, span_of(value), &at, out);
        if (!e && out->len < 8)
            return fail_origin(b, &at, "the key is shorter than 8 characters");
        if (!e && out->len < 16)
            warn_origin(b, &at, "the key is shorter than 16 characters");
        return e;
    }
    path = join(b->a, span_of(b->c->state_dir), "default.key");
    e = kept_key(b, path, out);
    if (!e)
        buf_addf(&b->warnings, "no tenants are configured: tenant 'default' has the key %s '%s'\n",
                 out->len ? "in" : "that the first start will write to", path);
    return e;
}

enum err_code add_default_tenant(struct build *b)
{
    struct buf key AUTO(wipe_buf) = {0};
    struct raw_tenant *t;
    enum err_code e;

    if (b->n_tenants) {
        if (getenv("GATEWAYD_KEY"))
            buf_addz(&b->warnings,
                     "environment variable 'GATEWAYD_KEY' is not used: tenants are configured\n");
        return ERR_OK;
    }
    b->tenants = arena_new(b->a, struct raw_tenant);
    t = b->tenants;
    e = set_defaults(b, "tenants[].", t);
    if (!e)
        e = find_default_key(b, &key);
    if (e)
        return e;
    t->t.id = "default";
    b->n_tenants = 1;
    if (!key.len)
        return ERR_OK;
    t->keys = arena_new(b->a, struct raw_key);
    t->n_keys = 1;
    e = set_defaults(b, "tenants[].keys[].", t->keys);
    t->keys[0].k.id = "default";
    sha256(buf_span(&key), t->keys[0].k.sha256);
    return e;
}
