/* SPDX-License-Identifier: Apache-2.0 */
/* One life of the simulated gateway: what a process owns between its start and its death. The driver forks it, so that
 * death is death: memory is gone, mappings and files stay, locks are released by the kernel. */
#ifndef DST_LIFE_H
#define DST_LIFE_H

#include "gatewayd/journal/writer.h"
#include "tests/dst/world.h"

struct life {
    char journal_dir[200], instance[INSTANCE_CAP];
    unsigned n_workers, n_journals; /* more journals than workers when an earlier life had more */
    struct journal *j[WORLD_WORKERS];
    struct journal_cursor *tap[WORLD_WORKERS];
    struct db *db;             /* borrowed from the history target: for checking */
    struct kv *kv;             /* borrowed from the realtime target */
    struct writer *writers[2]; /* realtime, history */
    struct mono due[2];
    struct budgets *budgets;
    struct mono tended;
};

/* Runs the life with the number world->life; `kv_fd` leads to the driver's store. Ends the process. */
void life_run(int kv_fd) __attribute__((noreturn));

/* ---- work.c: what the workers do ---- */

void work_start(struct life *l); /* requests of earlier lives are nobody's any more */
void work_admit(struct life *l);
void work_advance(struct life *l); /* some open request gets on */
bool work_finish(struct life *l);  /* one open request is ended; false when none is left */
void work_adjust(struct life *l);
void work_restate(struct life *l); /* what the worker's housekeeping does now and then */

/* ---- budgets.c ---- */

struct budgets;
void budgets_start(struct life *l);
void budgets_stop(struct life *l);
void budgets_round(struct life *l); /* of following the store, when it is due */
bool budgets_reserve(struct life *l, size_t request, const struct fact_open *o);
void budgets_settle(struct life *l, size_t request, int64_t cost_nanousd);
void budgets_check(struct life *l); /* all is in the stores */

/* ---- tap.c: an own consumer, which is how the driver knows what is in the journals ---- */

void tap_read(struct life *l);

/* ---- check.c ---- */

/* Every record that was acknowledged is there, once; what nobody ended was ended by the rule. */
void check_journal(void);
/* Both stores say what the journal says. */
void check_books(struct life *l);

#endif
