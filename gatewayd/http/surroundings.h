/* SPDX-License-Identifier: Apache-2.0 */
/* What a process inherits and an HTTP library would obey: proxies, key logs, signals. And the one thing it shall find: the CA file. */
#ifndef HTTP_SURROUNDINGS_H
#define HTTP_SURROUNDINGS_H

/* Removes proxy, netrc and key log variables, and ignores SIGPIPE. Before threads. */
void surroundings_clear(void);
/* Where this system keeps the certificates it trusts, NULL when nowhere known. */
const char *surroundings_ca_file(void);

#endif
