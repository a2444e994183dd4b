/* SPDX-License-Identifier: Apache-2.0 */
/* Whether all is well, from one place: each check is a line with a grade, and what is not well says what to do. A bundle holds what a
 * stranger needs to understand a gateway, and no secret: what goes into it passes hide(). */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "aigwctl/alerts.h"
#include "aigwctl/look.h"
#include "libshared/base/buf.h"
#include "libshared/cli/human.h"

enum { KEY_BUNDLE = 0x2000 };

static const struct argp_option OPTIONS[] = {
    {"bundle", KEY_BUNDLE, "FILE", 0,
     "write a tar file with what the gateway says of itself, without secrets", 0},
    {0},
};

static const char *bundle;

static error_t take(int key, char *arg, struct argp_state *state)
{
    (void)state;
    if (key != KEY_BUNDLE)
        return ARGP_ERR_UNKNOWN;
    bundle = arg;
    return 0;
}

enum grade { IS_OK, IS_WARN, IS_FAIL, IS_SKIPPED };

struct doctor {
    struct ctl *ctl;
    json_t *rows;
    unsigned failures, warnings;
};

static void say(struct doctor *d, enum grade g, const char *what, const char *fix, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
static void say(struct doctor *d, enum grade g, const char *what, const char *fix, const char *fmt, ...)
{
    static const char *const GRADES[] = {"ok", "warn", "FAIL", "skip"};
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    text[strcspn(text, "\n")] = '\0';
    d->failures += g == IS_FAIL;
    d->warnings += g == IS_WARN;
    (void)json_array_append_new(d->rows, json_pack("{s:s, s:s, s:s, s:s?}", "grade", GRADES[g], "check", what,
                                                   "detail", text, "fix", fix));
}

/* ---- checks ---------------------------------------------------------------------------------------------------------- */

static int check_gateway(struct doctor *d)
{
    struct mono start = mono_now();
    struct api_answer a = {0};
    char took[HUMAN_CAP], up[HUMAN_CAP], date[64];
    struct tm tm = {0};
    json_t *doc;
    int rc = ctl_call(d->ctl, "GET", "/version", (struct span){0}, &a);

    if (rc) {
        say(d, IS_FAIL, "gateway", "systemctl status gatewayd; aigwctl config contexts", "%s",
            ctl_last_complaint());
        return rc;
    }
    human_ms(took, (double)mono_diff_us(mono_now(), start) / 1000);
    doc = json_loadb(a.body.p ? a.body.p : "", a.body.len, 0, NULL);
    human_duration(up, json_integer_value(json_object_get(doc, "uptime_s")));
    say(d, IS_OK, "gateway", NULL, "%s at %s, up %s, %s", look_text(doc, "version"), d->ctl->found_url, up,
        took);
    (void)span_copy(date, sizeof(date), api_answer_header(&a, "date"));
    if (strptime(date, "%a, %d %b %Y %H:%M:%S", &tm)) {
        double off = difftime(timegm(&tm), (time_t)(wall_now().us / 1000000));

        if (fabs(off) > 2)
            say(d, IS_WARN, "clock", "timedatectl status, on both hosts",
                "the gateway's clock is %.0f s %s this host's", fabs(off), off > 0 ? "ahead of" : "behind");
        else
            say(d, IS_OK, "clock", NULL, "the gateway's and this host's agree");
    }
    json_decref(doc);
    api_answer_release(&a);
    return CLI_OK;
}

static int check_access(struct doctor *d)
{
    json_t *doc = NULL;
    int rc = look_try(d->ctl, "/api/monitoring/health", &doc);

    if (rc)
        say(d, IS_FAIL, "access", "--token-file FILE, or the admin socket as --url unix:PATH", "%s",
            ctl_last_complaint());
    json_decref(doc);
    return rc;
}

static void check_stores(struct doctor *d, const json_t *board)
{
    const json_t *store;
    size_t i;
    char down[HUMAN_CAP];

    json_array_foreach(json_object_get(board, "stores"), i, store)
    {
        char name[64];
        double lag = look_number(store, "lag_s");

        (void)snprintf(name, sizeof(name), "%.60s", look_text(store, "name"));
        if (strcmp(look_text(store, "status"), "down") == 0) {
            human_duration(down, json_integer_value(json_object_get(store, "down_s")));
            say(d, IS_FAIL, name, "aigwctl status; what it does not take stays in the journal",
                "down for %s: %s", down, look_text(store, "error"));
        } else if (lag > 60) {
            say(d, IS_WARN, name, "aigwctl status", "takes what is new %.0f s late", lag);
        } else {
            say(d, IS_OK, name, NULL, "%s, %.1f s behind", look_text(store, "status"), isnan(lag) ? 0 : lag);
        }
    }
}

static void check_journal(struct doctor *d, const json_t *board)
{
    const json_t *journal = json_object_get(board, "journal");
    double room = look_number(journal, "room_bytes"), held = look_number(journal, "held_bytes");
    double share = room + held > 0 ? held / (room + held) : 0;
    char text[HUMAN_CAP];

    if (!json_is_object(journal))
        return;
    human_bytes(text, room > 0 ? (uint64_t)room : 0);
    say(d,
        share > 0.9   ? IS_FAIL
        : share > 0.5 ? IS_WARN
                      : IS_OK,
        "journal", share > 0.5 ? "bring the store back that is behind, or raise journal.max_bytes" : NULL,
        "%.0f%% held for stores, room for %s", share * 100, text);
}

static void check_providers(struct doctor *d, const json_t *board)
{
    const json_t *s = json_object_get(board, "summary");
    json_int_t bad = json_integer_value(json_object_get(s, "unhealthy"));
    json_int_t degraded = json_integer_value(json_object_get(s, "degraded"));
    json_int_t all = json_integer_value(json_object_get(s, "total_providers"));

    say(d,
        bad && bad == all ? IS_FAIL
        : bad || degraded ? IS_WARN
                          : IS_OK,
        "providers", bad || degraded ? "aigwctl health; aigwctl errors list" : NULL,
        "%lld: %lld healthy, %lld degraded, %lld unhealthy", (long long)all,
        (long long)json_integer_value(json_object_get(s, "healthy")), (long long)degraded, (long long)bad);
}

static void check_breakers(struct doctor *d)
{
    json_t *doc = NULL, *row;
    size_t i, open = 0, n = 0;
    char names[300] = "";

    if (look_try(d->ctl, "/api/monitoring/circuit-breakers", &doc) || !doc)
        return;
    json_array_foreach(doc, i, row)
    {
        n++;
        if (strcmp(look_text(row, "state"), "OPEN") != 0)
            continue;
        if (open++ < 3)
            (void)snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%.40s/%.50s",
                           open > 1 ? ", " : ": ", look_text(row, "provider"), look_text(row, "model"));
    }
    say(d, open ? IS_WARN : IS_OK, "breakers", open ? "aigwctl breakers list" : NULL, "%zu of %zu open%s",
        open, n, names);
    json_decref(doc);
}

