/* SPDX-License-Identifier: Apache-2.0 */
/* What commands share: reaching the gateway, saying why it could not be reached, printing, watching. */
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "aigwctl/command.h"
#include "libshared/base/secret.h"
#include "libshared/cli/human.h"

_Atomic int ctl_stop;
static char complaint[2048];

const char *ctl_last_complaint(void)
{
    return complaint;
}

int ctl_fail(int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(complaint, sizeof(complaint), fmt, ap);
    va_end(ap);
    (void)fputs("aigwctl: ", stderr);
    term_put_wrapped(stderr, complaint, 9, term_is_tty(stderr) ? term_width(stderr) : 0);
    (void)fputc('\n', stderr);
    return code;
}

void ctl_usage(const struct argp_state *state, const char *fmt, ...)
{
    const char *command = strchr(state->name, ' '); /* "aigwctl cost" */
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)ctl_fail(CLI_USAGE, "%s%s%s", command ? command + 1 : "", command ? ": " : "", text);
    exit(ctl_usage_hint(state->name));
}

int ctl_usage_hint(const char *name)
{
    (void)fprintf(stderr, "  '%s --help' lists what there is\n", name);
    return CLI_USAGE;
}

void ctl_put_text(FILE *f, const char *text, unsigned indent)
{
    term_put_wrapped(f, text, indent, term_is_tty(stdout) ? term_width(stdout) : 0);
}

void ctl_note(const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    term_put_wrapped(stderr, text, 0, term_is_tty(stderr) ? term_width(stderr) : 0);
    (void)fputc('\n', stderr);
}

void ctl_put_none(const struct ctl *ctl, const json_t *rows, const char *text)
{
    if (!json_array_size(rows) && ctl->output == OUTPUT_TABLE && !ctl->is_quiet)
        ctl_note("%s", text);
}

/* ---- reaching the gateway ------------------------------------------------------------------------------------------ */

/* The one in force, as aigwtop has it, too; what it says besides is kept. */
int ctl_find_context(struct ctl *ctl, struct context *out, bool *is_named)
{
    struct err err = {0};
    enum err_code e = context_find(ctl->url, ctl->context, out, is_named, &err);

    if (e)
        return ctl_fail(e == ERR_NOT_FOUND ? CLI_NOT_FOUND : CLI_USAGE, "%s", err_text(&err));
    if (!out->name[0])
        return CLI_OK;
    ctl->is_read_only = out->is_read_only;
    if (!ctl->found_context)
        ctl->found_context = strdup(out->name);
    return CLI_OK;
}

int ctl_find_token(struct ctl *ctl, struct secret *out)
{
    struct context context;
    struct err err = {0};
    bool is_named;
    int rc = ctl_find_context(ctl, &context, &is_named);

    if (rc)
        return rc;
    return context_token(&context, ctl->token_file, out, &err) ? ctl_fail(CLI_NO_AUTH, "%s", err_text(&err))
                                                               : CLI_OK;
}

int ctl_find_url(struct ctl *ctl)
{
    const char *url = ctl->url;
    struct context context;
    bool is_named;
    int rc = ctl->found_url ? CLI_OK : ctl_find_context(ctl, &context, &is_named);

    if (rc || ctl->found_url)
        return rc;
    if (!url && context.url[0])
        url = context.url;
    if (!url)
        url = getenv("GATEWAYD_URL");
    if (!url || !*url) {
        context_guess_url(context.url, sizeof(context.url));
        url = context.url;
    }
    ctl->found_url = strdup(url);
    return CLI_OK;
}

static int connect_it(struct ctl *ctl)
{
    struct secret token = {0};
    struct err err = {0};
    int rc = ctl->client ? CLI_OK : ctl_find_url(ctl);

    if (ctl->client || rc)
        return rc;
    rc = ctl_find_token(ctl, &token);
    if (!rc) {
        ctl->client = api_client_new(&(struct api_client_options){.url = ctl->found_url,
                                                                  .token = secret_expose(&token),
                                                                  .timeout_ms = (long)ctl->timeout_ms,
                                                                  .is_over = &ctl_stop},
                                     &err);
        if (!ctl->client)
            rc = ctl_fail(CLI_USAGE, "%s", err_text(&err));
    }
    secret_release(&token);
    return rc;
}

