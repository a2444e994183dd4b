/* SPDX-License-Identifier: Apache-2.0 */
/* Header lines of an outgoing request: "Name: value" closed by NUL, one after the other in a buffer. A CR or LF inside a value
 * would become a second header on the wire: every byte is checked here. */
#ifndef HTTP_HEADER_LINES_H
#define HTTP_HEADER_LINES_H

#include "libshared/base/buf.h"

/* Takes the next line off `*rest`; false when there is none. */
bool header_lines_next(struct span *rest, struct span *line);

enum header_verdict {
    HEADER_OK,
    HEADER_MALFORMED, /* no name, no colon, or a byte that must not be on the wire */
    HEADER_NOT_YOURS  /* framing and connection headers belong to the client module */
};
enum header_verdict header_line_check(struct span line);

#endif
