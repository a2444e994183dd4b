/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: list, create, rotate, revoke, disable, enable. The text of a new key is shown once: on stdout, or in a file of mode 0600
 * that is opened before the call, so that a bad path does not cost a key. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/change.h"
#include "libshared/cli/human.h"

enum { KEY_EXPIRES = 0x2000, KEY_GRACE, KEY_OUT_FILE, KEY_ALL };

static struct {
    const char *out_file;
    char expires[WALL_TEXT_CAP];
    int64_t grace_ms;
    bool is_all;
} opt;

static const struct argp_option OPTIONS[] = {
    {"expires", KEY_EXPIRES, "TIME", 0, "create: ends at 2027-01-31T00:00:00Z, or after 720h", 0},
    {"grace", KEY_GRACE, "TIME", 0,
     "rotate: the old text works on for this long, such as 24h (default: not at all)", 0},
    {"out-file", KEY_OUT_FILE, "FILE", 0,
     "create, rotate: writes the key there, mode 0600, instead of showing it", 0},
    {"all", KEY_ALL, 0, 0, "revoke: all keys of a tenant", 0},
    CHANGE_OPTIONS,
    {0},
};

static error_t take_expires(const char *arg, struct argp_state *state)
{
    struct wall t;
    int64_t ms;

    if (human_parse_time(arg, &t)) {
        (void)span_copy(opt.expires, sizeof(opt.expires), span_of(arg));
    } else if (human_parse_duration(arg, &ms) && ms > 0) {
        t = wall_now();
        (void)wall_format((struct wall){t.us + ms * 1000}, opt.expires, sizeof(opt.expires));
    } else {
        ctl_usage(state, "'%s' is no time: write 2027-01-31T00:00:00Z or 720h", arg);
    }
    return 0;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_EXPIRES:
        return take_expires(arg, state);
    case KEY_GRACE:
        if (!human_parse_duration(arg, &opt.grace_ms))
            ctl_usage(state, "'%s' is no time: write 24h", arg);
        return 0;
    case KEY_OUT_FILE:
        opt.out_file = arg;
        return 0;
    case KEY_ALL:
        opt.is_all = true;
        return 0;
    default:
        return change_take(key, arg);
    }
}

const struct table_column KEYS_COLUMNS[] = {
    {"tenant", "TENANT", FORM_TEXT},
    {"id", "KEY", FORM_TEXT},
    {"prefix", "BEGINS", FORM_TEXT},
    {"state", "STATE", FORM_TEXT},
    {"rpm", "RPM", FORM_LIMIT},
    {"tpm", "TPM", FORM_LIMIT},
    {"concurrent", "AT ONCE", FORM_LIMIT},
    {"source", "FROM", FORM_TEXT | FORM_SPARE},
    {"created_at", "CREATED", FORM_AGE | FORM_SPARE},
    {"expires_at", "EXPIRES", FORM_UNTIL},
    {"revoked_at", "REVOKED", FORM_AGE | FORM_SPARE},
    {0},
};

static int list(struct ctl *ctl, FILE *f)
{
    char path[128] = "/api/admin/keys";
    json_t *doc;
    int rc;

    if (ctl->n_args == 2)
        (void)snprintf(path, sizeof(path), "/api/admin/keys?tenant=%s", ctl->args[1]);
    rc = ctl_get(ctl, path, &doc);
    if (!rc && doc) {
        ctl_print(ctl, f, "keys", KEYS_COLUMNS, json_object_get(doc, "keys"), NULL);
        ctl_put_none(ctl, json_object_get(doc, "keys"),
                     "No key is there. To make one: aigwctl keys create TENANT/KEY");
    }
    if (!rc && doc && json_is_false(json_object_get(doc, "complete")))
        ctl_note("aigwctl: the gateway cannot reach its database: keys made there may be missing");
    json_decref(doc);
    return rc;
}

static int show(struct ctl *ctl, FILE *f)
{
    const char *name = ctl->args[1], *slash = strchr(name, '/');
    char path[160];
    json_t *doc, *rows = json_array(), *row;
    size_t i;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/admin/keys?tenant=%.*s", (int)(slash - name), name);
    rc = ctl_get(ctl, path, &doc);
    json_array_foreach(json_object_get(doc, "keys"), i, row)
    {
        const char *id = json_string_value(json_object_get(row, "id"));

        if (id && strcmp(id, slash + 1) == 0)
            (void)json_array_append(rows, row);
    }
    if (!rc && doc && !json_array_size(rows))
        rc = ctl_fail(CLI_NOT_FOUND, "there is no key '%s'", name);
    else if (!rc && doc)
        ctl_print(ctl, f, "key", KEYS_COLUMNS, rows, json_array_get(rows, 0));
    json_decref(rows);
    json_decref(doc);
    return rc;
}

