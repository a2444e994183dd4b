/* SPDX-License-Identifier: Apache-2.0 */
/* What all journals of a directory share: the id of these books, and a floor for sequence numbers. Main thread. Both are
 * written beside and renamed, so that two starts after a crash never see two. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/journal/journal_priv.h"

#define PATH_CAP 4200

static bool is_id(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool is_hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');

        if (is_dash ? text[i] != '-' : !is_hex)
            return false;
    }
    return n == INSTANCE_CAP - 1;
}

static enum err_code write_new(const char *dir, const char *path, struct span text, struct err *err)
{
    char tmp[PATH_CAP + 8];
    int fd, d;
    bool ok;

    (void)snprintf(tmp, sizeof(tmp), "%s.new", path);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    ok = fd >= 0 && write(fd, text.p, text.len) == (ssize_t)text.len && fsync(fd) == 0;
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    ok = ok && rename(tmp, path) == 0;
    d = ok ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    ok = d >= 0 && fsync(d) == 0;
    if (!ok)
        (void)err_set(err, ERR_IO, "cannot write '%s': %s", path, strerror(errno));
    if (d >= 0)
        (void)close(d);
    return ok ? ERR_OK : ERR_IO;
}

/* A damaged id is not replaced: with another one the stores would count everything in the journal again. */
enum err_code journal_instance(const char *dir, char out[INSTANCE_CAP], struct err *err)
{
    char path[PATH_CAP], text[64];
    struct id id;
    ssize_t n = -1;
    int fd;

    if (mkdir(dir, 0700) && errno != EEXIST)
        return err_set(err, ERR_IO, "cannot create journal directory '%s': %s", dir, strerror(errno));
    (void)snprintf(path, sizeof(path), "%s/instance", dir);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT)
        return err_set(err, ERR_IO, "cannot read the id of the books '%s': %s", path, strerror(errno));
    if (fd < 0) {
        id = id_mint(wall_now());
        id_format(&id, text);
        n = INSTANCE_CAP - 1;
        if (write_new(dir, path, span_make(text, (size_t)n), err))
            return ERR_IO;
    } else {
        n = read(fd, text, sizeof(text));
        (void)close(fd);
        if (n > 0 && text[n - 1] == '\n') /* an editor's */
            n--;
    }
    if (n < 0 || !is_id(text, (size_t)n))
        return err_set(err, ERR_BAD_BODY, "'%s' does not hold the id of these books", path);
    (void)span_copy(out, INSTANCE_CAP, span_make(text, (size_t)n));
    return ERR_OK;
}

uint64_t journal_floor(const char *dir)
{
    char path[PATH_CAP], text[24];
    uint64_t floor = 0;
    ssize_t n = -1;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/floor", dir);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
        n = read(fd, text, sizeof(text));
        (void)close(fd);
    }
    return n > 0 && span_to_u64(span_make(text, (size_t)n), &floor) ? floor : 0;
}

enum err_code journal_raise_floor(const char *dir, uint64_t sequence, struct err *err)
{
    char path[PATH_CAP], text[24];
    int n = snprintf(text, sizeof(text), "%" PRIu64, sequence);

    if (sequence <= journal_floor(dir))
        return ERR_OK;
    (void)snprintf(path, sizeof(path), "%s/floor", dir);
    return write_new(dir, path, span_make(text, (size_t)n), err);
}
