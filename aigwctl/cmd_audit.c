/* SPDX-License-Identifier: Apache-2.0 */
/* Who changed what. Each entry's hash covers the one before it; the gateway proves the chain. */
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/base/buf.h"

enum { KEY_SINCE = 0x2000, KEY_ACTION, KEY_SUBJECT };

static const struct argp_option OPTIONS[] = {
    {"since", KEY_SINCE, "WHEN", 0, "list: how long ago (24h), or a time", 0},
    {"action", KEY_ACTION, "ACTION", 0, "list: only these, such as tenant.create", 0},
    {"subject", KEY_SUBJECT, "SUBJECT", 0, "list: only about it, such as acme", 0},
    {0},
};

static const char *since, *action, *subject;

static error_t take(int key, char *arg, struct argp_state *state)
{
    const char **to = key == KEY_SINCE     ? &since
                      : key == KEY_ACTION  ? &action
                      : key == KEY_SUBJECT ? &subject
                                           : NULL;

    (void)state;
    if (!to)
        return ARGP_ERR_UNKNOWN;
    *to = arg;
    return 0;
}

const struct table_column AUDIT_COLUMNS[] = {
    {"at", "WHEN", FORM_AGE},
    {"id", "ID", FORM_NUMBER},
    {"actor", "WHO", FORM_TEXT},
    {"action", "ACTION", FORM_NAME},
    {"subject", "SUBJECT", FORM_TEXT | FORM_WRAP},
    {"reason", "REASON", FORM_TEXT | FORM_WRAP},
    {"hash", "HASH", FORM_TEXT | FORM_WIDE},
    {0},
};

static int list(struct ctl *ctl, FILE *f)
{
    struct buf path AUTO(buf_release) = {.max = 4096};
    char limit[24] = "100";
    json_t *doc, *rows, *row;
    size_t i;
    int rc;

    if (ctl->is_all)
        (void)snprintf(limit, sizeof(limit), "1000");
    else if (ctl->wish.limit)
        (void)snprintf(limit, sizeof(limit), "%zu", ctl->wish.limit < 1000 ? ctl->wish.limit : 1000);
    buf_addz(&path, "/api/admin/audit");
    look_add_param(&path, "limit", limit);
    look_add_param(&path, "since", since);
    look_add_param(&path, "action", action);
    look_add_param(&path, "subject", subject);
    rc = ctl_get(ctl, path.p, &doc);
    if (rc || !doc)
        return rc;
    rows = look_rows(doc, "entries", NULL);
    json_array_foreach(rows, i, row)
    {
        json_t *reason = json_object_get(json_object_get(row, "detail"), "reason");

        if (json_is_string(reason))
            (void)json_object_set(row, "reason", reason);
    }
    ctl_print(ctl, f, "audit", AUDIT_COLUMNS, rows, NULL);
    ctl_put_none(ctl, rows, "Nothing was changed yet.");
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int verify(struct ctl *ctl)
{
    json_t *doc;
    int rc = ctl_get(ctl, "/api/admin/audit/verify", &doc);
    bool is_intact;

    if (rc || !doc)
        return rc;
    is_intact = json_is_true(json_object_get(doc, "intact"));
    if (ctl->output == OUTPUT_JSON) {
        ctl_print_document(ctl, stdout, "audit-verify", doc);
    } else if (is_intact) {
        (void)printf("%lld entries, each follows from the one before\nlast hash ",
                     (long long)json_integer_value(json_object_get(doc, "entries")));
        ctl_put_member(stdout, doc, "last_hash");
        (void)fputc('\n', stdout);
    } else {
        rc = ctl_fail(CLI_CRITICAL,
                      "the chain is broken at entry %lld: it, or one before it, was changed or taken out",
                      (long long)json_integer_value(json_object_get(doc, "first_broken_id")));
    }
    json_decref(doc);
    return is_intact ? CLI_OK : CLI_CRITICAL;
}

static int run(struct ctl *ctl)
{
    return ctl->n_args && strcmp(ctl->args[0], "verify") == 0 ? verify(ctl) : ctl_watch(ctl, list);
}

static const struct command_verb VERBS[] = {
    {"list", "", "the last changes, newest first", READS, "GET /api/admin/audit"},
    {"verify", "", "whether any entry was changed or taken out", READS, "GET /api/admin/audit/verify"},
    {0},
};

const struct command CMD_AUDIT = {
    .name = "audit",
    .verbs = VERBS,
    .group = GROUP_DATA,
    .summary = "who changed what, and whether the log is whole",
    .help = "Every change has an entry whose hash covers the entry before. Note the last hash elsewhere to "
            "notice when the "
            "whole log is replaced.\v"
            "  aigwctl audit list --since 24h --action key.revoke",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 1,
};
