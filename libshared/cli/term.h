/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream can show, and the exit codes that all operator programs share. */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include <stdbool.h>
#include <stdio.h>

#include "libshared/base/span.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NO_ANSWER = 3,
    CLI_NO_AUTH = 4,
    CLI_NOT_FOUND = 5,
    CLI_CONFLICT = 6,
    CLI_CANCELLED = 7,
    CLI_PARTIAL = 8,
    CLI_WARNING = 10,
    CLI_CRITICAL = 11,
    CLI_STALE = 12,
    CLI_SIGINT = 130,
    CLI_SIGTERM = 143,
};

enum term_color { TERM_COLOR_AUTO, TERM_COLOR_ALWAYS, TERM_COLOR_NEVER };

/* --color, then NO_COLOR, then CLICOLOR_FORCE and FORCE_COLOR, then the terminal, then TERM=dumb. */
bool term_wants_color(FILE *f, enum term_color option);
bool term_is_tty(FILE *f);
/* Columns of the terminal; 80 when it is none or does not say. */
unsigned term_width(FILE *f);
/* Rows that the text takes on a terminal of that width. Colours take no room; every character takes one column. */
unsigned term_rows(const char *text, unsigned width);
/* Printable text: control characters become '?', so that no server can move the cursor. Line ends stay. */
void term_put(FILE *f, const char *text);
/* Columns that a byte adds. Every character takes one; where the locale is not UTF-8, the layout library of tables writes each
 * byte of the others as \xNN. */
unsigned term_step(char byte);
/* Bytes of the first line of a text that is wrapped: up to a blank, else behind a mark between words, else to the edge. */
size_t term_line_len(const char *text, unsigned width);
/* The same as term_put() in lines of `width` columns, of which the first begins at `indent` and others get there by blanks; 0: as
 * it is. */
void term_put_wrapped(FILE *f, const char *text, unsigned indent, unsigned width);
/* A server's own bytes: as they are, but like term_put (tabs stay too) where `f` is a terminal. */
void term_put_body(FILE *f, struct span body);
/* Bytes of the control character that `text` begins with: C0, C1 in UTF-8, and what turns the direction of text; 0: it is
 * none. */
size_t term_control(struct span text);

#endif
