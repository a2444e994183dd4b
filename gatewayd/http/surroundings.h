/* SPDX-License-Identifier: Apache-2.0 */
/* What a process inherits and an HTTP library would obey: proxies, key logs, signals. And the one thing it shall find: the CA file. */
#ifndef HTTP_SURROUNDINGS_H
#define HTTP_SURROUNDINGS_H

#include <stddef.h>

/* Removes proxy, netrc and key log variables, and ignores SIGPIPE. Before threads. */
void surroundings_clear(void);
/* GATEWAYD_CA_FILE, else the system's; empty when there is none. */
void surroundings_ca_file(char *dst, size_t cap);

#endif
