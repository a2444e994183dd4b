/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's configuration, and the contexts of this program. What a file means only the gateway's own reader knows, so the
 * gatewayd beside this program is asked to read it; what runs, the running gateway says. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/alerts.h"
#include "aigwctl/look.h"
#include "libshared/base/buf.h"

enum {
    KEY_ORIGIN = 0x2000,
    KEY_CHANGED,
    KEY_PROFILE,
    KEY_SOCKET,
    KEY_READ_ONLY,
    KEY_REDIS,
    KEY_DATABASE,
    KEY_PROMETHEUS
};

static const struct argp_option OPTIONS[] = {
    {"origin", KEY_ORIGIN, 0, 0, "show: where each value came from", 0},
    {"changed", KEY_CHANGED, 0, 0, "show: only what is not the default", 0},
    {"profile", KEY_PROFILE, "demo|single|prod", 0, "init: which file (default single)", 0},
    {"socket", KEY_SOCKET, "FILE", 0, "set: the admin socket, in place of --url", 0},
    {"read-only", KEY_READ_ONLY, "yes|no", 0, "set: refuse what changes something", 0},
    {"redis", KEY_REDIS, "URL", 0, "set: its realtime store", 0},
    {"database", KEY_DATABASE, "URL", 0, "set: its history store, or its SQLite file", 0},
    {"prometheus", KEY_PROMETHEUS, "URL", 0, "set: the Prometheus that scrapes it", 0},
    {0},
};

static struct {
    bool is_changed, has_origin;
    const char *profile, *socket, *read_only, *redis, *database, *prometheus;
} opt = {.profile = "single"};

static error_t take(int key, char *arg, struct argp_state *state)
{
    const char **to = key == KEY_PROFILE      ? &opt.profile
                      : key == KEY_SOCKET     ? &opt.socket
                      : key == KEY_READ_ONLY  ? &opt.read_only
                      : key == KEY_REDIS      ? &opt.redis
                      : key == KEY_DATABASE   ? &opt.database
                      : key == KEY_PROMETHEUS ? &opt.prometheus
                                              : NULL;

    if (to)
        *to = arg;
    else if (key == KEY_ORIGIN)
        opt.has_origin = true;
    else if (key == KEY_CHANGED)
        opt.is_changed = true;
    else
        return ARGP_ERR_UNKNOWN;
    if (key == KEY_READ_ONLY && strcmp(arg, "yes") != 0 && strcmp(arg, "no") != 0)
        ctl_usage(state, "--read-only takes yes or no, not '%s'", arg);
    return 0;
}

/* ---- the gatewayd beside ---------------------------------------------------------------------------------------------- */

static void find_gatewayd(char *dst, size_t cap)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n > 0) {
        self[n] = '\0';
        (void)snprintf(dst, cap, "%.*sgatewayd", (int)(strrchr(self, '/') - self) + 1, self);
        if (access(dst, X_OK) == 0)
            return;
    }
    (void)snprintf(dst, cap, "gatewayd");
}

static const char *default_file(void)
{
    return getenv("GATEWAYD_CONFIG") ? getenv("GATEWAYD_CONFIG") : "/etc/gatewayd/gatewayd.yaml";
}

/* Its log lines as sentences, the rest as it is; the number of warnings. */
static unsigned print_said(struct span rest)
{
    unsigned warnings = 0;

    while (rest.len) {
        struct span line = span_split(&rest, '\n');
        json_t *o = line.len && line.p[0] == '{' ? json_loadb(line.p, line.len, 0, NULL) : NULL;
        const char *level = json_string_value(json_object_get(o, "level"));
        const char *text = json_string_value(json_object_get(o, "msg"));
        char plain[4096];

        warnings += level && strcmp(level, "warn") == 0;
        (void)span_copy(plain, sizeof(plain), text ? span_of(text) : line);
        ctl_put_text(stdout, plain, text ? (unsigned)printf("%s: ", level ? level : "note") : 0);
        if (line.len)
            (void)putchar('\n');
        json_decref(o);
    }
    return warnings;
}

