/* SPDX-License-Identifier: Apache-2.0 */
/* A PostgreSQL server for one test program: its own cluster in a temporary folder, reached by a unix socket there only,
 * without fsync. It dies with the program. Root starts it as the user `postgres`, since the server refuses root. */
#ifndef TESTS_SUPPORT_PGSERVER_H
#define TESTS_SUPPORT_PGSERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct pgserver;

/* NULL: no server binaries here, or no right to run them; `*why` says it, for a visible skip. */
struct pgserver *pgserver_start(const char **why);
/* Also removes the folder. */
void pgserver_stop(struct pgserver *s);
const char *pgserver_url(const struct pgserver *s);
const char *pgserver_dir(const struct pgserver *s); /* of the socket */
pid_t pgserver_pid(const struct pgserver *s);
/* SIGQUIT is a crash, SIGINT an orderly stop; returns when it is gone. */
void pgserver_end(struct pgserver *s, int signal);
/* On the same data; false when it does not come up. */
bool pgserver_again(struct pgserver *s);

#endif
