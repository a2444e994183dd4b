/* SPDX-License-Identifier: Apache-2.0 */
/* What commands show: one road for every form. Rows are picked and sorted here, so that every form shows the same ones. A command
 * prints rows once per call or per round of --watch; what came of them is kept here until main asks. */
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "aigwctl/command.h"
#include "libshared/cli/human.h"

#define PERF_ROWS_MAX 64u

extern char **environ;

static bool until_met;  /* --until */
static bool bad_wish;   /* a filter, a column or an expression that makes no sense here */
static bool is_too_old; /* --max-age */
static struct buf perf; /* --nagios: performance data */
static struct buf said; /* --nagios: how many rows in which state */

/* `f` may be memory; what counts is where it ends up, which is stdout. */
struct table_style ctl_style(const struct ctl *ctl, FILE *f)
{
    bool tty = term_is_tty(stdout);

    (void)f;
    return (struct table_style){
        .has_color = term_wants_color(stdout, ctl->color),
        .is_relative = ctl->when == WHEN_RELATIVE || (ctl->when == WHEN_AUTO && tty),
        .width = tty && !ctl->has_no_trunc ? term_width(stdout) : 0,
        .now = wall_now(),
        .is_exact = ctl->is_exact,
        .has_no_headings = ctl->has_no_headers,
        .time = ctl->when == WHEN_LOCAL  ? TABLE_LOCAL
                : ctl->when == WHEN_UNIX ? TABLE_UNIX
                                         : TABLE_UTC,
    };
}

bool ctl_talks(const struct ctl *ctl)
{
    return !ctl->is_quiet && ctl->output == OUTPUT_TABLE && term_is_tty(stderr);
}

int ctl_print_code(void)
{
    return bad_wish ? CLI_USAGE : is_too_old ? CLI_STALE : CLI_OK;
}

/* ---- age ------------------------------------------------------------------------------------------------------------- */

static void look_at_age(const struct ctl *ctl, const struct table_column *columns, const json_t *rows)
{
    struct wall now = wall_now(), t;
    size_t i, c = 0;
    json_t *row;

    is_too_old = false;
    while (columns[c].key && FORM_OF(&columns[c]) != FORM_AGE)
        c++;
    if (!ctl->max_age_ms || !columns[c].key)
        return;
    json_array_foreach(rows, i, row)
    {
        const char *z = json_string_value(json_object_get(row, columns[c].key));

        if (z && human_parse_time(z, &t) && (now.us - t.us) / 1000 > ctl->max_age_ms)
            is_too_old = true;
    }
}

/* ---- --nagios -------------------------------------------------------------------------------------------------------- */

static void add_label(struct buf *b, const char *z)
{
    for (; *z; z++)
        buf_addc(b, strchr("'=| \t\n", *z) ? '_' : *z);
}

static void add_perf(const struct table_column *columns, const json_t *row)
{
    const char *name = json_string_value(json_object_get(row, columns[0].key));

    for (size_t c = 1; columns[c].key; c++) {
        const json_t *v = json_object_get(row, columns[c].key);

        if (!json_is_number(v))
            continue;
        buf_addz(&perf, perf.len ? " '" : "'");
        add_label(&perf, name ? name : "all");
        buf_addc(&perf, '.');
        add_label(&perf, columns[c].key);
        buf_addf(&perf, "'=%.10g%s", json_number_value(v), FORM_OF(&columns[c]) == FORM_MS ? "ms" : "");
    }
}

static void collect(const struct table_column *columns, const json_t *rows)
{
    static const char *const WORDS[] = {"unhealthy", "degraded", "healthy",  "unknown", "OPEN",
                                        "HALF_OPEN", "CLOSED",   "critical", "warning", "FAIL"};
    size_t i;
    json_t *row;

    perf.len = said.len = 0;
    json_array_foreach(rows, i, row) if (i < PERF_ROWS_MAX && !json_object_get(row, ROWS_PINNED))
        add_perf(columns, row);
    buf_addf(&said, "%zu row%s", json_array_size(rows), json_array_size(rows) == 1 ? "" : "s");
    for (size_t w = 0; w < ARRAY_LEN(WORDS); w++) {
        size_t n = 0;

        json_array_foreach(rows, i, row) for (size_t c = 1; columns[c].key; c++)
        {
            const char *z = json_string_value(json_object_get(row, columns[c].key));

            n += z && strcmp(z, WORDS[w]) == 0;
        }
        if (n)
            buf_addf(&said, ", %zu %s", n, WORDS[w]);
    }
}