static int check(struct ctl *ctl)
{
    const char *file = ctl->n_args > 1 ? ctl->args[1] : default_file();
    char gatewayd[4200];
    const char *argv[] = {gatewayd, "-c", file, "--check-config", NULL};
    struct buf said AUTO(buf_release) = {.max = 1 << 20};
    unsigned warnings;
    int code;

    if (access(file, R_OK))
        return ctl_fail(errno == ENOENT ? CLI_NOT_FOUND : CLI_FAILED, "cannot read '%s': %s", file,
                        strerror(errno));
    find_gatewayd(gatewayd, sizeof(gatewayd));
    code = tool_run(&said, argv);
    if (code < 0)
        return ctl_fail(CLI_FAILED, "there is no gatewayd to read it with");
    warnings = print_said(buf_span(&said));
    return code ? CLI_CRITICAL : warnings ? CLI_WARNING : CLI_OK;
}

/* ---- values ----------------------------------------------------------------------------------------------------------- */

const struct table_column CONFIG_COLUMNS[] = {
    {"path", "KEY", FORM_NAME},
    {"value", "VALUE", FORM_TEXT | FORM_WRAP},
    {"default", "DEFAULT", FORM_TEXT | FORM_WRAP},
    {"live", "RELOAD", FORM_YES},
    {"origin", "ORIGIN", FORM_TEXT | FORM_WIDE},
    {"type", "TYPE", FORM_TEXT | FORM_WIDE},
    {"env", "VARIABLE", FORM_TEXT | FORM_WIDE},
    {0},
};

static const struct table_column WITH_ORIGIN[] = {
    {"path", "KEY", FORM_NAME},
    {"value", "VALUE", FORM_TEXT | FORM_WRAP},
    {"origin", "ORIGIN", FORM_TEXT | FORM_WRAP},
    {0},
};

static json_t *changed_only(json_t *rows)
{
    json_t *kept = json_array(), *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        const char *origin = json_string_value(json_object_get(row, "origin"));

        if (origin && strcmp(origin, "default") != 0)
            (void)json_array_append(kept, row);
    }
    json_decref(rows);
    return kept;
}

