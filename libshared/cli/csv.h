/* SPDX-License-Identifier: Apache-2.0 */
/* A text as one field of CSV (RFC 4180), for every program that prints some. What a spreadsheet would take for a formula gets an
 * apostrophe in front; what would move a terminal's cursor or turn the direction of text is a question mark. */
#ifndef CLI_CSV_H
#define CLI_CSV_H

#include "libshared/base/buf.h"

void csv_add_text(struct buf *b, const char *z);

#endif
