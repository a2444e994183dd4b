/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of each test's own. */
#ifndef TESTS_UNIT_DIRECTORY_TEMP_H
#define TESTS_UNIT_DIRECTORY_TEMP_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libshared/base/buf.h"
#include "tests/unit/cm.h"

static char temp_dir[64];

static int make_temp(void **state)
{
    (void)state;
    (void)snprintf(temp_dir, sizeof(temp_dir), "/tmp/gatewayd-directory-XXXXXX");
    return mkdtemp(temp_dir) ? 0 : -1;
}

static int remove_path(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int drop_temp(void **state)
{
    (void)state;
    return nftw(temp_dir, remove_path, 16, FTW_DEPTH | FTW_PHYS);
}

UNUSED static const char *temp_path(const char *name)
{
    static char path[2][160];
    static unsigned turn;

    (void)snprintf(path[++turn % 2], sizeof(path[0]), "%s/%s", temp_dir, name);
    return path[turn % 2];
}

UNUSED static void read_all(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "re");
    char chunk[4096];
    size_t n;

    assert_non_null(f);
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        buf_add(out, span_make(chunk, n));
    (void)fclose(f);
}

UNUSED static void write_file(const char *path, struct span s)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_int_equal(fwrite(s.p, 1, s.len, f), s.len);
    assert_int_equal(fclose(f), 0);
}

#endif