int ctl_print_nagios(const struct ctl *ctl, int code)
{
    static const char *const WORDS[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
    int is = code == CLI_OK ? 0 : code == CLI_WARNING ? 1 : code == CLI_CRITICAL ? 2 : 3;

    for (const char *z = ctl->command; *z; z++)
        (void)putchar(*z >= 'a' && *z <= 'z' ? *z - 32 : *z);
    (void)printf(" %s - ", WORDS[is]);
    if (code == CLI_STALE)
        (void)fputs("data is older than --max-age", stdout);
    else if (is == 3)
        term_put(stdout, ctl_last_complaint());
    else
        (void)fputs(said.len ? said.p : "done", stdout);
    if (perf.len)
        (void)printf(" | %s", perf.p);
    (void)putchar('\n');
    return is;
}

/* ---- the pager ------------------------------------------------------------------------------------------------------- */

static unsigned screen_rows(void)
{
    struct winsize w;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row ? w.ws_row : 24;
}

static const char *pager_of(void)
{
    static const char *const NAMES[] = {"GATEWAYD_PAGER", "PAGER"};

    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        if (getenv(NAMES[i]))
            return getenv(NAMES[i]);
    return "less -FIRX";
}

/* False when there is none that runs. */
static bool page(const char *text)
{
    const char *pager = pager_of();
    const char *argv[] = {"sh", "-c", pager, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], status = 0;
    FILE *to;
    pid_t pid;

    if (!*pager || strcmp(pager, "cat") == 0 || pipe2(ends, O_CLOEXEC))
        return false;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
    if (posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ))
        pid = -1;
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[0]);
    to = pid > 0 ? fdopen(ends[1], "we") : NULL;
    if (!to) {
        (void)close(ends[1]);
        return false;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* who quits early has seen enough */
    (void)fputs(text, to);
    (void)fclose(to);
    while (waitpid(pid, &status, 0) < 0)
        ;
    return !WIFEXITED(status) || WEXITSTATUS(status) != 127;
}

static void print_table(const struct ctl *ctl, FILE *f, const struct table_column *columns,
                        const json_t *rows)
{
    struct table_style style = ctl_style(ctl, f);
    bool may_page = f == stdout && term_is_tty(stdout) && !ctl->has_no_pager && !ctl->is_watch;
    char *text = NULL;
    size_t len = 0;
    FILE *memory = may_page ? open_memstream(&text, &len) : NULL;

    if (!memory) {
        table_print(f, columns, rows, &style);
        return;
    }
    table_print(memory, columns, rows, &style);
    (void)fclose(memory);
    (void)fflush(stdout);
    if (term_rows(text, term_width(stdout)) < screen_rows() || !page(text))
        (void)fputs(text, f);
    free(text);
}

/* ---- one road for every form ----------------------------------------------------------------------------------------- */

static bool is_picky(const struct ctl *ctl)
{
    return ctl->wish.filter || ctl->wish.sort_by || ctl->wish.columns || ctl->wish.limit;
}

static json_t *only(const struct table_column *columns, const json_t *rows)
{
    json_t *out = json_array(), *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        json_t *o = json_object();

        for (size_t c = 0; columns[c].key; c++)
            (void)json_object_set(o, columns[c].key, json_object_get(row, columns[c].key));
        (void)json_array_append_new(out, o);
    }
    return out;
}

void ctl_print_document(const struct ctl *ctl, FILE *f, const char *schema, const json_t *data)
{
    json_t *o = table_envelope(schema, data, is_too_old);

    if (ctl->format == FORMAT_YAML)
        table_print_yaml(f, o);
    else if (ctl->format == FORMAT_NDJSON)
        table_print_line(f, o);
    else
        table_print_document(f, o);
    json_decref(o);
}

/* Rows one by one, but a whole answer per round of --watch, which says when it is from. */
static void print_lines(const struct ctl *ctl, FILE *f, const char *schema, const json_t *rows)
{
    size_t i;
    json_t *row;

    if (ctl->is_watch) {
        ctl_print_document(ctl, f, schema, rows);
        return;
    }
    json_array_foreach(rows, i, row) table_print_line(f, row);
}

