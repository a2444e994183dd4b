/* SPDX-License-Identifier: Apache-2.0 */
/* Where to find a gateway that nobody named, and the token for it. */
#ifndef CLI_CONTEXT_H
#define CLI_CONTEXT_H

#include "libshared/base/err.h"
#include "libshared/base/secret.h"

/* Where a running gateway registered itself under a name: a file that holds {"url","pid"}. */
bool context_path(const char *name, char *dst, size_t cap);
bool context_read(const char *name, char *url, size_t cap, int *out_pid);
/* A socket of this user's or the system's gateway, which needs no token; TCP is the last guess. */
void context_guess_url(char *dst, size_t cap);
/* Without the line's end. */
NODISCARD enum err_code context_token_file(const char *path, struct secret *out, struct err *err);

#endif