/* What another command of this program says of it: its exit code is the grade, its words the detail. */
static void check_by(struct doctor *d, const char *what, const char *fix, const char *verb, const char *sub)
{
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    const char *argv[12];
    size_t n = 0;
    struct buf said AUTO(buf_release) = {.max = 1 << 20};
    char line[300];
    int code;

    if (len <= 0)
        return;
    self[len] = '\0';
    argv[n++] = self;
    if (d->ctl->context ||
        !d->ctl->found_context) { /* else the one that the child finds by itself: it may name stores */
        argv[n++] = d->ctl->context ? "--context" : "--url";
        argv[n++] = d->ctl->context ? d->ctl->context : d->ctl->found_url;
    }
    if (d->ctl->token_file) {
        argv[n++] = "--token-file";
        argv[n++] = d->ctl->token_file;
    }
    argv[n++] = "--quiet";
    argv[n++] = verb;
    argv[n++] = sub;
    argv[n++] = "-o";
    argv[n++] = "csv";
    argv[n] = NULL;
    code = tool_run(&said, argv);
    (void)span_copy(line, sizeof(line), span_make(said.p ? said.p : "", said.len));
    if (code == CLI_OK)
        say(d, IS_OK, what, NULL, "'aigwctl %s %s' finds nothing wrong", verb, sub);
    else if (code == CLI_WARNING || code == CLI_CRITICAL)
        say(d, code == CLI_WARNING ? IS_WARN : IS_FAIL, what, fix, "'aigwctl %s %s' exits %d", verb, sub,
            code);
    else
        say(d, IS_SKIPPED, what, NULL, "%s",
            strncmp(line, "aigwctl: ", 9) == 0 ? line + 9 : "not known from here");
}

/* Where it keeps its history, when that is on this host and nothing else was said: what looks there finds it. */
static void find_state(const json_t *config)
{
    char file[1200];
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(config, "options"), i, row)
    {
        if (strcmp(look_text(row, "path"), "state_dir") != 0)
            continue;
        (void)snprintf(file, sizeof(file), "%.1000s/history.db", look_text(row, "value"));
        if (access(file, R_OK) == 0)
            (void)setenv("GATEWAYD_STATE_DIR", look_text(row, "value"), 0);
    }
}

