/* SPDX-License-Identifier: Apache-2.0 */
/* The order of steps matters more than the steps: at every instruction the files must make sense to the next
 * run. A segment is recycled only after `released` covers it, and a released segment holds nothing whatever
 * its bytes are; so zeroing, renaming and the new header may be cut anywhere. */
#include "gatewayd/journal/segment_priv.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libshared/base/crash.h"
#include "libshared/base/hash.h"

#define PATH_CAP 4096

static void put32(unsigned char *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof(v));
}

static void put64(unsigned char *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof(v));
}

static enum err_code path_of(char *dst, const char *dir, const char *name, struct err *err)
{
    int n = snprintf(dst, PATH_CAP, "%s/%s", dir, name);

    return n > 0 && n < PATH_CAP ? ERR_OK : err_set(err, ERR_IO, "path of segment '%s' is too long", name);
}

static void name_of(char dst[32], uint64_t sequence)
{
    (void)snprintf(dst, 32, "%016llx.seg", (unsigned long long)sequence);
}

void segment_set_released(struct segment *s, uint32_t offset)
{
    s->released = offset;
    atomic_store_explicit(segment_word(s, WALK_AT_RELEASED),
                          htole64((uint64_t)(uint32_t)~offset << 32 | offset), memory_order_release);
}

bool segment_is_released(const struct segment *s)
{
    return s->released == JOURNAL_SEGMENT;
}

/* Magic and CRC go last: until they are in, the header is no header. */
static void write_header(struct segment *s, unsigned worker, uint64_t sequence)
{
    unsigned char h[WALK_AT_CRC];

    segment_set_released(s, SEGMENT_DATA);
    put64(h + WALK_AT_MAGIC, WALK_MAGIC);
    put64(h + WALK_AT_SEQUENCE, sequence);
    put32(h + WALK_AT_WORKER, worker);
    put32(h + WALK_AT_SIZE, (uint32_t)JOURNAL_SEGMENT);
    memcpy(s->base + WALK_AT_SEQUENCE, h + WALK_AT_SEQUENCE, WALK_AT_CRC - WALK_AT_SEQUENCE);
    put64(s->base + WALK_AT_CRC, crc32c(0, h, sizeof(h)));
    atomic_store_explicit(segment_word(s, WALK_AT_MAGIC), htole64(WALK_MAGIC), memory_order_release);
    s->sequence = sequence;
}

static struct segment *map(int fd, struct err *err)
{
    struct segment *s = calloc(1, sizeof(*s));
    void *p = mmap(NULL, JOURNAL_SEGMENT, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (!s || p == MAP_FAILED) {
        (void)err_set(err, s ? ERR_IO : ERR_NO_MEMORY, "cannot map segment: %s", strerror(errno));
        if (p != MAP_FAILED)
            (void)munmap(p, JOURNAL_SEGMENT);
        free(s);
        return NULL;
    }
    s->base = p;
    return s;
}

struct segment *segment_new(const char *dir, unsigned worker, uint64_t sequence, struct err *err)
{
    char name[32], path[PATH_CAP];
    struct segment *s = NULL;
    int fd, e;

    name_of(name, sequence);
    if (path_of(path, dir, name, err))
        return NULL;
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        (void)err_set(err, ERR_IO, "cannot create segment '%s': %s", path, strerror(errno));
        return NULL;
    }
    e = posix_fallocate(fd, 0, (off_t)JOURNAL_SEGMENT);
    if (e)
        (void)err_set(err, ERR_IO, "cannot allocate segment '%s': %s", path, strerror(e));
    else
        s = map(fd, err);
    (void)close(fd);
    if (!s) {
        (void)unlink(path);
        return NULL;
    }
    memset(s->base, 0, JOURNAL_SEGMENT); /* the faults are taken here, not by the worker */
    write_header(s, worker, sequence);
    CRASH_POINT(segment_created);
    return s;
}

