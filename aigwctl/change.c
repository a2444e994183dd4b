/* SPDX-License-Identifier: Apache-2.0 */
/* Questions go to stderr and are only asked when stdin and stderr are a terminal; otherwise the answer must be on the command
 * line, and its absence is exit code 7. */
#include "aigwctl/change.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/look.h"

json_t *change_given;

void change_give(const char *name, json_t *value)
{
    if (!change_given)
        change_given = json_object();
    (void)json_object_set_new(change_given, name, value);
}

error_t change_give_limit(const char *name, const char *arg, struct argp_state *state)
{
    uint64_t n = 0;

    if (strcmp(arg, "plan") == 0)
        change_give(name, json_null());
    else if (span_to_u64(span_of(arg), &n) && n <= INT64_MAX)
        change_give(name, json_integer((json_int_t)n));
    else
        ctl_usage(state, "--%s takes a whole number or 'plan', not '%s'", name, arg);
    return 0;
}

static struct {
    bool is_yes, is_dry, asks_server, no_input;
    const char *confirm, *reason;
} opt;

error_t change_take(int key, char *arg)
{
    switch (key) {
    case KEY_YES:
        opt.is_yes = true;
        return 0;
    case KEY_CONFIRM:
        opt.confirm = arg;
        return 0;
    case KEY_DRY_RUN:
        opt.asks_server = arg && strcmp(arg, "server") == 0;
        opt.is_dry = !opt.asks_server;
        if (!arg || opt.asks_server || strcmp(arg, "client") == 0)
            return 0;
        (void)ctl_fail(CLI_USAGE, "--dry-run takes client or server, not '%s'", arg);
        return EINVAL;
    case KEY_REASON:
        opt.reason = arg;
        return 0;
    case KEY_NO_INPUT:
        opt.no_input = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

bool change_is_name(const char *z)
{
    size_t n = strlen(z);

    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)z[i]) && (i == 0 || !strchr("_.-", z[i])))
            return false;
    return n > 0 && n <= 64;
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

static bool can_ask(void)
{
    return !opt.no_input && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

static bool read_answer(char *line, size_t cap)
{
    (void)fflush(stderr);
    if (!fgets(line, (int)cap, stdin))
        return false;
    line[strcspn(line, "\r\n")] = '\0';
    return true;
}

static int ask(const struct change *c)
{
    const char *flag = c->danger == DANGER_SEVERE ? "--confirm" : "--yes";
    char line[256] = "";

    if (c->danger == DANGER_MILD || (c->danger == DANGER_MODERATE && opt.is_yes))
        return CLI_OK;
    if (c->danger == DANGER_SEVERE && opt.confirm)
        return strcmp(opt.confirm, c->name) == 0
                   ? CLI_OK
                   : ctl_fail(CLI_CANCELLED, "%s '%s': --confirm names '%s'; nothing was done", c->what,
                              c->name, opt.confirm);
    if (!can_ask())
        return ctl_fail(CLI_CANCELLED, "%s '%s' has to be confirmed: add %s%s%s; nothing was done", c->what,
                        c->name, flag, c->danger == DANGER_SEVERE ? " " : "",
                        c->danger == DANGER_SEVERE ? c->name : "");
    if (c->danger == DANGER_SEVERE)
        (void)fprintf(stderr, "%s '%s' cannot be undone. Type its name to go on: ", c->what, c->name);
    else
        (void)fprintf(stderr, "%s '%s'? [y/N] ", c->what, c->name);
    if (read_answer(line, sizeof(line)) &&
        (c->danger == DANGER_SEVERE ? strcmp(line, c->name) == 0
                                    : strcasecmp(line, "y") == 0 || strcasecmp(line, "yes") == 0))
        return CLI_OK;
    return ctl_fail(CLI_CANCELLED, "nothing was done");
}

int change_confirm(enum danger danger, const char *what, const char *name)
{
    return ask(&(struct change){.danger = danger, .what = what, .name = name});
}

/* ---- calling --------------------------------------------------------------------------------------------------------- */

static int call(struct ctl *ctl, const struct change *c, const char *path, const char *body, json_t **out)
{
    struct api_answer a = {0};
    int rc = ctl_call(ctl, c->method, path, span_of(body), &a);

    if (!rc && (a.status < 200 || a.status > 299))
        rc = ctl_refused(&a);
    else if (!rc && !(*out = json_loadb(a.body.p ? a.body.p : "", a.body.len, JSON_REJECT_DUPLICATES, NULL)))
        rc = ctl_fail(CLI_FAILED, "the answer is not JSON");
    if (a.body.p)
        explicit_bzero(a.body.p, a.body.len); /* it may hold a key */
    api_answer_release(&a);
    return rc;
}

static void add_value(struct buf *out, const json_t *v)
{
    char *text =
        json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(12));

    if (!v || json_is_null(v))
        buf_addc(out, '-');
    else
        buf_addz(out, json_is_string(v) ? json_string_value(v) : text ? text : "?");
    free(text);
}

