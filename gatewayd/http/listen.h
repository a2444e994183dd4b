/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets, non-blocking and close-on-exec; -1 with `err`. */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include "gatewayd/config/config.h"

/* Asked once before the workers listen: a process that shares its port as they do would get half of their connections,
 * silently. Always free when the kernel chooses the port. */
NODISCARD enum err_code listen_check_free(const struct config_address *a, struct err *err);
/* With SO_REUSEPORT, so that every worker has its own; the port that was chosen comes back. */
int listen_tcp(const struct config_address *a, uint16_t *out_port, struct err *err);
/* Mode 0660. A socket file that is left over is replaced; one that answers is not. */
int listen_unix(const char *path, struct err *err);

#endif