static bool is_zero(const unsigned char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void set_aside(const char *path)
{
    char bad[PATH_CAP + 8];

    (void)snprintf(bad, sizeof(bad), "%s.bad", path);
    (void)rename(path, bad);
}

/* The process died while allocating: a header is only written afterwards. With one, somebody cut the file. */
static void discard_short(int fd, const char *path, struct err *err)
{
    unsigned char h[SEGMENT_DATA] = {0};
    ssize_t n = pread(fd, h, sizeof(h), 0);

    if (n >= 0 && is_zero(h, sizeof(h))) {
        (void)unlink(path);
        return;
    }
    (void)err_set(err, ERR_BAD_BODY, "segment '%s' is shorter than %zu bytes, set aside as '.bad'", path,
                  JOURNAL_SEGMENT);
    set_aside(path);
}

/* The process died between the new name and the new header, or the disk kept only one of the two. */
static enum err_code settle_name(const char *dir, const char *path, uint64_t sequence, struct err *err)
{
    char name[32], want[PATH_CAP];

    name_of(name, sequence);
    if (path_of(want, dir, name, err))
        return ERR_IO;
    if (strcmp(path, want) != 0 && renameat2(AT_FDCWD, path, AT_FDCWD, want, RENAME_NOREPLACE))
        return err_set(err, ERR_IO, "cannot rename segment '%s' to '%s': %s", path, name, strerror(errno));
    return ERR_OK;
}

/* Without a header, or with one of an earlier release, whose records are not ours to guess at. */
static void discard_foreign(const struct segment *s, const char *path, const struct walk_header *h,
                            struct err *err)
{
    if (walk_is_blank(s->base, JOURNAL_SEGMENT, h ? h->released : SEGMENT_DATA)) {
        (void)unlink(path); /* died before the header was complete; or all of it was released */
        return;
    }
    (void)err_set(err, ERR_BAD_BODY,
                  h ? "segment '%s' holds records of an earlier release, set aside as '.bad'"
                    : "segment '%s' has no sound header, set aside as '.bad'",
                  path);
    set_aside(path);
}

struct segment *segment_open(const char *dir, const char *name, unsigned worker, struct err *err)
{
    char path[PATH_CAP];
    struct stat st = {0};
    struct walk_header h;
    struct segment *s;
    bool is_sound;
    int fd;

    if (path_of(path, dir, name, err))
        return NULL;
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st)) {
        (void)err_set(err, ERR_IO, "cannot open segment '%s': %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return NULL;
    }
    if (st.st_size < (off_t)JOURNAL_SEGMENT) {
        discard_short(fd, path, err);
        (void)close(fd);
        return NULL;
    }
    s = map(fd, err);
    (void)close(fd);
    if (!s)
        return NULL;
    is_sound = walk_header(s->base, JOURNAL_SEGMENT, &h) && h.worker == worker && h.size == JOURNAL_SEGMENT;
    if (!is_sound || h.magic != WALK_MAGIC) {
        discard_foreign(s, path, is_sound ? &h : NULL, err);
        segment_unmap(s);
        return NULL;
    }
    s->sequence = h.sequence;
    s->released = h.released;
    s->is_old = true;
    if (settle_name(dir, path, s->sequence, err)) {
        segment_unmap(s);
        return NULL;
    }
    return s;
}

enum err_code segment_recycle(struct segment *s, const char *dir, unsigned worker, uint64_t sequence,
                              struct err *err)
{
    char name[32], from[PATH_CAP], to[PATH_CAP];

    name_of(name, s->sequence);
    if (path_of(from, dir, name, err))
        return ERR_IO;
    name_of(name, sequence);
    if (path_of(to, dir, name, err))
        return ERR_IO;
    memset(s->base + SEGMENT_DATA, 0, JOURNAL_SEGMENT - SEGMENT_DATA);
    if (rename(from, to))
        return err_set(err, ERR_IO, "cannot rename segment '%s': %s", from, strerror(errno));
    /* No header while it is half old and half new. */
    atomic_store_explicit(segment_word(s, WALK_AT_MAGIC), 0, memory_order_release);
    write_header(s, worker, sequence);
    s->is_old = false;
    atomic_store_explicit(&s->next, NULL, memory_order_relaxed);
    atomic_store_explicit(&s->was_torn, false, memory_order_relaxed);
    segment_drop_pages(s);
    CRASH_POINT(segment_recycled);
    return ERR_OK;
}

/* The bytes are the page cache's; only the mapping forgets them. */
void segment_drop_pages(struct segment *s)
{
    (void)madvise(s->base, JOURNAL_SEGMENT, MADV_DONTNEED);
}

void segment_unmap(struct segment *s)
{
    if (!s)
        return;
    (void)munmap(s->base, JOURNAL_SEGMENT);
    free(s);
}

void segment_remove(struct segment *s, const char *dir)
{
    char name[32], path[PATH_CAP];

    name_of(name, s->sequence);
    if (path_of(path, dir, name, NULL) == ERR_OK)
        (void)unlink(path);
    segment_unmap(s);
}