/* "plan: gold → silver" behind so many blanks. */
static void put_change(FILE *f, int indent, const char *name, const json_t *was, const json_t *is)
{
    struct buf line AUTO(buf_release) = {0};

    add_value(&line, was);
    buf_addz(&line, " → ");
    add_value(&line, is);
    ctl_put_text(f, line.p, (unsigned)fprintf(f, "%*s%s: ", indent, "", name));
    (void)fputc('\n', f);
}

/* Members that say when and by whom, rather than what. */
static bool is_told(const char *name)
{
    static const char *const NOT[] = {"dry_run",      "was", "updated_at", "created_at",
                                      "last_updated", "at",  "took_s"};

    for (size_t i = 0; i < ARRAY_LEN(NOT); i++)
        if (strcmp(name, NOT[i]) == 0)
            return false;
    return true;
}

/* What was → what would be: of something that is there only what was told of it; of something new all that is not nothing. */
static void show_would_be(const struct change *c, const json_t *doc)
{
    const json_t *was = json_object_get(doc, "was");
    const char *name;
    json_t *v;
    bool any = false;

    (void)printf("%s '%s': the gateway would do it; nothing was changed\n", c->what, c->name);
    json_object_foreach((json_t *)(uintptr_t)doc, name, v)
    {
        const json_t *before = json_object_get(was, name);
        bool is_nothing = json_is_null(v) || (json_is_array(v) && !json_array_size(v));

        if (!is_told(name) || json_equal(before, v) || (!before && (json_is_object(was) || is_nothing)))
            continue;
        any = true;
        put_change(stdout, 2, name, before, v);
    }
    v = json_object_get(doc, "status");
    if (!any && json_is_object(was) && json_is_string(v))
        (void)printf("  %s\n", json_string_value(v));
    else if (!any)
        (void)puts("  nothing would change");
}

/* The gateway checks the change and takes it back. */
static int would_be(struct ctl *ctl, const struct change *c, const char *path, const char *body)
{
    json_t *doc = NULL;
    int rc = call(ctl, c, path, body, &doc);

    if (!rc && ctl->output == OUTPUT_JSON)
        ctl_print_document(ctl, stdout, "change", doc);
    else if (!rc)
        show_would_be(c, doc);
    json_decref(doc);
    return rc;
}

int change_make(struct ctl *ctl, const struct change *c, json_t **out)
{
    struct buf path AUTO(buf_release) = {.max = 8192};
    char *body = NULL;
    int rc = CLI_OK;

    *out = NULL;
    buf_addz(&path, c->path);
    if (opt.reason && c->body)
        (void)json_object_set_new(c->body, "reason", json_string(opt.reason));
    else
        look_add_param(&path, "reason", opt.reason);
    if (c->body)
        body = json_dumps(c->body, JSON_COMPACT);
    if (opt.asks_server) {
        look_add_param(&path, "dry_run", "true");
        rc = would_be(ctl, c, path.p, body);
    } else if (opt.is_dry && ctl->output == OUTPUT_JSON) {
        json_t *doc = json_pack("{s:b, s:s, s:s, s:O?}", "dry_run", 1, "method", c->method, "path", path.p,
                                "body", c->body);

        ctl_print_document(ctl, stdout, "change", doc);
        json_decref(doc);
    } else if (opt.is_dry) {
        (void)printf("would call %s %s%s%s\n", c->method, path.p, body ? " " : "", body ? body : "");
    } else {
        rc = ask(c);
        if (!rc)
            rc = call(ctl, c, path.p, body, out);
    }
    free(body);
    json_decref(c->body);
    return rc;
}

/* ---- showing --------------------------------------------------------------------------------------------------------- */

void change_show(FILE *f, const json_t *was, const json_t *is, const char *const *names)
{
    bool any = false;

    for (; *names; names++) {
        const json_t *a = json_object_get(was, *names), *b = json_object_get(is, *names);

        if (json_equal(a, b))
            continue;
        any = true;
        put_change(f, 0, *names, a, b);
    }
    if (!any)
        (void)fputs("nothing changed\n", f);
}
