/* SPDX-License-Identifier: Apache-2.0 */
/* Where to find a gateway that nobody named: a context file that a running one left, or the usual places. */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libshared/cli/context.h"

#include "libshared/base/compiler.h"

const char *context_home(void)
{
    const char *home = getenv("HOME");
    const struct passwd *pw = home && home[0] == '/' ? NULL : getpwuid(getuid());

    return home && home[0] == '/' ? home : pw && pw->pw_dir && pw->pw_dir[0] == '/' ? pw->pw_dir : "";
}

bool context_path(const char *name, char *dst, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = context_home();
    int n;

    if (!*name || strchr(name, '/') || name[0] == '.')
        return false;
    if (state && state[0] == '/')
        n = snprintf(dst, cap, "%s/gatewayd/contexts/%s.json", state, name);
    else if (*home)
        n = snprintf(dst, cap, "%s/.local/state/gatewayd/contexts/%s.json", home, name);
    else
        return false;
    return n > 0 && (size_t)n < cap;
}

static void take_member(const json_t *o, const char *name, char dst[CONTEXT_TEXT_CAP])
{
    const char *z = json_string_value(json_object_get(o, name));

    if (z)
        (void)span_copy(dst, CONTEXT_TEXT_CAP, span_of(z));
}

/* One that was killed could not take its file away. */
static bool read_registered(const char *name, struct context *out, int *out_pid)
{
    json_t *o = context_path(name, out->file, sizeof(out->file))
                    ? json_load_file(out->file, JSON_REJECT_DUPLICATES, NULL)
                    : NULL;

    take_member(o, "url", out->url);
    take_member(o, "redis", out->redis);
    take_member(o, "database", out->database);
    *out_pid = (int)json_integer_value(json_object_get(o, "pid"));
    json_decref(o);
    (void)span_copy(out->name, sizeof(out->name), span_of(name));
    out->is_running = out->url[0] && (*out_pid <= 0 || kill(*out_pid, 0) == 0 || errno == EPERM);
    return out->is_running;
}

void contexts_running(void (*fn)(void *user, const struct context *c), void *user)
{
    char path[CONTEXT_TEXT_CAP];
    DIR *d = NULL;
    int pid;

    if (context_path("x", path, sizeof(path))) {
        *strrchr(path, '/') = '\0';
        d = opendir(path);
    }
    for (struct dirent *e; d && (e = readdir(d));) {
        struct context c = {0};
        size_t n = strlen(e->d_name);

        if (n <= 5 || strcmp(e->d_name + n - 5, ".json") != 0)
            continue;
        e->d_name[n - 5] = '\0';
        if (context_is_name(e->d_name) && read_registered(e->d_name, &c, &pid))
            fn(user, &c);
    }
    if (d)
        (void)closedir(d);
}

bool context_read(const char *name, char *url, size_t cap, int *out_pid)
{
    struct contexts c;
    struct context running = {0};
    const struct context *found;
    bool is_found = read_registered(name, &running, out_pid);

    if (is_found)
        (void)span_copy(url, cap, span_of(running.url));
    if (is_found || contexts_read(&c, NULL))
        return is_found;
    found = contexts_find(&c, name);
    if (found)
        (void)span_copy(url, cap, span_of(found->url));
    contexts_release(&c);
    return found && *url;
}

enum err_code context_load(const char *name, struct context *out, struct err *err)
{
    struct contexts c;
    const struct context *found;
    enum err_code e;
    int pid;

    *out = (struct context){0};
    if (name && read_registered(name, out, &pid))
        return ERR_OK;
    *out = (struct context){0};
    e = contexts_read(&c, err);
    if (e)
        return e;
    found = contexts_find(&c, name ? name : c.current);
    if (found) {
        *out = *found;
        (void)span_copy(out->file, sizeof(out->file), span_of(c.path));
    }
    contexts_release(&c);
    return found ? ERR_OK : err_set(err, ERR_NOT_FOUND, "no context is named '%s'", name ? name : "");
}

