/* SPDX-License-Identifier: Apache-2.0 */
/* A text kept in the state directory so that a change to it shows: <dir>/directory.snapshot holds it with an HMAC-SHA256 under
 * the random key of <dir>/snapshot.key. Pure file work, no thread of its own. */
#ifndef DIRECTORY_SEALED_H
#define DIRECTORY_SEALED_H

#include "libshared/base/buf.h"

/* Replaces what is there, whole or not at all. `text` holds no line end. Makes the key where there is none. */
NODISCARD enum err_code sealed_write(const char *dir, struct span text, struct err *err);
/* ERR_NOT_FOUND: nothing is kept. ERR_CONFLICT: the signature does not fit, or the key is missing or readable by others. */
NODISCARD enum err_code sealed_read(const char *dir, struct buf *out, struct err *err);

#endif
