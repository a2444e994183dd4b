/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/options.h"

#include <stdlib.h>
#include <string.h>

/* Rows without any member end a list; rows without a name are headings or short options. */
static bool is_end(const struct argp_option *o)
{
    return !o->name && !o->key && !o->doc && !o->group;
}

/* Sets *whole when `name` begins an option; true when it is one. */
static bool is_exact(const char *name, size_t len, const struct argp_option *list, const char **whole)
{
    for (; !is_end(list); list++) {
        if (!list->name || strncmp(list->name, name, len) != 0)
            continue;
        if (list->name[len] == '\0')
            return true;
        *whole = list->name;
    }
    return false;
}

const char *cli_abbreviated(int argc, char *const *argv, const struct argp_option *const *lists,
                            const char **out_whole)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *whole = NULL;
        bool exact = strncmp(argv[i], "--", 2) != 0;

        for (size_t l = 0; lists[l] && !exact; l++)
            exact = is_exact(argv[i] + 2, strcspn(argv[i] + 2, "="), lists[l], &whole);
        if (!exact && whole) {
            *out_whole = whole;
            return argv[i];
        }
    }
    return NULL;
}

const char *cli_hidden(char *word)
{
    char *kept = strstr(word, "://") ? strdup(word) : word;

    if (!kept)
        abort();
    if (kept != word)
        memset(word, 'x', strlen(word));
    return kept;
}
