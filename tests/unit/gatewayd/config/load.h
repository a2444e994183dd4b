/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the configuration share: a directory of their own as working directory, an environment in
 * which nothing of ours is set, and loading of a text as the file conf.yaml. */
#ifndef TESTS_UNIT_CONFIG_LOAD_H
#define TESTS_UNIT_CONFIG_LOAD_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/config/config.h"
#include "gatewayd/config/options.h"
#include "libshared/base/buf.h"

static char load_dir[64];

static void write_text(const char *name, const char *text, mode_t mode)
{
    FILE *f = fopen(name, "w");

    if (!f || fputs(text, f) < 0 || fclose(f) || chmod(name, mode))
        abort();
}

/* Values may be NULL: then nothing is set. Ends with a NULL name. */
static void clear_environment(void)
{
    static const char *const OTHERS[] = {
        "GATEWAYD_KEY", "GATEWAYD_CONFIG",          "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME",
        "HOME",         "GATEWAYD_OPENAI_BASE_URL", "MISSING",         "GATEWAYD_WORKRES",
#define PROVIDER(name, kind, variable, url) variable,
#include "libshared/catalog/providers.def"
#undef PROVIDER
    };

    for (size_t i = 0; i < OPTIONS_LEN; i++) {
        if (OPTIONS[i].env)
            (void)unsetenv(OPTIONS[i].env);
        if (OPTIONS[i].alias)
            (void)unsetenv(OPTIONS[i].alias);
    }
    for (size_t i = 0; i < ARRAY_LEN(OTHERS); i++)
        (void)unsetenv(OTHERS[i]);
}

static int enter_dir(void **state)
{
    (void)state;
    (void)snprintf(load_dir, sizeof(load_dir), "/tmp/gatewayd-config-XXXXXX");
    if (!mkdtemp(load_dir) || chdir(load_dir))
        return -1;
    clear_environment();
    (void)umask(022);
    return setenv("HOME", load_dir, 1);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int leave_dir(void **state)
{
    (void)state;
    clear_environment();
    return chdir("/") || nftw(load_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The text as conf.yaml; a state directory is given, so that nothing is left outside the test's own. */
UNUSED static struct config *load_text(const char *text, struct err *err)
{
    struct config_options o = {.path = "conf.yaml", .state_dir = "state", .version = 1};

    *err = (struct err){0};
    write_text("conf.yaml", text, 0600);
    return config_load(&o, err);
}

UNUSED static struct config *load_ok(const char *text)
{
    struct err err;
    struct config *c = load_text(text, &err);

    if (!c)
        fail_msg("%s", err.text);
    return c;
}

/* Only what the environment says. */
UNUSED static struct config *load_nothing(struct err *err)
{
    struct config_options o = {.state_dir = "state", .version = 1};

    *err = (struct err){0};
    return config_load(&o, err);
}

/* Borrowed until the next call. */
UNUSED static const char *warnings_of(const struct config *c)
{
    static char text[4096];
    struct buf b AUTO(buf_release) = {0};

    config_warnings(c, &b);
    assert_true(b.len < sizeof(text));
    (void)span_copy(text, sizeof(text), buf_span(&b));
    return text;
}

#endif