static int show(struct ctl *ctl, FILE *f)
{
    json_t *doc, *rows;
    int rc = ctl_get(ctl, "/api/admin/config", &doc);

    if (rc || !doc)
        return rc;
    rows = look_rows(doc, "options", NULL);
    if (opt.is_changed)
        rows = changed_only(rows);
    ctl_print(ctl, f, "config", opt.has_origin && ctl->format == FORMAT_TABLE ? WITH_ORIGIN : CONFIG_COLUMNS,
              rows, NULL);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

/* Of the gatewayd beside: every option; with a file, its values. The caller's. */
static int read_values(const char *file, json_t **out)
{
    char gatewayd[4200];
    const char *argv[] = {gatewayd, "--print-config-json", file ? "-c" : NULL, file, NULL};
    struct buf said AUTO(buf_release) = {.max = 4 << 20};
    int code;

    *out = NULL;
    if (file && access(file, R_OK))
        return ctl_fail(errno == ENOENT ? CLI_NOT_FOUND : CLI_FAILED, "cannot read '%s': %s", file,
                        strerror(errno));
    find_gatewayd(gatewayd, sizeof(gatewayd));
    code = tool_run(&said, argv);
    if (code == 0)
        *out = json_loadb(said.p ? said.p : "", said.len, 0, NULL);
    if (*out)
        return CLI_OK;
    if (said.len)
        (void)fwrite(said.p, 1, said.len, stderr);
    return code > 0 ? CLI_CRITICAL : ctl_fail(CLI_FAILED, "there is no gatewayd that tells its options");
}

static const char *text_of(const json_t *row, const char *name)
{
    const char *z = json_string_value(json_object_get(row, name));

    return z && *z ? z : NULL;
}

static void print_member(const char *heading, const char *z)
{
    if (!z)
        return;
    ctl_put_text(stdout, z, (unsigned)printf("  %-10s ", heading));
    (void)putchar('\n');
}

static int explain(struct ctl *ctl)
{
    json_t *doc, *row, *found = NULL;
    const char *key = ctl->n_args > 1 ? ctl->args[1] : NULL;
    const char *names[512];
    const char *nearest;
    size_t i, n = 0;
    int rc = key ? read_values(NULL, &doc) : ctl_fail(CLI_USAGE, "config: explain which key?");

    if (rc)
        return rc;
    json_array_foreach(json_object_get(doc, "options"), i, row)
    {
        const char *is = text_of(row, "path");

        if (is && strcmp(is, key) == 0)
            found = row;
        if (is && n + 1 < ARRAY_LEN(names))
            names[n++] = is;
    }
    names[n] = NULL;
    nearest = found ? NULL : help_nearest(key, names);
    if (!found)
        rc = nearest ? ctl_fail(CLI_NOT_FOUND, "no option is '%s'. Closest: %s", key, nearest)
                     : ctl_fail(CLI_NOT_FOUND, "no option is '%s'", key);
    else if (ctl->output != OUTPUT_TABLE)
        ctl_print_document(ctl, stdout, "config-option", found);
    else {
        ctl_put_text(stdout, text_of(found, "text") ? text_of(found, "text") : "",
                     (unsigned)printf("%s: ", key));
        (void)putchar('\n');
        print_member("type", text_of(found, "type"));
        print_member("default", text_of(found, "default"));
        print_member("changes by", json_is_true(json_object_get(found, "live")) ? "reload" : "restart");
        print_member("variable", text_of(found, "env"));
        print_member("also", text_of(found, "alias"));
    }
    json_decref(doc);
    return rc;
}

static const struct table_column DIFF_COLUMNS[] = {{"path", "KEY", FORM_NAME},
                                                   {"running", "RUNNING", FORM_TEXT | FORM_WRAP},
                                                   {"file", "FILE", FORM_TEXT | FORM_WRAP},
                                                   {"live", "RELOAD", FORM_YES},
                                                   {0}};

static json_t *by_key(const json_t *doc)
{
    json_t *out = json_object(), *row;
    size_t i;

    json_array_foreach(json_object_get(doc, "options"), i, row) if (text_of(row, "path"))(void)
        json_object_set(out, text_of(row, "path"), row);
    return out;
}

/* What a flag or a variable of the gateway decides no file changes, and defaults follow from those. */
static bool is_of_file(const json_t *row)
{
    const char *origin = text_of(row, "origin");

    return origin && strncmp(origin, "flag ", 5) != 0 && strncmp(origin, "environment ", 12) != 0 &&
           strcmp(origin, "default") != 0;
}

static int diff(struct ctl *ctl)
{
    json_t *running, *written, *a, *b, *rows = json_array(), *row;
    const char *file, *key;
    int rc = ctl_get(ctl, "/api/admin/config", &running);

    if (rc || !running) {
        json_decref(rows);
        return rc;
    }
    file = ctl->n_args > 1 ? ctl->args[1] : text_of(running, "path");
    rc = read_values(file ? file : default_file(), &written);
    a = by_key(running);
    b = by_key(written);
    json_object_foreach(rc ? NULL : a, key, row)
    {
        const json_t *was = json_object_get(row, "value"),
                     *is = json_object_get(json_object_get(b, key), "value");

        if (!is_of_file(row) && !is_of_file(json_object_get(b, key)))
            continue;
        if (!json_equal(was, is))
            (void)json_array_append_new(rows,
                                        json_pack("{s:s, s:O?, s:O?, s:O?}", "path", key, "running", was,
                                                  "file", is, "changes", json_object_get(row, "changes")));
    }
    if (!rc && json_array_size(rows))
        ctl_print(ctl, stdout, "config-diff", DIFF_COLUMNS, rows, NULL);
    else if (!rc && ctl->output == OUTPUT_TABLE && !ctl->is_quiet)
        (void)fputs("the gateway runs what the file says\n", stderr);
    rc = rc ? rc : json_array_size(rows) ? CLI_WARNING : CLI_OK;
    json_decref(a);
    json_decref(b);
    json_decref(rows);
    json_decref(written);
    json_decref(running);
    return rc;
}

/* ---- a first file ------------------------------------------------------------------------------------------------------ */

#define INIT_HEAD                                                                                            \
    "# Configuration of gatewayd; every option is in docs/configuration.md and 'aigwctl config explain "     \
    "KEY'.\n"                                                                                                \
    "# Check it: aigwctl config check gatewayd.yaml\n\n"

static const char *const PROFILES[][2] = {
    {"demo",
     INIT_HEAD "# Simulated providers need no file: gatewayd --demo. This one serves on this machine alone.\n"
               "listen: 127.0.0.1:8080\n"
               "providers:\n"
               "  - {name: sim, kind: openai, base_url: http://127.0.0.1:9100/sim/v1, api_keys: [sim-key],\n"
               "     allow_private: true}   # gatewayd --simulate 127.0.0.1:9100\n"
               "models:\n"
               "  - {name: chat, targets: [{provider: sim, model: echo}]}\n"},
    {"single",
     INIT_HEAD "listen: 127.0.0.1:8080\n"
               "providers:\n"
               "  # 1. The provider. Its key comes from the environment or a file, never from here.\n"
               "  - {name: openai, kind: openai, api_keys: ['${OPENAI_API_KEY}']}\n"
               "models:\n"
               "  # 2. What applications call `chat`.\n"
               "  - {name: chat, targets: [{provider: openai, model: gpt-4o-mini}], retries: 2}\n"
               "# Tenants and keys: aigwctl tenants create, aigwctl keys create.\n"},
    {"prod", INIT_HEAD
     "listen: 0.0.0.0:8080\n"
     "# tls: {cert: /etc/gatewayd/tls.crt, key: /etc/gatewayd/tls.key}\n"
     "admin: {listen: 127.0.0.1:8081, token: '${GATEWAYD_TOKEN}'}\n"
     "redis: '${REDIS_URL:-}'         # several nodes share limits, breakers and health by it\n"
     "database: '${DATABASE_URL:-}'   # postgresql://...; empty: SQLite in the state directory\n"
     "metrics: {allow: [127.0.0.0/8]}\n"
     "providers:\n"
     "  - {name: openai, kind: openai, api_keys: ['${OPENAI_API_KEY}'], max_concurrent: 200}\n"
     "  - {name: anthropic, kind: anthropic, api_keys: ['${ANTHROPIC_API_KEY}'], max_concurrent: 200}\n"
     "models:\n"
     "  - name: chat\n"
     "    strategy: priority\n"
     "    targets: [{provider: openai, model: gpt-4o-mini}, {provider: anthropic, model: "
     "claude-sonnet-4-5}]\n"
     "    retries: 2\n"
     "breaker: {failures: 5, open_for: 30s}\n"},
};

/* A new file, or to standard output; nothing that is there is overwritten. */
static int init(struct ctl *ctl)
{
    const char *path = ctl->n_args > 1 ? ctl->args[1] : NULL, *text = NULL;
    bool is_written;
    int fd;

    for (size_t i = 0; i < ARRAY_LEN(PROFILES); i++)
        if (strcmp(PROFILES[i][0], opt.profile) == 0)
            text = PROFILES[i][1];
    if (!text)
        return ctl_fail(CLI_USAGE, "config: --profile takes demo, single or prod, not '%s'", opt.profile);
    if (!path)
        return fputs(text, stdout) < 0 ? CLI_FAILED : CLI_OK;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return ctl_fail(errno == EEXIST ? CLI_CONFLICT : CLI_FAILED, "'%s': %s", path,
                        errno == EEXIST ? "is there already, and is not overwritten" : strerror(errno));
    is_written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (close(fd) || !is_written)
        return ctl_fail(CLI_FAILED, "cannot write '%s'", path);
    if (!ctl->is_quiet)
        (void)fprintf(stderr, "%s is written. Next: aigwctl config check %s\n", path, path);
    return CLI_OK;
}

/* ---- contexts ---------------------------------------------------------------------------------------------------------- */

const struct table_column CONTEXT_COLUMNS[] = {
    {"current", "", FORM_TEXT},
    {"name", "NAME", FORM_NAME},
    {"url", "URL", FORM_TEXT | FORM_WRAP},
    {"read_only", "READ-ONLY", FORM_YES},
    {"token_file", "TOKEN FILE", FORM_TEXT | FORM_WIDE},
    {"database", "DATABASE", FORM_TEXT | FORM_WIDE},
    {"redis", "REDIS", FORM_TEXT | FORM_WIDE},
    {"prometheus", "PROMETHEUS", FORM_TEXT | FORM_WIDE},
    {0},
};

static json_t *text_json(const char *z)
{
    return *z ? json_string(z) : json_null();
}

/* An address without its user and password. */
static json_t *address_json(const char *z)
{
    const char *scheme = strstr(z, "://"), *at = scheme ? strrchr(scheme, '@') : NULL;
    char shown[CONTEXT_TEXT_CAP];

    if (!at)
        return text_json(z);
    (void)snprintf(shown, sizeof(shown), "%.*s%s", (int)(scheme + 3 - z), z, at + 1);
    return json_string(shown);
}

static json_t *context_json(const struct context *x, const char *current)
{
    return json_pack("{s:s, s:s, s:o, s:b, s:o, s:o, s:o, s:o}", "current",
                     strcmp(x->name, current) == 0 ? "*" : "", "name", x->name, "url", text_json(x->url),
                     "read_only", x->is_read_only, "token_file", text_json(x->token_file), "database",
                     address_json(x->database), "redis", address_json(x->redis), "prometheus",
                     text_json(x->prometheus));
}

static void add_running(void *user, const struct context *x)
{
    (void)json_array_append_new(user, context_json(x, ""));
}

static int contexts(struct ctl *ctl, struct contexts *c)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < c->n; i++)
        (void)json_array_append_new(rows, context_json(&c->list[i], c->current));
    contexts_running(add_running, rows);
    ctl_print(ctl, stdout, "contexts", CONTEXT_COLUMNS, rows, NULL);
    if (!json_array_size(rows) && ctl->output == OUTPUT_TABLE && !ctl->is_quiet)
        ctl_note("none yet in %s; aigwctl config set NAME --url http://HOST:PORT", c->path);
    json_decref(rows);
    return CLI_OK;
}