/* ---- the text of a key ----------------------------------------------------------------------------------------------- */

/* -1: to stdout. A file that is there already is left alone. */
static int open_out(int *fd)
{
    *fd = -1;
    if (!opt.out_file)
        return CLI_OK;
    *fd = open(opt.out_file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *fd >= 0
               ? CLI_OK
               : ctl_fail(CLI_USAGE, "cannot write '%s': %s; no key was made", opt.out_file, strerror(errno));
}

static int put_key(struct ctl *ctl, int fd, json_t *doc)
{
    const char *text = json_string_value(json_object_get(doc, "key"));
    size_t n = text ? strlen(text) : 0;

    if (!text)
        return ctl_fail(CLI_FAILED, "the answer holds no key");
    if (fd >= 0) {
        if (write(fd, text, n) != (ssize_t)n || write(fd, "\n", 1) != 1 || fsync(fd))
            return ctl_fail(CLI_FAILED, "cannot write '%s': %s; rotate the key to get another", opt.out_file,
                            strerror(errno));
        (void)json_object_del(doc, "key");
    }
    if (ctl->output == OUTPUT_JSON) {
        ctl_print_document(ctl, stdout, "key", doc);
    } else if (fd >= 0) {
        (void)printf("the key is in '%s'\n", opt.out_file);
    } else {
        term_put(stdout, text);
        (void)putchar('\n');
        (void)fputs("This is the only time that the key is shown.\n", stderr);
    }
    return CLI_OK;
}

static int make_key(struct ctl *ctl, const struct change *c)
{
    json_t *out = NULL;
    int fd, rc = open_out(&fd);

    if (rc) {
        json_decref(c->body);
        return rc;
    }
    rc = change_make(ctl, c, &out);
    if (!rc && out)
        rc = put_key(ctl, fd, out);
    else if (fd >= 0)
        (void)unlink(opt.out_file);
    if (fd >= 0)
        (void)close(fd);
    json_decref(out);
    return rc;
}

static int create(struct ctl *ctl, const char *tenant, const char *id, const char *name)
{
    json_t *body = json_pack("{s:s, s:s}", "tenant", tenant, "id", id);

    if (opt.expires[0])
        (void)json_object_set_new(body, "expires_at", json_string(opt.expires));
    return make_key(
        ctl,
        &(struct change){
            .what = "create key", .name = name, .method = "POST", .path = "/api/admin/keys", .body = body});
}

static int rotate(struct ctl *ctl, const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "/api/admin/keys/%s/rotate", name);
    return make_key(ctl, &(struct change){
                             .danger = opt.grace_ms ? DANGER_MILD : DANGER_MODERATE,
                             .what = "end the present text at once and rotate key",
                             .name = name,
                             .method = "POST",
                             .path = path,
                             .body = json_pack("{s:I}", "grace_seconds", (json_int_t)(opt.grace_ms / 1000))});
}

/* ---- refusing -------------------------------------------------------------------------------------------------------- */

static int put_state(struct ctl *ctl, const char *name, const char *text, json_t *out)
{
    if (out && ctl->output == OUTPUT_JSON)
        ctl_print_document(ctl, stdout, "key", out);
    else if (out)
        (void)printf("%s '%s': %s\n", strchr(name, '/') ? "key" : "all keys of", name, text);
    json_decref(out);
    return CLI_OK;
}

static int revoke_key(struct ctl *ctl, const char *name, bool is_tenant)
{
    char path[256];
    json_t *out;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/admin/keys/%s", name);
    rc = change_make(ctl,
                     &(struct change){.danger = is_tenant ? DANGER_SEVERE : DANGER_MODERATE,
                                      .what = is_tenant ? "revoke all keys of" : "revoke key",
                                      .name = name,
                                      .method = "DELETE",
                                      .path = path},
                     &out);
    return rc ? rc : put_state(ctl, name, "revoked for ever; every node refuses it within 5 s", out);
}

