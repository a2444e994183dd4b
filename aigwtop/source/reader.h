/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that reads, so that the screen never waits for a store. It owns the source. */
#ifndef AIGWTOP_SOURCE_READER_H
#define AIGWTOP_SOURCE_READER_H

#include "aigwtop/source/source.h"

struct reader;

/* Owns `first`. With a `second`, which may be empty, that one is asked whenever `first` does not answer, until one of them did. */
struct reader *reader_new(struct source first, struct source second, int64_t interval_ms,
                          const struct ask *ask);
/* Waits for a call that is under way at most `patience_ms`; one that takes longer is left to the end of the process. */
void reader_free(struct reader *r, int64_t patience_ms);
/* Becomes readable when there is a sample. */
int reader_fd(const struct reader *r);
/* The oldest sample that was not taken yet, or NULL; the caller owns it. When nobody takes them, the newest of those that say the
 * source is down replaces the one before it. */
struct sample *reader_take(struct reader *r);
void reader_ask(struct reader *r, const struct ask *ask);
void reader_set_interval(struct reader *r, int64_t interval_ms);
/* Reads at once, also while it waits after a failure. */
void reader_hurry(struct reader *r);
/* Another source from now on; owns it. */
void reader_switch(struct reader *r, struct source s);

#endif