static void print_as(const struct ctl *ctl, FILE *f, const char *schema, const struct table_column *columns,
                     const json_t *rows, const json_t *data)
{
    json_t *chosen = ctl->wish.columns ? only(columns, rows) : json_incref((json_t *)(uintptr_t)rows);

    switch (ctl->format) {
    case FORMAT_JSON:
    case FORMAT_YAML:
        ctl_print_document(ctl, f, schema, data && !is_picky(ctl) ? data : chosen);
        break;
    case FORMAT_NDJSON:
        print_lines(ctl, f, schema, chosen);
        break;
    case FORMAT_CSV:
        table_print_csv(f, columns, rows, !ctl->has_no_headers);
        break;
    case FORMAT_TSV:
        table_print_tsv(f, columns, rows, !ctl->has_no_headers);
        break;
    case FORMAT_NAME:
        table_print_names(f, columns, rows);
        break;
    default:
        print_table(ctl, f, columns, rows);
    }
    json_decref(chosen);
}

static void complain(const struct err *err)
{
    bad_wish = true;
    (void)ctl_fail(CLI_USAGE, "%s", err_text(err));
}

void ctl_print(const struct ctl *ctl, FILE *f, const char *schema, const struct table_column *all,
               const json_t *rows, const json_t *data)
{
    struct table_column columns[ROWS_COLUMNS_MAX];
    struct rows_wish wish = ctl->wish;
    struct err err = {0};
    json_t *picked = NULL;

    wish.is_wide = ctl->output != OUTPUT_TABLE || ctl->format == FORMAT_WIDE;
    if (ctl->is_all)
        wish.limit = 0;
    if (bad_wish)
        return;
    if (rows_columns(all, rows, &wish, columns, &err) ||
        rows_pick(all, rows, &wish, wall_now(), &picked, &err) ||
        (ctl->until && rows_all_meet(all, picked, ctl->until, wall_now(), &until_met, &err))) {
        complain(&err);
    } else {
        look_at_age(ctl, all, picked);
        if (json_array_size(rows))
            ctl_put_none(ctl, picked, "No row meets --filter.");
        if (ctl->is_nagios)
            collect(all, picked);
        else
            print_as(ctl, f, schema, columns, picked, data);
    }
    json_decref(picked);
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

/* The next cell of a line: what stands between two gaps of two blanks or more. */
static struct span next_cell(const char **z)
{
    const char *start = *z + strspn(*z, " "), *end = start;

    while (*end && *end != '\n' && !(end[0] == ' ' && (end[1] == ' ' || end[1] == '\n')))
        end++;
    *z = end;
    return span_make(start, (size_t)(end - start));
}

/* `now` with the cells in bold that are not as they were at the same place of `was`. */
static void mark_changes(struct buf *out, const char *now, const char *was)
{
    while (*now) {
        const char *from = now;
        struct span cell = next_cell(&now), old = next_cell(&was);
        bool is_new = cell.len && (cell.len != old.len || memcmp(cell.p, old.p, cell.len) != 0);

        buf_add(out, span_make(from, (size_t)(cell.p - from)));
        buf_addz(out, is_new ? "\033[1m" : "");
        buf_add(out, cell);
        buf_addz(out, is_new ? "\033[0m" : "");
        now += strspn(now, " ") == strcspn(now, "\n") ? strspn(now, " ") : 0;
        if (*now != '\n')
            continue;
        buf_addc(out, *now++);
        was += strcspn(was, "\n");
        was += *was == '\n';
    }
}

static void redraw(const struct ctl *ctl, const char *text, unsigned *lines)
{
    static char *was; /* the last round */
    struct buf marked AUTO(buf_release) = {0};

    if (was && *lines && term_wants_color(stdout, ctl->color))
        mark_changes(&marked, text, was);
    ctl_redraw(stdout, marked.len ? marked.p : text, lines);
    free(was);
    was = strdup(text);
}

static void show_block(const struct ctl *ctl, const char *text, unsigned *lines)
{
    char when[WALL_TEXT_CAP];

    if (term_is_tty(stdout)) {
        redraw(ctl, text, lines);
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
    (void)setvbuf(stdout, NULL, _IOFBF, 1 << 16);
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
        if (until_met && !ctl_stop)
            return CLI_OK;
    } while (!ctl_stop && !bad_wish && (rc == CLI_OK || rc >= CLI_WARNING || rc == CLI_NO_ANSWER) &&
             ctl_sleep_ms(ctl->watch_ms));
    return ctl_stop ? 128 + ctl_stop : rc;
}
