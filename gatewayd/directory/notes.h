/* SPDX-License-Identifier: Apache-2.0 */
/* Deeds that reach the audit log a little later: those of threads that do not own the directory's handle of the database, and
 * those that must work while it is away, such as a reload. They wait in memory, in order. */
#ifndef DIRECTORY_NOTES_H
#define DIRECTORY_NOTES_H

#include <jansson.h>
#include <pthread.h>

#include "libshared/base/clock.h"
#include "libshared/store/db.h"

struct note;
struct notes {
    pthread_mutex_t lock;
    struct note *first, **last;
    unsigned n;
    uint64_t lost;
};

void notes_init(struct notes *n);
void notes_release(struct notes *n);
/* Copies the texts and takes `detail`, which is an object without floating numbers, or NULL. When too many wait the oldest goes. */
void notes_add_mt(struct notes *n, struct wall at, const char *actor, const char *action, const char *subject,
                  json_t *detail);
bool notes_any_mt(struct notes *n);
/* Appends all that wait to the audit log in one transaction; on a failure they wait on. */
NODISCARD enum err_code notes_write(struct notes *n, struct db *db, struct err *err);

#endif
