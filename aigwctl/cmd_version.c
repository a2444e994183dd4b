/* SPDX-License-Identifier: Apache-2.0 */
/* Which program, which gateway; and the live view, which is a program of its own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/look.h"

static int run_version(struct ctl *ctl)
{
    json_t *doc = NULL, *both;
    int rc = CLI_OK;

    ctl->is_raw = false;
    ctl->timeout_ms = ctl->timeout_ms > 2000 ? 2000 : ctl->timeout_ms;
    if (ctl->output == OUTPUT_TABLE)
        (void)printf("aigwctl " GATEWAYD_VERSION "\n");
    (void)fflush(stdout);
    if (ctl->n_args == 0)
        rc = ctl_get(ctl, "/version", &doc);
    if (ctl->output == OUTPUT_TABLE && doc) {
        ctl_put_member(stdout, doc, "name");
        (void)fputc(' ', stdout);
        ctl_put_member(stdout, doc, "version");
        (void)fputs(" at ", stdout);
        term_put(stdout, ctl->found_url);
        (void)fputc('\n', stdout);
    } else if (ctl->output != OUTPUT_TABLE) {
        both = json_pack("{s:s, s:O?}", "aigwctl", GATEWAYD_VERSION, "gatewayd", doc);
        ctl_print_document(ctl, stdout, "version", both);
        json_decref(both);
    }
    json_decref(doc);
    return rc;
}

static const struct command_verb VERSION_VERBS[] = {{"", "", "both versions", READS, "GET /version"}, {0}};

const struct command CMD_VERSION = {
    .name = "version",
    .verbs = VERSION_VERBS,
    .group = GROUP_SETUP,
    .summary = "the version of this program and of the gateway",
    .help = "-V prints that of this program alone, and asks nobody.\v"
            "  aigwctl version -o json",
    .run = run_version,
};

/* ---- top ------------------------------------------------------------------------------------------------------------- */

static int run_top(struct ctl *ctl)
{
    char beside[4200], self[4096];
    char *argv[64];
    int n = 0;
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    argv[n++] = (char *)(uintptr_t) "aigwtop";
    if (ctl->context) {
        argv[n++] = (char *)(uintptr_t) "-c";
        argv[n++] = (char *)(uintptr_t)ctl->context;
    }
    if (ctl->url) {
        argv[n++] = (char *)(uintptr_t) "--url";
        argv[n++] = (char *)(uintptr_t)ctl->url;
    }
    if (ctl->token_file) {
        argv[n++] = (char *)(uintptr_t) "--token-file";
        argv[n++] = (char *)(uintptr_t)ctl->token_file;
    }
    for (int i = 0; i < ctl->n_args && n + 1 < (int)ARRAY_LEN(argv); i++)
        argv[n++] = ctl->args[i];
    argv[n] = NULL;
    if (len > 0) {
        self[len] = '\0';
        (void)snprintf(beside, sizeof(beside), "%.*saigwtop", (int)(strrchr(self, '/') - self) + 1, self);
        (void)execv(beside, argv);
    }
    (void)execvp("aigwtop", argv);
    return ctl_fail(CLI_FAILED, "cannot run 'aigwtop': %s", strerror(errno));
}

static const struct command_verb TOP_VERBS[] = {{"", "[-- OPTION…]", "aigwtop", READS, NULL}, {0}};

const struct command CMD_TOP = {
    .name = "top",
    .verbs = TOP_VERBS,
    .group = GROUP_LOOK,
    .summary = "the live view: aigwtop with the same gateway",
    .help = "What stands after -- are options of aigwtop.\v"
            "  aigwctl -c prod top -- --view models",
    .run = run_top,
    .max_args = 48,
};