static bool put(char dst[CONTEXT_TEXT_CAP], const char *z)
{
    return !z || (strlen(z) < CONTEXT_TEXT_CAP && snprintf(dst, CONTEXT_TEXT_CAP, "%s", z) >= 0);
}

/* Of a file by its whole path: the next command, or cron, may be in another folder. */
static bool put_path(char dst[CONTEXT_TEXT_CAP], const char *z)
{
    char here[CONTEXT_TEXT_CAP];
    int n;

    if (!z || !*z || strchr("/~", z[0]) || strstr(z, "://") || strncmp(z, "file:/", 6) == 0)
        return put(dst, z);
    if (!getcwd(here, sizeof(here)))
        return false;
    n = snprintf(dst, CONTEXT_TEXT_CAP, "%s/%s", here, z);
    return n > 0 && (size_t)n < CONTEXT_TEXT_CAP;
}

static int set(struct ctl *ctl, struct contexts *c, const char *name)
{
    struct context *x = contexts_find(c, name);
    bool is_new = x == NULL;
    char socket[CONTEXT_TEXT_CAP] = "";

    if (!context_is_name(name))
        return ctl_fail(CLI_USAGE, "config: '%s' is no name; letters, digits, '_', '.' and '-'", name);
    if (is_new && !ctl->url && !opt.socket)
        return ctl_fail(CLI_USAGE, "config: a new context needs --url or --socket");
    if (is_new && c->n == CONTEXTS_MAX)
        return ctl_fail(CLI_FAILED, "config: %u contexts is all that there may be", CONTEXTS_MAX);
    if (is_new && !c->list && !(c->list = calloc(CONTEXTS_MAX, sizeof(*c->list))))
        abort();
    if (is_new) {
        x = &c->list[c->n++];
        *x = (struct context){0};
        (void)snprintf(x->name, sizeof(x->name), "%s", name);
    }
    if (opt.socket)
        (void)snprintf(socket, sizeof(socket), "unix:%.900s", opt.socket);
    if (!put(x->url, opt.socket ? socket : ctl->url) || !put_path(x->token_file, ctl->token_file) ||
        !put(x->redis, opt.redis) || !put_path(x->database, opt.database) ||
        !put(x->prometheus, opt.prometheus))
        return ctl_fail(CLI_USAGE, "config: a value is too long");
    if (opt.read_only)
        x->is_read_only = strcmp(opt.read_only, "yes") == 0;
    if (is_new && !c->current[0])
        (void)snprintf(c->current, sizeof(c->current), "%s", name);
    return CLI_OK;
}

