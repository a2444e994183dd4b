/* SPDX-License-Identifier: Apache-2.0 */
/* Old rows into a file and out of the history store: export, fsync, read the file back and compare, then delete exactly
 * the rows that were exported, all in one transaction. Nothing is deleted that is not in a file which was read back. */
#ifndef ANALYTICS_ARCHIVE_H
#define ANALYTICS_ARCHIVE_H

#include "libshared/base/clock.h"
#include "libshared/store/db.h"

enum archive_table { ARCHIVE_LEDGER, ARCHIVE_SKETCHES, ARCHIVE_HOURLY, ARCHIVE_COUNT };
const char *
archive_table_name(enum archive_table t); /* "ledger" "minute_sketches" "metrics_hourly_aggregates" */

struct archive_options {
    struct db *db;
    enum archive_table table;
    int64_t before;   /* epoch second; rows of hours before it, rounded down to an hour */
    const char *path; /* CSV with a heading; gzip when it ends with ".gz"; must not exist */
    bool keep;        /* export only */
    struct wall now;
};
struct archive_result {
    uint64_t rows, deleted, bytes; /* bytes: of the file */
    uint32_t crc32c;               /* of the CSV, uncompressed */
};

/* ERR_CONFLICT when an hour of the ledger before that time is not rolled up or is dirty, or the file is there already. On
 * any failure nothing was deleted; a file under `path` is then whole or not there. */
NODISCARD enum err_code archive_run(const struct archive_options *o, struct archive_result *out,
                                    struct err *err);

#endif