static int set_enabled(struct ctl *ctl, const char *name, bool is_enabled)
{
    char path[256];
    json_t *out;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/admin/keys/%s", name);
    rc = change_make(ctl,
                     &(struct change){.danger = is_enabled ? DANGER_MILD : DANGER_MODERATE,
                                      .what = is_enabled ? "enable key" : "disable key",
                                      .name = name,
                                      .method = "PATCH",
                                      .path = path,
                                      .body = json_pack("{s:b}", "enabled", is_enabled)},
                     &out);
    if (rc || !out)
        return rc;
    (void)put_state(ctl, name, is_enabled ? "disabled → active" : "active → disabled", out);
    if (ctl->output == OUTPUT_TABLE)
        (void)printf("undo: aigwctl keys %s %s\n", is_enabled ? "disable" : "enable", name);
    return CLI_OK;
}

static int run_verb(struct ctl *ctl, const char *verb, const char *name)
{
    struct span id = span_of(name), tenant_span = span_split(&id, '/');
    char tenant[72];

    (void)span_copy(tenant, sizeof(tenant), tenant_span);
    if (opt.is_all && strcmp(verb, "revoke") == 0)
        return !id.p && change_is_name(name) ? revoke_key(ctl, name, true)
                                             : ctl_fail(CLI_USAGE, "keys revoke --all: name a tenant");
    if (tenant_span.len >= sizeof(tenant) || !id.p || !change_is_name(tenant) || !change_is_name(id.p))
        return ctl_fail(CLI_USAGE, "keys %s: name a key as TENANT/KEY, not '%s'", verb, name);
    if (strcmp(verb, "show") == 0)
        return ctl_watch(ctl, show);
    if (strcmp(verb, "create") == 0)
        return create(ctl, tenant, id.p, name);
    if (strcmp(verb, "rotate") == 0)
        return rotate(ctl, name);
    if (strcmp(verb, "revoke") == 0)
        return revoke_key(ctl, name, false);
    if (strcmp(verb, "disable") == 0 || strcmp(verb, "enable") == 0)
        return set_enabled(ctl, name, verb[0] == 'e');
    return ctl_fail(CLI_USAGE,
                    "keys: the verbs are list, show, create, rotate, revoke, disable and enable, not '%s'",
                    verb);
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "list";

    if (strcmp(verb, "list") == 0) {
        if (ctl->n_args == 2 && !change_is_name(ctl->args[1]))
            return ctl_fail(CLI_USAGE, "keys list: '%s' is no name of a tenant", ctl->args[1]);
        return ctl_watch(ctl, list);
    }
    if (ctl->n_args != 2)
        return ctl_fail(CLI_USAGE, "keys %s: name one key as TENANT/KEY", verb);
    return run_verb(ctl, verb, ctl->args[1]);
}

static const struct command_verb VERBS[] = {
    {"list", "[TENANT]", "prefixes, states and dates", READS, "GET /api/admin/keys"},
    {"show", "TENANT/KEY", "one", READS, "GET /api/admin/keys"},
    {"create", "TENANT/KEY", "a new one, whose text is shown once", MILD, "POST /api/admin/keys"},
    {"rotate", "TENANT/KEY", "a new text for it", MODERATE, "POST /api/admin/keys/{tenant}/{id}/rotate"},
    {"revoke", "TENANT/KEY", "end it for ever", MODERATE, "DELETE /api/admin/keys/{tenant}/{id}"},
    {"revoke", "--all TENANT", "end all of a tenant", SEVERE, "DELETE /api/admin/keys/{tenant}/{id}"},
    {"disable", "TENANT/KEY", "refuse it", MODERATE, "PATCH /api/admin/keys/{tenant}/{id}"},
    {"enable", "TENANT/KEY", "take it again", MILD, "PATCH /api/admin/keys/{tenant}/{id}"},
    {0},
};

const struct command CMD_KEYS = {
    .name = "keys",
    .verbs = VERBS,
    .group = GROUP_CONTROL,
    .summary = "API keys of tenants",
    .help = "The text of a new key is shown once and kept nowhere; the gateway has its hash and its first 8 "
            "characters. A "
            "revoked key is refused by every node within 5 s, also one that the configuration file names.\v"
            "  aigwctl keys create acme/web --expires 720h --out-file web.key",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