static int change(struct ctl *ctl, struct contexts *c, const char *verb, const char *name)
{
    struct context *x = contexts_find(c, name);
    bool is_current = x && strcmp(x->name, c->current) == 0;

    if (strcmp(verb, "set") == 0)
        return set(ctl, c, name);
    if (!x)
        return ctl_fail(CLI_NOT_FOUND, "no context is named '%s'", name);
    if (strcmp(verb, "use") == 0) {
        (void)snprintf(c->current, sizeof(c->current), "%s", x->name);
    } else if (strcmp(verb, "delete") == 0) {
        if (is_current)
            c->current[0] = '\0';
        memmove(x, x + 1, (size_t)(&c->list[c->n] - (x + 1)) * sizeof(*x));
        c->n--;
    } else {
        if (ctl->n_args < 3 || !context_is_name(ctl->args[2]) || contexts_find(c, ctl->args[2]))
            return ctl_fail(CLI_USAGE, "config: rename NAME NEW, where NEW is a name that is free");
        (void)snprintf(x->name, sizeof(x->name), "%s", ctl->args[2]);
        if (is_current)
            (void)snprintf(c->current, sizeof(c->current), "%s", x->name);
    }
    return CLI_OK;
}

static int run_contexts(struct ctl *ctl, const char *verb)
{
    struct contexts c;
    struct err err = {0};
    int rc = contexts_read(&c, &err) ? ctl_fail(CLI_FAILED, "%s", err_text(&err)) : CLI_OK;

    if (rc)
        return rc;
    if (strcmp(verb, "contexts") == 0) {
        rc = contexts(ctl, &c);
    } else if (ctl->n_args < 2) {
        rc = ctl_fail(CLI_USAGE, "config: %s which context?", verb);
    } else {
        rc = change(ctl, &c, verb, ctl->args[1]);
        if (!rc && contexts_write(&c, &err))
            rc = ctl_fail(CLI_FAILED, "%s", err_text(&err));
    }
    contexts_release(&c);
    return rc;
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "show";

    return strcmp(verb, "show") == 0      ? ctl_watch(ctl, show)
           : strcmp(verb, "check") == 0   ? check(ctl)
           : strcmp(verb, "explain") == 0 ? explain(ctl)
           : strcmp(verb, "diff") == 0    ? diff(ctl)
           : strcmp(verb, "init") == 0    ? init(ctl)
                                          : run_contexts(ctl, verb);
}