static int no_answer(struct ctl *ctl, const struct err *err)
{
    if (err->code == ERR_CLIENT_GONE)
        return 128 + ctl_stop;
    if (ctl->is_gone)
        return CLI_NO_ANSWER;
    ctl->is_gone = ctl->is_watch;
    if (err->code == ERR_FORBIDDEN)
        return ctl_fail(CLI_NO_AUTH, "%s: %s; the daemon's own user and root may", ctl->found_url,
                        err_text(err));
    if (ctl->found_context)
        (void)ctl_fail(CLI_NO_ANSWER, "no answer from %s (context %s): %s", ctl->found_url,
                       ctl->found_context, err_text(err));
    else
        (void)ctl_fail(CLI_NO_ANSWER, "no answer from %s: %s", ctl->found_url, err_text(err));
    if (!ctl->is_quiet)
        (void)fputs("  Is the daemon up?     systemctl status gatewayd, or aigwctl demo\n"
                    "  Wrong address?        aigwctl config contexts; --url http://HOST:PORT\n"
                    "  Full self-test:       aigwctl doctor\n",
                    stderr);
    if (ctl->is_watch && !ctl->is_quiet)
        (void)fputs("  Trying on until it answers, or Ctrl-C.\n", stderr);
    return CLI_NO_ANSWER;
}

bool ctl_answers(struct ctl *ctl)
{
    struct api_answer a = {0};
    struct err err = {0};
    bool is_there = connect_it(ctl) == CLI_OK &&
                    api_client_call(ctl->client, "GET", "/version", (struct span){0}, &a, &err) == ERR_OK;

    api_answer_release(&a);
    return is_there;
}

int ctl_read_only(const struct ctl *ctl)
{
    return ctl_fail(CLI_NO_AUTH,
                    "context '%s' is read-only; nothing was sent. Another one with -c NAME, or edit it: "
                    "aigwctl config set %s --read-only=no",
                    ctl->found_context, ctl->found_context);
}

int ctl_call(struct ctl *ctl, const char *method, const char *path, struct span body, struct api_answer *out)
{
    struct err err = {0};
    int rc = connect_it(ctl);

    if (rc)
        return rc;
    if (ctl->is_read_only && strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return ctl_read_only(ctl);
    if (api_client_call(ctl->client, method, path, body, out, &err))
        return no_answer(ctl, &err);
    ctl->is_gone = false;
    return CLI_OK;
}

int ctl_refused(const struct api_answer *a)
{
    json_t *o = json_loadb(a->body.p ? a->body.p : "", a->body.len, 0, NULL);
    json_t *error = json_object_get(o, "error");
    const char *text = json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
    int code = a->status == 401 || a->status == 403 ? CLI_NO_AUTH
               : a->status == 404                   ? CLI_NOT_FOUND
               : a->status == 409                   ? CLI_CONFLICT
                                                    : CLI_FAILED;

    (void)ctl_fail(code, "%s (HTTP %d)", text ? text : "the gateway refused", a->status);
    if (a->status == 401)
        (void)fputs("  Give the admin token with --token-file FILE or GATEWAYD_TOKEN,\n"
                    "  or use the socket, which needs none: --url unix:/…/admin.sock\n",
                    stderr);
    json_decref(o);
    return code;
}

static int call_json(struct ctl *ctl, const char *method, const char *path, json_t **out)
{
    struct api_answer a = {0};
    json_error_t why;
    int rc = ctl_call(ctl, method, path, (struct span){0}, &a);

    *out = NULL;
    if (!rc && (a.status < 200 || a.status > 299))
        rc = ctl_refused(&a);
    else if (!rc && ctl->is_raw)
        term_put_body(stdout, buf_span(&a.body));
    else if (!rc && !(*out = json_loadb(a.body.p ? a.body.p : "", a.body.len, JSON_REJECT_DUPLICATES, &why)))
        rc = ctl_fail(CLI_FAILED, "the answer of %s%s is not JSON: %s", ctl->found_url, path, why.text);
    api_answer_release(&a);
    return rc;
}

int ctl_get(struct ctl *ctl, const char *path, json_t **out)
{
    return call_json(ctl, "GET", path, out);
}

int ctl_post(struct ctl *ctl, const char *path, json_t **out)
{
    return call_json(ctl, "POST", path, out);
}

/* ---- printing ------------------------------------------------------------------------------------------------------ */

void ctl_put_member(FILE *f, const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    term_put(f, text ? text : "-");
}
