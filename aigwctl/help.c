/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of help, from the table of commands. Whatever way a page is asked for, it is the same one. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/command.h"
#include "libshared/base/buf.h"

const char *const COMMAND_GROUPS[GROUP_COUNT] = {"Look", "Control", "Data", "Alerts", "Setup"};

/* ---- near misses --------------------------------------------------------------------------------------------------- */

/* Edits between two short words. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);

    if (n >= 64 || strlen(a) >= 64)
        return 64;
    for (size_t i = 0; i <= n; i++)
        row[i] = i;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t k = 0; k < n; k++) {
            size_t best = diagonal + (a[i] != b[k]);

            diagonal = row[k + 1];
            if (row[k] + 1 < best)
                best = row[k] + 1;
            if (diagonal + 1 < best)
                best = diagonal + 1;
            row[k + 1] = best;
        }
    }
    return row[n];
}

const char *help_nearest(const char *word, const char *const *list)
{
    const char *best = NULL;
    size_t least = strlen(word) > 5 ? 4 : 3;

    for (; *list; list++) {
        size_t d = distance(word, *list);

        if (d < least) {
            least = d;
            best = *list;
        }
    }
    return best;
}

int help_unknown_command(const char *name)
{
    const char *names[64];
    const char *best;
    size_t n = 0;

    for (const struct command *const *c = COMMANDS; *c && n + 1 < ARRAY_LEN(names); c++)
        names[n++] = (*c)->name;
    names[n] = NULL;
    best = help_nearest(name, names);
    if (best)
        return ctl_fail(CLI_USAGE, "unknown command \"%s\". Did you mean \"%s\"?", name, best);
    return ctl_fail(CLI_USAGE, "unknown command \"%s\". 'aigwctl help' lists them", name);
}

/* ---- pages --------------------------------------------------------------------------------------------------------- */

static void print_group(enum command_group g)
{
    int column = printf("%-9s", COMMAND_GROUPS[g]);

    for (const struct command *const *c = COMMANDS; *c; c++) {
        if ((*c)->group != g)
            continue;
        if (column + 1 + (int)strlen((*c)->name) > 79)
            column = printf("\n%9s", "") - 1;
        column += printf(" %s", (*c)->name);
    }
    (void)putchar('\n');
}

static int print_overview(void)
{
    (void)puts("aigwctl looks at, controls and reports on a gatewayd.\n\n"
               "  aigwctl demo               a gateway with simulated providers, to try it all\n"
               "  aigwctl health             which provider is well, and which is not\n"
               "  aigwctl explain REQUEST    why a request went as it did, by its x-request-id\n");
    for (enum command_group g = 0; g < GROUP_COUNT; g++)
        print_group(g);
    (void)fputs("\n'aigwctl COMMAND --help' explains one, 'aigwctl help TOPIC' the rest:\n", stdout);
    for (const struct help_topic *t = HELP_TOPICS; t->name; t++)
        (void)printf("%s%s", t->name, t[1].name ? ", " : ".\n");
    return CLI_OK;
}

/* Texts of pages live as long as the program. */
const char *help_usage(const struct command *c)
{
    static struct buf text;

    text.len = 0;
    for (const struct command_verb *v = c->verbs; v->name; v++)
        buf_addf(&text, "%s%s%s%s", v == c->verbs ? "" : "\n", v->name, *v->name && *v->args ? " " : "",
                 v->args);
    return text.len ? text.p : "";
}

struct argp help_argp(const struct command *c, argp_parser_t parser, const struct argp_child *children)
{
    return (struct argp){.options = c->options,
                         .parser = parser,
                         .args_doc = help_usage(c),
                         .doc = c->help,
                         .children = children};
}

#define PAGE_WIDTH     79
#define SUMMARY_COLUMN 40u /* at most: where summaries of verbs begin */

static void print_usage(const struct command *c)
{
    bool has_verbs = c->verbs[1].name != NULL;
    unsigned column = 0, n;

    for (const struct command_verb *v = c->verbs; v->name; v++) {
        n = (unsigned)(strlen(c->name) + strlen(v->name) + strlen(v->args)) + (*v->name && *v->args) + 18;
        column = n > column && n <= SUMMARY_COLUMN ? n : column;
    }
    column = column ? column : SUMMARY_COLUMN;
    for (const struct command_verb *v = c->verbs; v->name; v++) {
        n = (unsigned)printf("%s aigwctl %s%s%s%s%s", v == c->verbs ? "Usage:" : "      ", c->name,
                             *v->name ? " " : "", v->name, *v->args ? " " : "", v->args);
        if (has_verbs) {
            (void)printf("%s%*s", n + 2 > column ? "\n" : "", (int)(n + 2 > column ? column : column - n),
                         "");
            term_put_wrapped(stdout, v->summary, column, PAGE_WIDTH);
        }
        (void)putchar('\n');
    }
}

static bool has_option(const struct argp_option *list, const char *name)
{
    for (; list && (list->name || list->key || list->doc || list->group); list++)
        if (list->name && strcmp(list->name, name) == 0)
            return true;
    return false;
}

/* Options of all commands but for those that the command has a meaning of its own for. */
static const struct argp_option *options_left(const struct command *c)
{
    static struct argp_option left[48];
    size_t n = 0;

    for (const struct argp_option *o = GLOBAL_OPTIONS; o->name || o->key || o->doc || o->group; o++)
        if ((!o->name || !has_option(c->options, o->name)) && n + 1 < ARRAY_LEN(left))
            left[n++] = *o;
    left[n] = (struct argp_option){0};
    return left;
}

/* The command's own options, then those of all commands. */
int help_command(const struct command *c)
{
    const struct argp global = {.options = options_left(c)};
    const struct argp_child children[] = {{&global, 0, NULL, 100}, {0}};
    struct argp parser = help_argp(c, NULL, children);
    const char *end = strchr(c->help, '\v');
    char name[64], *prose = strndup(c->help, end ? (size_t)(end - c->help) : strlen(c->help));

    if (!prose)
        abort();
    (void)snprintf(name, sizeof(name), "aigwctl %s", c->name);
    (void)setenv("ARGP_HELP_FMT", "no-dup-args-note,opt-doc-col=26,rmargin=79", 0);
    print_usage(c);
    (void)putchar('\n');
    parser.doc = prose;
    argp_help(&parser, stdout, ARGP_HELP_PRE_DOC, name);
    (void)putchar('\n');
    argp_help(&parser, stdout, ARGP_HELP_LONG, name);
    if (end)
        (void)printf("\n%s\n", end + 1);
    free(prose);
    return CLI_OK;
}

int help_show(const char *topic)
{
    const struct command *c = topic ? command_find(topic) : NULL;

    if (!topic)
        return print_overview();
    for (const struct help_topic *t = HELP_TOPICS; t->name; t++)
        if (strcmp(t->name, topic) == 0)
            return fputs(t->text, stdout) < 0 ? CLI_FAILED : CLI_OK;
    return c ? help_command(c) : help_unknown_command(topic);
}
