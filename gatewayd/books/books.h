/* SPDX-License-Identifier: Apache-2.0 */
/* The stores of a process and the writers that bring the journals to them. Made before the journals' threads start,
 * stopped when the workers are gone. */
#ifndef BOOKS_BOOKS_H
#define BOOKS_BOOKS_H

#include "gatewayd/config/config.h"
#include "gatewayd/journal/writer.h"
#include "libshared/store/db.h"
#include "libshared/store/kv.h"

struct books;

#define BOOKS_WRITERS 2u /* realtime, history */

struct books_options {
    const struct config *config; /* read during the call */
    struct journal *const *journals;
    size_t n_journals;
    const char *instance;  /* copied */
    struct events *events; /* borrowed */
};
/* Whether the addresses make sense, and which they are, without passwords. Connects to nothing, writes nothing. */
NODISCARD enum err_code books_check(const struct config *c, struct buf *out, struct err *err);
/* Connects to nothing yet. ERR_CONFIG for URLs that make no sense, ERR_CONFLICT for a history file in use. */
struct books *books_new(const struct books_options *o, struct err *err);
NODISCARD enum err_code books_start(struct books *b, struct err *err);
/* Brings the rest to the stores where they take it; what is left stays in the journal. NULL is fine. */
void books_stop(struct books *b);
void books_free(struct books *b);

void books_wake_mt(struct books *b);
void books_stats_mt(struct books *b, struct writer_stats out[BOOKS_WRITERS]);
/* Where the journals end now, and whether the history store has everything below such an end: 1, 0, or -1: it is not reached. */
void books_end_mt(struct books *b, struct watermark *out);
int books_history_has_mt(struct books *b, const struct watermark *end);
int books_realtime_has_mt(struct books *b, const struct watermark *end);
const char *books_instance(const struct books *b);
/* Handles for another thread; the caller frees them, before books_free(). */
struct kv *books_kv_share(struct books *b);
struct db *books_db_share(struct books *b);
/* For reading only: what takes long on it does not keep the writer of a SQLite file waiting. */
struct db *books_db_reader(struct books *b);

#endif
