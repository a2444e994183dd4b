/* SPDX-License-Identifier: Apache-2.0 */
/* What may be written next on a command line. */
#ifndef AIGWCTL_COMPLETION_H
#define AIGWCTL_COMPLETION_H

#include "aigwctl/command.h"

/* Candidates for the last of `words` (which may be ""), one per line as "WORD<tab>what it is"; ":files" or ":folders" when those of
 * the file system are meant. Never complains. */
void completion_print(struct ctl *ctl, char **words, int n);
/* Names of one kind ("PROVIDER", "TENANT/KEY", …) that the gateway knows now, from a cache of 30 s; NULL when it is not such a
 * kind. The caller's. */
json_t *completion_names(struct ctl *ctl, const char *kind);

#endif