static const struct command_verb VERBS[] = {
    {"show", "", "what the gateway runs with", READS, "GET /api/admin/config"},
    {"check", "[FILE]", "whether a file is right, without using it", READS, NULL},
    {"explain", "OPTION", "one option", READS, NULL},
    {"diff", "[FILE]", "running beside file: exit 10 when they differ", READS, "GET /api/admin/config"},
    {"init", "[FILE]", "a first file, with comments", READS, NULL},
    {"contexts", "", "gateways by name", READS, NULL},
    {"use", "CONTEXT", "the one that is meant when none is named", READS, NULL},
    {"set", "CONTEXT", "a new one, or another value of it", READS, NULL},
    {"rename", "CONTEXT NEW", "another name", READS, NULL},
    {"delete", "CONTEXT", "forget it", READS, NULL},
    {0},
};

const struct command CMD_CONFIG = {
    .name = "config",
    .verbs = VERBS,
    .group = GROUP_SETUP,
    .summary = "the gateway's configuration, and gateways by name",
    .help = "Secrets are never shown. check exits 10 for warnings and 11 for errors. Contexts are in "
            "ctl.yaml: 'aigwctl help "
            "contexts'.\v"
            "  aigwctl config show --changed --origin\n"
            "  aigwctl config set prod --url https://gw.example.net --token-file prod.token \\\n"
            "    --read-only=yes",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 3,
};
