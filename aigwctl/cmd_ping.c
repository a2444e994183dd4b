/* SPDX-License-Identifier: Apache-2.0 */
/* How long the gateway takes to say that it is there. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/cli/human.h"

#define KEPT_MAX 100000u

enum { KEY_WARNING = 0x2000, KEY_CRITICAL };

static const struct argp_option OPTIONS[] = {
    {"count", 'n', "N", 0, "end after N (default: on Ctrl-C; 1 where nobody looks)", 0},
    {"interval", 'i', "TIME", 0, "between two (default 1s)", 0},
    {"warning", KEY_WARNING, "TIME", 0, "exit 10 when one took so long, with --exit-code (default 500ms)", 0},
    {"critical", KEY_CRITICAL, "TIME", 0, "exit 11 when one took so long (default 2s)", 0},
    {0},
};

static unsigned count;
static int64_t interval_ms = 1000, warning_ms = 500, critical_ms = 2000;

static error_t take(int key, char *arg, struct argp_state *state)
{
    int64_t *to = key == 'i'            ? &interval_ms
                  : key == KEY_WARNING  ? &warning_ms
                  : key == KEY_CRITICAL ? &critical_ms
                                        : NULL;

    if (key == 'n') {
        count = look_count(state, "count", arg, 1, KEPT_MAX);
        return 0;
    }
    if (!to)
        return ARGP_ERR_UNKNOWN;
    if (!human_parse_duration(arg, to) || *to < 1)
        ctl_usage(state, "'%s' is no time: write 200ms or 2s", arg);
    return 0;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

const struct table_column PING_COLUMNS[] = {
    {"sent", "SENT", FORM_COUNT},
    {"answered", "ANSWERED", FORM_COUNT},
    {"min_ms", "MIN", FORM_MS},
    {"avg_ms", "AVG", FORM_MS},
    {"p95_ms", "P95", FORM_MS},
    {"max_ms", "MAX", FORM_MS},
    {0},
};

static json_t *figure(double v)
{
    return isnan(v) ? json_null() : json_real(round(v * 1000) / 1000);
}

static void summarise(const struct ctl *ctl, double *took, unsigned n, unsigned sent)
{
    double sum = 0;
    json_t *row, *rows;

    qsort(took, n, sizeof(*took), compare);
    for (unsigned i = 0; i < n; i++)
        sum += took[i];
    row = json_pack("{s:i, s:i, s:o, s:o, s:o, s:o}", "sent", (int)sent, "answered", (int)n, "min_ms",
                    figure(n ? took[0] : NAN), "avg_ms", figure(n ? sum / n : NAN), "p95_ms",
                    figure(n ? took[(size_t)ceil(n * 0.95) - 1] : NAN), "max_ms",
                    figure(n ? took[n - 1] : NAN));
    rows = json_pack("[o]", row);
    ctl_print(ctl, stdout, "ping", PING_COLUMNS, rows, NULL);
    json_decref(rows);
}

/* One call; false when nobody answered, which has been said. */
static int ask(struct ctl *ctl, unsigned at, bool is_told, double *out_ms)
{
    struct mono start = mono_now();
    struct api_answer a = {0};
    char took[HUMAN_CAP], line[512];
    json_t *doc;
    int rc = ctl_call(ctl, "GET", "/metrics/health", (struct span){0}, &a);

    *out_ms = (double)mono_diff_us(mono_now(), start) / 1000;
    if (!rc && (a.status < 200 || a.status > 299))
        rc = ctl_refused(&a);
    if (!rc && is_told) {
        doc = json_loadb(a.body.p ? a.body.p : "", a.body.len, 0, NULL);
        human_ms(took, *out_ms);
        (void)snprintf(line, sizeof(line), "%u: %s %s from %.300s\n", at, took,
                       json_string_value(json_object_get(doc, "status"))
                           ? json_string_value(json_object_get(doc, "status"))
                           : "answer",
                       ctl->found_url);
        term_put(stdout, line);
        (void)fflush(stdout);
        json_decref(doc);
    }
    api_answer_release(&a);
    return rc;
}

static int run(struct ctl *ctl)
{
    unsigned most = count ? count : term_is_tty(stdout) && !ctl->is_nagios ? KEPT_MAX : 1, n = 0, sent = 0;
    double *took = calloc(most, sizeof(*took)), worst = 0;
    bool is_told = ctl->output == OUTPUT_TABLE && !ctl->is_quiet && most > 1;
    int rc = CLI_OK, last = CLI_OK;

    if (!took)
        abort();
    ctl->is_watch = most > 1; /* a silence is said once */
    while (sent < most && !ctl_stop) {
        rc = ask(ctl, ++sent, is_told, &took[n]);
        if (ctl_stop)
            sent--;
        else if (!rc)
            worst = fmax(worst, took[n++]);
        else
            last = rc;
        if ((rc && rc != CLI_NO_ANSWER) || sent == most || !ctl_sleep_ms(interval_ms))
            break;
    }
    ctl->is_watch = false;
    summarise(ctl, took, n, sent);
    free(took);
    if (last)
        return n && last == CLI_NO_ANSWER && ctl->has_exit_code ? CLI_CRITICAL : last;
    return look_code(ctl, worst, (double)warning_ms, (double)critical_ms);
}

static const struct command_verb VERBS[] = {
    {"", "", "ask again and again", READS, "GET /metrics/health"},
    {0},
};

const struct command CMD_PING = {
    .name = "ping",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "whether the gateway answers, and how fast",
    .help = "Asks until Ctrl-C and then says how long answers took.\v"
            "  aigwctl ping -n 5 -i 200ms",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
