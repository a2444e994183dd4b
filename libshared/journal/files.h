/* SPDX-License-Identifier: Apache-2.0 */
/* Segment files as a tool finds them, of a gateway that runs or is dead. Nothing here writes, locks or maps: a file may
 * be appended to, recycled or go away meanwhile. */
#ifndef JOURNAL_FILES_H
#define JOURNAL_FILES_H

#include "libshared/base/err.h"
#include "libshared/journal/walk.h"

#define FILES_SEGMENT_MAX ((size_t)1 << 20)

struct segment_file {
    char *path;
    struct walk_header header;
    bool is_sound, is_short; /* short: the file ends before the segment does */
    size_t size;             /* of the segment */
};

struct segment_files {
    struct segment_file *at; /* by worker, then in the order of the journal; without a sound header last */
    size_t n;
};

/* Adds the segments at `path`: a file, a worker's directory, a journal, or a state directory. ERR_NOT_FOUND: no such
 * path, or no segment there. */
NODISCARD enum err_code segment_files_find(struct segment_files *files, const char *path, struct err *err);
void segment_files_release(struct segment_files *files);
/* The bytes as they are now, zeros behind the end of a short one, and the header that goes with them. `dst` has
 * FILES_SEGMENT_MAX bytes, 8-byte aligned. ERR_CONFLICT: it was given away whole, or is gone. */
NODISCARD enum err_code segment_file_load(const struct segment_file *f, unsigned char *dst,
                                          struct walk_header *out, struct err *err);

#endif