void context_place(const struct context *c, const char *key, char *dst, size_t cap)
{
    const char *home = context_home(), *z = c->file;
    size_t n = strlen(home);
    bool is_at_home = n > 1 && strncmp(z, home, n) == 0 && z[n] == '/';

    (void)snprintf(dst, cap, "'%s' of context '%s' in\n  %s%s", key, c->name, is_at_home ? "~" : "",
                   is_at_home ? z + n : z);
}

/* ---- what is in force ------------------------------------------------------------------------------------------------ */

const char *context_variable(const char *name, const char *alias)
{
    const char *z = getenv(name);

    if ((!z || !*z) && alias)
        z = getenv(alias);
    return z && *z ? z : NULL;
}

enum err_code context_find(const char *url, const char *name, struct context *out, bool *out_is_named,
                           struct err *err)
{
    enum err_code e;

    name = name ? name : getenv("GATEWAYD_CONTEXT");
    *out = (struct context){0};
    *out_is_named = name && *name;
    if (url || (!*out_is_named && context_variable("GATEWAYD_URL", NULL)))
        return ERR_OK;
    e = context_load(*out_is_named ? name : NULL, out, err);
    if (e != ERR_NOT_FOUND)
        return e;
    return *out_is_named ? err_set(err, e,
                                   "no context is named '%s'; is its gateway running?\n"
                                   "  'aigwctl config contexts' lists them",
                                   name)
                         : ERR_OK;
}

bool context_gives_stores(const struct context *c, bool is_named)
{
    return (c->database[0] || c->redis[0]) &&
           (is_named || (!context_variable("GATEWAYD_DATABASE_URL", "DATABASE_URL") &&
                         !context_variable("GATEWAYD_REDIS_URL", "REDIS_URL")));
}

bool context_redis_is_off(void)
{
    static const char *const WORDS[] = {"false", "0", "no", "off"};
    const char *z = context_variable("GATEWAYD_REDIS_ENABLED", "REDIS_ENABLED");

    for (unsigned i = 0; z && i < ARRAY_LEN(WORDS); i++)
        if (strcmp(z, WORDS[i]) == 0)
            return true;
    return false;
}

enum err_code context_token(const struct context *c, const char *file, struct secret *out, struct err *err)
{
    const char *token = file ? NULL : context_variable("GATEWAYD_TOKEN", NULL);
    char place[CONTEXT_TEXT_CAP + 200], said[sizeof(err->text)];
    bool is_of_context = false;
    enum err_code e;

    if (token)
        return secret_set(out, span_of(token));
    file = file ? file : context_variable("GATEWAYD_TOKEN_FILE", NULL);
    if (!file && c->token_file[0]) {
        file = c->token_file;
        is_of_context = true;
    }
    e = file ? context_token_file(file, out, err) : ERR_OK;
    if (!e || !is_of_context)
        return e;
    (void)snprintf(said, sizeof(said), "%s", err_text(err));
    context_place(c, "token-file", place, sizeof(place));
    return err_set(err, e, "%s\n  It is the key %s", said, place);
}

void context_guess_url(char *dst, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME");
    char path[512];

    if (access("/run/gatewayd/admin.sock", W_OK) == 0) {
        (void)snprintf(dst, cap, "unix:/run/gatewayd/admin.sock");
        return;
    }
    if (state && state[0] == '/')
        (void)snprintf(path, sizeof(path), "%s/gatewayd/admin.sock", state);
    else
        (void)snprintf(path, sizeof(path), "%s/.local/state/gatewayd/admin.sock", context_home());
    (void)snprintf(dst, cap, "%s%.500s", access(path, W_OK) == 0 ? "unix:" : "",
                   access(path, W_OK) == 0 ? path : "http://127.0.0.1:8081");
}

enum err_code context_token_file(const char *path, struct secret *out, struct err *err)
{
    char text[4096];
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof(text), f) : 0;
    struct span s;

    if (!f)
        return err_set(err, ERR_IO, "cannot read token file '%s': %s", path, strerror(errno));
    (void)fclose(f);
    s = span_make(text, n);
    while (s.len && (s.p[s.len - 1] == '\n' || s.p[s.len - 1] == '\r' || s.p[s.len - 1] == ' '))
        s.len--;
    if (secret_set(out, s))
        abort();
    explicit_bzero(text, sizeof(text));
    return ERR_OK;
}
