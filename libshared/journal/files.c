/* SPDX-License-Identifier: Apache-2.0 */
/* Reads with pread from the start of a file to its end, so that what was published when its header word was read has its
 * bytes behind it. A file whose header changed while it was read, or that is released whole, may be half erased already: that
 * is no damage. */
#include "libshared/journal/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_CAP 4200

static bool read_at(int fd, unsigned char *dst, size_t n, size_t *out_done)
{
    size_t done = 0;
    ssize_t k = 1;

    while (done < n && k > 0) {
        k = pread(fd, dst + done, n - done, (off_t)done);
        if (k < 0 && errno == EINTR)
            k = 1;
        else if (k > 0)
            done += (size_t)k;
    }
    *out_done = done;
    return k >= 0;
}

static enum err_code add_file(struct segment_files *files, const char *path, struct err *err)
{
    alignas(8) unsigned char head[WALK_DATA] = {0};
    struct segment_file f = {.size = FILES_SEGMENT_MAX};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    size_t n;

    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "there is no '%s'", path);
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || !read_at(fd, head, sizeof(head), &n)) {
        (void)err_set(err, ERR_IO, "cannot read '%s': %s", path,
                      fd < 0 ? strerror(errno) : "not a file to read");
        if (fd >= 0)
            (void)close(fd);
        return ERR_IO;
    }
    (void)close(fd);
    f.is_sound = walk_header(head, FILES_SEGMENT_MAX, &f.header) && f.header.size >= 2 * WALK_DATA &&
                 f.header.size <= FILES_SEGMENT_MAX && f.header.size % 8 == 0;
    if (f.is_sound)
        f.size = f.header.size;
    f.is_short = st.st_size < (off_t)f.size;
    f.path = strdup(path);
    files->at = realloc(files->at, (files->n + 1) * sizeof(*files->at));
    if (!f.path || !files->at)
        abort();
    files->at[files->n++] = f;
    return ERR_OK;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n > m && strcmp(name + n - m, end) == 0;
}

static bool is_worker(const char *name)
{
    uint64_t n;

    return name[0] == 'w' && span_to_u64(span_of(name + 1), &n);
}

/* A file that went away since the directory was read is not missed. */
static enum err_code add_directory(struct segment_files *files, const char *path, unsigned depth,
                                   struct err *err)
{
    DIR *d = opendir(path);
    enum err_code e = ERR_OK;

    if (!d)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot read '%s': %s", path,
                       strerror(errno));
    for (struct dirent *ent; !e && (ent = readdir(d));) {
        char sub[PATH_CAP];

        if (snprintf(sub, sizeof(sub), "%s/%s", path, ent->d_name) >= (int)sizeof(sub))
            continue;
        if (ends_with(ent->d_name, ".seg"))
            e = add_file(files, sub, err);
        else if (depth < 2 && (is_worker(ent->d_name) || strcmp(ent->d_name, "journal") == 0))
            e = add_directory(files, sub, depth + 1, err);
        if (e == ERR_NOT_FOUND)
            e = ERR_OK;
    }
    (void)closedir(d);
    return e;
}

static int by_place(const void *a, const void *b)
{
    const struct segment_file *x = a, *y = b;

    if (x->is_sound != y->is_sound)
        return x->is_sound ? -1 : 1;
    if (!x->is_sound)
        return strcmp(x->path, y->path);
    if (x->header.worker != y->header.worker)
        return x->header.worker < y->header.worker ? -1 : 1;
    return x->header.sequence < y->header.sequence ? -1 : x->header.sequence > y->header.sequence;
}

enum err_code segment_files_find(struct segment_files *files, const char *path, struct err *err)
{
    size_t before = files->n;
    struct stat st;
    enum err_code e;

    if (stat(path, &st))
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot read '%s': %s", path,
                       strerror(errno));
    e = S_ISDIR(st.st_mode) ? add_directory(files, path, 0, err) : add_file(files, path, err);
    if (!e && files->n == before)
        return err_set(err, ERR_NOT_FOUND, "there is no segment of a journal in '%s'", path);
    if (files->n)
        qsort(files->at, files->n, sizeof(*files->at), by_place);
    return e;
}

void segment_files_release(struct segment_files *files)
{
    for (size_t i = 0; i < files->n; i++)
        free(files->at[i].path);
    free(files->at);
    *files = (struct segment_files){0};
}

enum err_code segment_file_load(const struct segment_file *f, unsigned char *dst, struct walk_header *out,
                                struct err *err)
{
    alignas(8) unsigned char again[WALK_DATA] = {0};
    int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    size_t n = 0, m = 0;
    bool ok;

    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_CONFLICT : ERR_IO, "cannot read '%s': %s", f->path,
                       strerror(errno));
    memset(dst, 0, f->size);
    ok = read_at(fd, dst, f->size, &n) && read_at(fd, again, sizeof(again), &m);
    (void)close(fd);
    if (!ok)
        return err_set(err, ERR_IO, "cannot read '%s': %s", f->path, strerror(errno));
    if (!walk_header(dst, f->size, out) || memcmp(dst, again, WALK_AT_RELEASED) != 0 ||
        out->sequence != f->header.sequence || !walk_header(again, f->size, out) || out->released == f->size)
        return err_set(err, ERR_CONFLICT, "'%s' was recycled while it was read", f->path);
    return ERR_OK;
}
