/* SPDX-License-Identifier: Apache-2.0 */
/* The way out: any call, with the address and token at hand; and the reload, which is one such call. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/command.h"

static const char *data;

static const struct argp_option OPTIONS[] = {
    {"data", 'd', "TEXT", 0, "the body; @FILE reads it from a file, @- from stdin", 0},
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    (void)state;
    if (key != 'd')
        return ARGP_ERR_UNKNOWN;
    data = arg;
    return 0;
}

static int read_body(struct buf *b)
{
    FILE *f;
    char chunk[16384];
    size_t n;

    if (data[0] != '@') {
        buf_addz(b, data);
        return CLI_OK;
    }
    f = strcmp(data, "@-") == 0 ? stdin : fopen(data + 1, "re");
    if (!f)
        return ctl_fail(CLI_USAGE, "cannot read '%s': %s", data + 1, strerror(errno));
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        buf_add(b, span_make(chunk, n));
    if (f != stdin)
        (void)fclose(f);
    return CLI_OK;
}

static bool is_method(const char *z)
{
    if (!*z || strlen(z) > 10)
        return false;
    for (; *z; z++)
        if (!isupper((unsigned char)*z))
            return false;
    return true;
}

static int run(struct ctl *ctl)
{
    struct buf body AUTO(buf_release) = {0};
    struct api_answer a = {0};
    int rc;

    if (ctl->n_args != 2 || !is_method(ctl->args[0]) || ctl->args[1][0] != '/')
        return ctl_fail(CLI_USAGE, "api: write a method and a path, such as 'aigwctl api GET /version'");
    rc = data ? read_body(&body) : CLI_OK;
    if (!rc)
        rc = ctl_call(ctl, ctl->args[0], ctl->args[1], data ? buf_span(&body) : (struct span){0}, &a);
    if (!rc && a.status >= 200 && a.status <= 299)
        term_put_body(stdout, buf_span(&a.body));
    else if (!rc)
        rc = ctl_refused(&a);
    api_answer_release(&a);
    return rc;
}

static const struct command_verb VERBS[] = {
    {"", "METHOD PATH", "one call", READS, NULL},
    {0},
};

const struct command CMD_API = {
    .name = "api",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "any call of the gateway's API",
    .help = "Calls any path with the address and token that the other commands use, and prints the answer as "
            "it is (on a terminal without control characters).\v"
            "  aigwctl api GET /metrics/json",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};

static int run_reload(struct ctl *ctl)
{
    json_t *doc;
    int rc = ctl_post(ctl, "/api/admin/reload", &doc);

    if (!rc && doc && ctl->output == OUTPUT_JSON)
        ctl_print_document(ctl, stdout, "reload", doc);
    else if (!rc && doc)
        (void)printf("reloaded, configuration version %lld\n",
                     (long long)json_integer_value(json_object_get(doc, "config_version")));
    json_decref(doc);
    return rc;
}

static const struct command_verb RELOAD_VERBS[] = {
    {"", "", "read and swap", MILD, "POST /api/admin/reload"},
    {0},
};

const struct command CMD_RELOAD = {
    .name = "reload",
    .verbs = RELOAD_VERBS,
    .group = GROUP_CONTROL,
    .summary = "read the configuration again",
    .help = "The gateway reads its configuration again and swaps it at once; a file that is not valid "
            "changes nothing, and its "
            "mistake is shown.\v"
            "  aigwctl reload",
    .run = run_reload,
};
