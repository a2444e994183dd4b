/* SPDX-License-Identifier: Apache-2.0 */
/* The file is the text, a line end, the HMAC in hexadecimal digits, a line end: what is signed is compared as bytes before
 * anybody reads it as something. */
#include "gatewayd/directory/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/config/limits.h"
#include "libshared/base/hash.h"
#include "libshared/base/id.h"
#include "libshared/base/secret.h"

#define KEY_BYTES 32
#define TAIL_LEN  (1 + 2 * SHA256_BYTES + 1)
#define PATH_CAP  4200

static const char *path_of(char dst[PATH_CAP], const char *dir, const char *name)
{
    (void)snprintf(dst, PATH_CAP, "%s/%s", dir, name);
    return dst;
}

static enum err_code fail_file(struct err *err, const char *what, const char *path)
{
    return err_set(err, ERR_IO, "%s '%s': %s", what, path, strerrordesc_np(errno));
}

static bool write_all(int fd, struct span s)
{
    while (s.len) {
        ssize_t n = write(fd, s.p, s.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        s = span_make(s.p + n, s.len - (size_t)n);
    }
    return true;
}

static void sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

/* A new file beside the one to come, complete and on disk. */
static enum err_code write_beside(const char *path, const struct span *parts, size_t n, char tmp[PATH_CAP],
                                  struct err *err)
{
    enum err_code e = ERR_OK;
    bool ok = true;
    int fd;

    (void)snprintf(tmp, PATH_CAP, "%.4150s.%ld.tmp", path, (long)getpid());
    (void)unlink(tmp);
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail_file(err, "cannot write", tmp);
    for (size_t i = 0; i < n && ok; i++)
        ok = write_all(fd, parts[i]);
    ok = ok && fsync(fd) == 0;
    if (!ok)
        e = fail_file(err, "cannot write", tmp);
    if (close(fd) && !e)
        e = fail_file(err, "cannot write", tmp);
    if (e)
        (void)unlink(tmp);
    return e;
}

/* ---- the key --------------------------------------------------------------------------------------------------------- */

static enum err_code read_key(const char *path, unsigned char key[KEY_BYTES], struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    unsigned char more;
    bool ok;

    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_CONFLICT, "the key '%s' is missing", path);
    if (fd < 0)
        return fail_file(err, "cannot read", path);
    if (fstat(fd, &st) || (st.st_mode & 077) || st.st_uid != geteuid()) {
        (void)close(fd);
        return err_set(err, ERR_CONFLICT, "the key '%s' belongs to others, or they may read it", path);
    }
    ok = read(fd, key, KEY_BYTES) == KEY_BYTES && read(fd, &more, 1) == 0;
    (void)close(fd);
    return ok ? ERR_OK : err_set(err, ERR_CONFLICT, "the key '%s' is not %d bytes long", path, KEY_BYTES);
}

/* link() refuses to replace, so of two processes one makes the key and both use it. */
static enum err_code need_key(const char *dir, unsigned char key[KEY_BYTES], struct err *err)
{
    char path[PATH_CAP], tmp[PATH_CAP];
    struct span fresh = span_make(key, KEY_BYTES);
    enum err_code e;

    path_of(path, dir, "snapshot.key");
    if (access(path, F_OK) == 0)
        return read_key(path, key, err);
    random_bytes(key, KEY_BYTES);
    e = write_beside(path, &fresh, 1, tmp, err);
    if (e)
        return e;
    if (link(tmp, path) && errno != EEXIST)
        e = fail_file(err, "cannot write", path);
    (void)unlink(tmp);
    sync_dir(dir);
    return e ? e : read_key(path, key, err);
}

static void sign(const unsigned char key[KEY_BYTES], struct span text, char tail[TAIL_LEN + 1])
{
    unsigned char mac[SHA256_BYTES];

    hmac_sha256(span_make(key, KEY_BYTES), text, mac);
    tail[0] = '\n';
    hex_encode(mac, SHA256_BYTES, tail + 1);
    tail[TAIL_LEN - 1] = '\n';
    tail[TAIL_LEN] = '\0';
}

/* ---- the text -------------------------------------------------------------------------------------------------------- */

enum err_code sealed_write(const char *dir, struct span text, struct err *err)
{
    unsigned char key[KEY_BYTES];
    char path[PATH_CAP], tmp[PATH_CAP], tail[TAIL_LEN + 1];
    struct span parts[2] = {text, {tail, TAIL_LEN}};
    enum err_code e = need_key(dir, key, err);

    if (e)
        return e;
    sign(key, text, tail);
    explicit_bzero(key, sizeof(key));
    path_of(path, dir, "directory.snapshot");
    e = write_beside(path, parts, 2, tmp, err);
    if (e)
        return e;
    if (rename(tmp, path)) {
        e = fail_file(err, "cannot replace", path);
        (void)unlink(tmp);
        return e;
    }
    sync_dir(dir);
    return ERR_OK;
}

static enum err_code read_file(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t got = 0;
    enum err_code e = ERR_OK;

    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "there is no '%s'", path);
    if (fd < 0)
        return fail_file(err, "cannot read", path);
    do {
        e = buf_reserve(out, 65536);
        got = e ? -1 : read(fd, out->p + out->len, 65536);
        if (got > 0)
            out->len += (size_t)got;
    } while (got > 0);
    if (!e && got < 0)
        e = fail_file(err, "cannot read", path);
    else if (e)
        e = err_set(err, e, "'%s' is too large", path);
    (void)close(fd);
    return e;
}

enum err_code sealed_read(const char *dir, struct buf *out, struct err *err)
{
    unsigned char key[KEY_BYTES];
    char path[PATH_CAP], tail[TAIL_LEN + 1];
    enum err_code e;

    path_of(path, dir, "directory.snapshot");
    out->max = LIMIT_DIRECTORY_BYTES;
    e = read_file(path, out, err);
    if (!e && out->len < TAIL_LEN)
        return err_set(err, ERR_CONFLICT, "'%s' is cut short", path);
    if (!e) {
        char key_path[PATH_CAP];

        e = read_key(path_of(key_path, dir, "snapshot.key"), key, err);
    }
    if (e)
        return e;
    out->len -= TAIL_LEN;
    sign(key, buf_span(out), tail);
    explicit_bzero(key, sizeof(key));
    if (!mem_equal_ct(tail, out->p + out->len, TAIL_LEN))
        return err_set(err, ERR_CONFLICT, "the signature of '%s' does not fit", path);
    out->p[out->len] = '\0';
    return ERR_OK;
}
