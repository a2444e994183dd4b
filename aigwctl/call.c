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

int ctl_fail(int code, const char *fmt, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)fputs("aigwctl: ", stderr);
    term_put(stderr, text);
    (void)fputc('\n', stderr);
    return code;
}

/* ---- reaching the gateway ------------------------------------------------------------------------------------------ */

static int find_token(const struct ctl *ctl, struct secret *out)
{
    const char *file = ctl->token_file ? ctl->token_file : getenv("GATEWAYD_TOKEN_FILE");
    const char *token = getenv("GATEWAYD_TOKEN");
    struct err err = {0};

    if (ctl->token_file || (!token && file))
        return context_token_file(file, out, &err) ? ctl_fail(CLI_NO_AUTH, "%s", err_text(&err)) : CLI_OK;
    return token && secret_set(out, span_of(token)) ? CLI_FAILED : CLI_OK;
}

static int find_url(struct ctl *ctl)
{
    const char *context = ctl->context ? ctl->context : getenv("GATEWAYD_CONTEXT");
    const char *url = ctl->url;
    char found[1024];
    int pid;

    if (!url && context) {
        if (!context_read(context, found, sizeof(found), &pid))
            return ctl_fail(CLI_NOT_FOUND, "no context is named '%s'; is its gateway running?", context);
        url = found;
    }
    if (!url)
        url = getenv("GATEWAYD_URL");
    if (!url || !*url) {
        context_guess_url(found, sizeof(found));
        url = found;
    }
    ctl->found_url = strdup(url);
    return CLI_OK;
}

static int connect_it(struct ctl *ctl)
{
    struct secret token = {0};
    struct err err = {0};
    int rc = ctl->client ? CLI_OK : find_url(ctl);

    if (ctl->client || rc)
        return rc;
    rc = find_token(ctl, &token);
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
    (void)ctl_fail(CLI_NO_ANSWER, "no answer from %s: %s", ctl->found_url, err_text(err));
    (void)fputs("  Is the daemon up?     systemctl status gatewayd, or aigwctl demo\n"
                "  Wrong address?        --url http://HOST:PORT or unix:/PATH, or GATEWAYD_URL\n",
                stderr);
    if (ctl->is_watch)
        (void)fputs("  Trying on until it answers, or Ctrl-C.\n", stderr);
    return CLI_NO_ANSWER;
}

int ctl_call(struct ctl *ctl, const char *method, const char *path, struct span body, struct api_answer *out)
{
    struct err err = {0};
    int rc = connect_it(ctl);

    if (rc)
        return rc;
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
        (void)fputs("  Give the admin token with --token-file FILE or GATEWAYD_TOKEN, or use --url "
                    "unix:/…/admin.sock\n",
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

/* `f` may be memory; what counts is where it ends up, which is stdout. */
struct table_style ctl_style(const struct ctl *ctl, FILE *f)
{
    bool tty = term_is_tty(stdout);

    (void)f;
    return (struct table_style){.has_color = term_wants_color(stdout, ctl->color),
                                .is_relative = tty,
                                .width = tty ? term_width(stdout) : 0,
                                .now = wall_now()};
}

void ctl_print(const struct ctl *ctl, FILE *f, const char *schema, const struct table_column *columns,
               const json_t *rows, const json_t *data)
{
    struct table_style style = ctl_style(ctl, f);

    if (ctl->output == OUTPUT_JSON)
        table_print_json(f, schema, data ? data : rows);
    else if (ctl->output == OUTPUT_CSV)
        table_print_csv(f, columns, rows);
    else
        table_print(f, columns, rows, &style);
}

/* ---- watching ------------------------------------------------------------------------------------------------------ */

bool ctl_sleep_ms(int64_t ms)
{
    struct mono end = mono_add_us(mono_now(), ms * 1000);
    int64_t left;

    while (!ctl_stop && (left = mono_diff_us(end, mono_now())) > 0)
        (void)poll(NULL, 0, (int)(left / 1000 < 200 ? left / 1000 + 1 : 200));
    return !ctl_stop;
}

void ctl_redraw(FILE *f, const char *text, unsigned *lines)
{
    if (*lines)
        (void)fprintf(f, "\033[%uA\r\033[J", *lines);
    *lines = term_rows(text, term_width(f));
    (void)fputs(text, f);
    (void)fflush(f);
}

static void show_block(const struct ctl *ctl, const char *text, unsigned *lines)
{
    char when[WALL_TEXT_CAP];

    if (term_is_tty(stdout)) {
        ctl_redraw(stdout, text, lines);
        return;
    }
    (void)wall_format(wall_now(), when, sizeof(when));
    if (ctl->output == OUTPUT_TABLE)
        (void)printf("%s%s\n", *lines ? "\n" : "", when);
    *lines = 1;
    (void)fputs(text, stdout);
    (void)fflush(stdout);
}

int ctl_watch(struct ctl *ctl, ctl_show show)
{
    unsigned lines = 0;
    int rc = CLI_OK;

    if (!ctl->is_watch)
        return show(ctl, stdout);
    do {
        char *text = NULL;
        size_t len = 0;
        FILE *f = open_memstream(&text, &len);

        if (!f)
            abort();
        rc = show(ctl, f);
        (void)fclose(f);
        if (rc == CLI_NO_ANSWER)
            lines = 0; /* what it said stays, and so does the last picture above it */
        if (len)
            show_block(ctl, text, &lines);
        free(text);
    } while (!ctl_stop && (rc == CLI_OK || rc >= CLI_WARNING || rc == CLI_NO_ANSWER) &&
             ctl_sleep_ms(ctl->watch_ms));
    return ctl_stop ? 128 + ctl_stop : rc;
}