static void check_file(struct doctor *d)
{
    json_t *doc = NULL;
    const char *path;

    if (look_try(d->ctl, "/api/admin/config", &doc) || !doc) {
        say(d, IS_SKIPPED, "config", NULL, "shown on the admin listener and socket only");
        return;
    }
    find_state(doc);
    path = look_text(doc, "path");
    if (!*path)
        say(d, IS_OK, "config", NULL, "no file; flags and variables");
    else if (access(path, R_OK))
        say(d, IS_SKIPPED, "config", NULL, "%s cannot be read from here", path);
    else
        check_by(d, "config", "aigwctl config diff, then aigwctl reload", "config", "diff");
    json_decref(doc);
}

static void check_tools(struct doctor *d)
{
    struct buf said AUTO(buf_release) = {.max = 65536};
    const char *argv[] = {"promtool", "--version", NULL};

    if (tool_run(&said, argv) == 0)
        say(d, IS_OK, "promtool", NULL, "installed; alerts check and test use it");
    else
        say(d, IS_SKIPPED, "promtool", NULL, "not installed; alerts check uses its own reading");
}

static void check_terminal(struct doctor *d)
{
    const char *charset = nl_langinfo(CODESET), *term = getenv("TERM");

    if (!term_is_tty(stdout))
        say(d, IS_SKIPPED, "terminal", NULL, "output goes to no terminal");
    else
        say(d, strcmp(charset, "UTF-8") == 0 ? IS_OK : IS_WARN, "terminal",
            strcmp(charset, "UTF-8") == 0 ? NULL : "a locale with UTF-8, such as LC_ALL=C.UTF-8",
            "%s, %s, %u columns", charset, term ? term : "TERM is not set", term_width(stdout));
}

/* ---- the bundle ------------------------------------------------------------------------------------------------------ */

/* What looks like a key, the password of an address, and this caller's own token become "(hidden)". */
static void hide(struct buf *out, struct span text, struct span token)
{
    for (size_t i = 0; i < text.len;) {
        const char *z = text.p + i;
        size_t left = text.len - i, n = 0;

        if (token.len > 7 && left >= token.len && memcmp(z, token.p, token.len) == 0)
            n = token.len;
        else if (left > 10 && (memcmp(z, "sk-", 3) == 0 || memcmp(z, "Bearer ", 7) == 0))
            for (n = z[0] == 's' ? 3 : 7; n < left && (isalnum((unsigned char)z[n]) || strchr("_-.", z[n]));)
                n++;
        else if (left > 4 && memcmp(z, "://", 3) == 0) {
            size_t end = 3;

            while (end < left && !strchr("/@\" \n\\", z[end]))
                end++;
            if (end < left && z[end] == '@') {
                buf_addz(out, "://(hidden)");
                i += end;
                continue;
            }
        }
        if (n)
            buf_addz(out, "(hidden)");
        else
            buf_addc(out, *z);
        i += n ? n : 1;
    }
}

static void add_tar_file(struct buf *tar, const char *name, struct span text)
{
    char head[512] = {0};
    unsigned sum = 0;

    (void)snprintf(head, 100, "gatewayd-doctor/%s", name);
    memcpy(head + 100, "0000600", 8);
    memcpy(head + 108, "0000000", 8);
    memcpy(head + 116, "0000000", 8);
    (void)snprintf(head + 124, 12, "%011o", (unsigned)text.len);
    (void)snprintf(head + 136, 12, "%011llo", (unsigned long long)(wall_now().us / 1000000));
    memset(head + 148, ' ', 8);
    head[156] = '0';
    memcpy(head + 257, "ustar\00000", 8);
    for (size_t i = 0; i < sizeof(head); i++)
        sum += (unsigned char)head[i];
    (void)snprintf(head + 148, 8, "%06o", sum);
    buf_add(tar, span_make(head, sizeof(head)));
    buf_add(tar, text);
    while (tar->len % 512)
        buf_addc(tar, '\0');
}

static int write_bundle(struct doctor *d)
{
    static const char *const PAGES[][2] = {
        {"version.json", "/version"},
        {"dashboard.json", "/health/dashboard"},
        {"health.json", "/api/monitoring/health"},
        {"breakers.json", "/api/monitoring/circuit-breakers"},
        {"events.json", "/api/monitoring/events?limit=1000"},
        {"limits.json", "/api/admin/limits"},
        {"config.json", "/api/admin/config"},
        {"metrics.txt", "/metrics"},
    };
    struct buf tar AUTO(buf_release) = {.max = 256u << 20};
    struct secret token = {0};
    char *rows = json_dumps(d->rows, JSON_INDENT(2));
    int rc = ctl_find_token(d->ctl, &token);

    add_tar_file(&tar, "doctor.json", span_of(rows ? rows : "[]"));
    free(rows);
    for (size_t i = 0; i < ARRAY_LEN(PAGES) && !rc; i++) {
        struct buf clean AUTO(buf_release) = {.max = 128u << 20};
        struct api_answer a = {0};

        if (ctl_call(d->ctl, "GET", PAGES[i][1], (struct span){0}, &a) == CLI_OK && a.status == 200) {
            hide(&clean, buf_span(&a.body), secret_expose(&token));
            add_tar_file(&tar, PAGES[i][0], buf_span(&clean));
        }
        api_answer_release(&a);
    }
    secret_release(&token);
    for (int i = 0; i < 1024; i++)
        buf_addc(&tar, '\0');
    rc = rc ? rc : tool_write(bundle, buf_span(&tar));
    if (!rc && !d->ctl->is_quiet)
        (void)fprintf(stderr, "%s is written: what the gateway says of itself, without secrets\n", bundle);
    return rc;
}

