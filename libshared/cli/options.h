/* SPDX-License-Identifier: Apache-2.0 */
/* getopt_long takes any unambiguous beginning of a long option for the whole, so that a script which says `--out` works
 * until a second option begins like that. Long options are exact here. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>

/* The first word among `argv` that is only the beginning of an option, or NULL; *out_whole is then an option that it
 * begins. `lists` ends with NULL, each list as argp takes it. Words after "--" are no options. */
const char *cli_abbreviated(int argc, char *const *argv, const struct argp_option *const *lists,
                            const char **out_whole);

/* The word of an option as it was given. One that is an address may hold a password, and everybody on the machine can read the words
 * of a command: it is kept elsewhere (never freed) and the word itself made unreadable. */
const char *cli_hidden(char *word);

#endif