/* ---- all ------------------------------------------------------------------------------------------------------------- */

static const struct table_column COLUMNS[] = {{"grade", "GRADE", FORM_HEALTH},
                                              {"check", "CHECK", FORM_NAME},
                                              {"detail", "DETAIL", FORM_TEXT | FORM_WRAP},
                                              {"fix", "FIX", FORM_TEXT | FORM_WRAP},
                                              {0}};

static void print_rows(const struct doctor *d)
{
    bool has_color = term_wants_color(stdout, d->ctl->color);
    size_t i;
    json_t *row;

    json_array_foreach(d->rows, i, row)
    {
        const char *g = look_text(row, "grade");
        const char *color = !has_color               ? ""
                            : strcmp(g, "FAIL") == 0 ? "\033[31m"
                            : strcmp(g, "warn") == 0 ? "\033[33m"
                            : strcmp(g, "ok") == 0   ? "\033[32m"
                                                     : "";

        (void)printf(" %s%-4s%s  %-10s  ", color, g, *color ? "\033[0m" : "", look_text(row, "check"));
        ctl_put_text(stdout, look_text(row, "detail"), 19);
        (void)putchar('\n');
        if (*look_text(row, "fix")) {
            (void)printf("%19sfix: ", "");
            ctl_put_text(stdout, look_text(row, "fix"), 24);
            (void)putchar('\n');
        }
    }
    (void)printf("%u failure%s, %u warning%s\n", d->failures, d->failures == 1 ? "" : "s", d->warnings,
                 d->warnings == 1 ? "" : "s");
}

static int examine(struct doctor *d)
{
    json_t *board = NULL;
    int rc = check_gateway(d);

    rc = rc ? rc : check_access(d);
    if (rc)
        return rc;
    if (look_try(d->ctl, "/health/dashboard", &board) == CLI_OK && board) {
        check_stores(d, board);
        check_journal(d, board);
        check_providers(d, board);
    }
    json_decref(board);
    check_breakers(d);
    check_file(d);
    check_by(d, "aggregate", "aigwctl aggregate status, then aigwctl aggregate hourly", "aggregate",
             "status");
    check_by(d, "history", "aigwctl db verify", "db", "verify");
    check_by(d, "metrics", "aigwctl metrics check", "metrics", "check");
    check_by(d, "audit", "aigwctl audit verify", "audit", "verify");
    return CLI_OK;
}

static int run(struct ctl *ctl)
{
    struct doctor d = {.ctl = ctl, .rows = json_array()};
    int rc;

    ctl->is_raw = false;
    rc = examine(&d);
    check_tools(&d);
    check_terminal(&d);
    if (ctl->output == OUTPUT_TABLE && !ctl->wish.filter && !ctl->wish.columns)
        print_rows(&d);
    else
        ctl_print(ctl, stdout, "doctor", COLUMNS, d.rows, NULL);
    if (!rc && bundle)
        rc = write_bundle(&d);
    rc = rc ? rc : d.failures ? CLI_CRITICAL : d.warnings ? CLI_WARNING : CLI_OK;
    json_decref(d.rows);
    return rc;
}

static const struct command_verb VERBS[] = {
    {"", "", "every check", READS, NULL},
    {0},
};

const struct command CMD_DOCTOR = {
    .name = "doctor",
    .verbs = VERBS,
    .group = GROUP_SETUP,
    .summary = "whether all is well, and what to do where it is not",
    .help = "Looks at the gateway, its stores, its journal, providers, breakers, configuration, hourly rows, "
            "metrics and audit log. "
            "Exit 10 with warnings, 11 with failures, 3 or 4 when it cannot look. The bundle is a tar file "
            "of what the gateway "
            "says of itself, for those who help; keys, tokens and passwords are taken out of it.\v"
            "  aigwctl doctor --bundle gatewayd-doctor.tar",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
