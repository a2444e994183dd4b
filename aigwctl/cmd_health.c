/* SPDX-License-Identifier: Apache-2.0 */
/* Health of the providers, and the arithmetic of one score. */
#include <string.h>

#include "aigwctl/command.h"
#include "libshared/cli/human.h"

enum { KEY_EXPLAIN = 0x2000, KEY_BELOW };

static struct {
    bool explain, has_below;
    double below;
} opt;

static const struct argp_option OPTIONS[] = {
    {"explain", KEY_EXPLAIN, 0, 0, "of one provider: how its score comes about", 0},
    {"below", KEY_BELOW, "SCORE", 0, "only those below it", 0},
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    char *end;

    if (key == KEY_EXPLAIN) {
        opt.explain = true;
        return 0;
    }
    if (key != KEY_BELOW)
        return ARGP_ERR_UNKNOWN;
    opt.below = strtod(arg, &end);
    opt.has_below = true;
    if (end == arg || *end)
        ctl_usage(state, "--below takes a score, not '%s'", arg);
    return 0;
}

const struct table_column HEALTH_COLUMNS[] = {
    {"provider", "PROVIDER", FORM_TEXT},
    {"health_score", "SCORE", FORM_SCORE},
    {"status", "STATUS", FORM_HEALTH},
    {"error_rate", "ERR", FORM_PERCENT},
    {"latency_p50_ms", "P50", FORM_MS},
    {"latency_p95_ms", "P95", FORM_MS},
    {"requests_per_s", "REQ/S", FORM_RATE},
    {"last_updated", "UPDATED", FORM_AGE},
    {0},
};

struct tally {
    unsigned n, healthy, degraded, unhealthy;
};

static struct tally tally_of(const json_t *rows)
{
    struct tally t = {0};
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row)
    {
        const char *s = json_string_value(json_object_get(row, "status"));

        t.n++;
        t.healthy += s && strcmp(s, "healthy") == 0;
        t.degraded += s && strcmp(s, "degraded") == 0;
        t.unhealthy += s && strcmp(s, "unhealthy") == 0;
    }
    return t;
}

static int code_of(const struct ctl *ctl, struct tally t)
{
    if (!ctl->has_exit_code)
        return CLI_OK;
    return t.unhealthy ? CLI_CRITICAL : t.degraded ? CLI_WARNING : CLI_OK;
}

static void print_term(FILE *f, const json_t *terms, const char *key, const char *name, const char *detail)
{
    const json_t *term = json_object_get(terms, key);
    double points = json_number_value(json_object_get(term, "points"));
    double of = json_number_value(json_object_get(term, "of"));

    (void)fprintf(f, "  %-13s %-18s %5.1f of %2.0f%s", name, detail, points, of, points < of ? "" : "\n");
    if (points < of)
        (void)fprintf(f, "  %+.1f\n", points - of);
}

static void breakers_text(char *dst, size_t cap, const json_t *terms)
{
    long long n = (long long)json_integer_value(json_object_get(terms, "breakers_total"));
    long long open = (long long)json_integer_value(json_object_get(terms, "breakers_open"));

    if (n)
        (void)snprintf(dst, cap, "%lld of %lld open", open, n);
    else
        (void)snprintf(dst, cap, "none");
}

static void print_cap(FILE *f, const json_t *terms)
{
    const json_t *cap = json_object_get(terms, "cap");

    if (!json_is_object(cap))
        return;
    (void)fprintf(f, "  capped        %.1f → %.1f: ", json_number_value(json_object_get(terms, "sum")),
                  json_number_value(json_object_get(cap, "at")));
    ctl_put_member(f, cap, "reason");
    (void)fputc('\n', f);
}

static void print_source(FILE *f, const json_t *row)
{
    const json_t *probe = json_object_get(row, "probe");

    (void)fprintf(f, "  window %lld s, %lld attempts, computed ",
                  (long long)json_integer_value(json_object_get(row, "window_s")),
                  (long long)json_integer_value(json_object_get(row, "attempts")));
    ctl_put_member(f, row, "computed_at");
    (void)fputs(", source ", f);
    ctl_put_member(f, row, "source");
    (void)fputc('\n', f);
    if (!json_is_object(probe))
        return;
    (void)fputs("  last probe ", f);
    ctl_put_member(f, probe, "at");
    (void)fputs(": ", f);
    ctl_put_member(f, probe, "outcome");
    (void)fputs(", ", f);
    ctl_put_member(f, probe, "detail");
    (void)fputs("; without attempts it counts as the only one\n", f);
}

static void explain(FILE *f, const json_t *row)
{
    const json_t *terms = json_object_get(row, "terms");
    char errors[HUMAN_CAP], p95[HUMAN_CAP], target[HUMAN_CAP], detail[128];

    ctl_put_member(f, row, "provider");
    if (!json_is_object(terms)) {
        (void)fprintf(f, "  unknown: no attempts in the last %lld s, and no probe\n",
                      (long long)json_integer_value(json_object_get(row, "window_s")));
        return;
    }
    (void)fprintf(f, "  %.1f ", json_number_value(json_object_get(row, "health_score")));
    ctl_put_member(f, row, "status");
    (void)fputs("   (healthy >= 80, unhealthy < 50)\n", f);
    human_percent(errors, json_number_value(json_object_get(row, "error_rate")));
    (void)snprintf(detail, sizeof(detail), "%s errors", errors);
    print_term(f, terms, "success_rate", "success rate", detail);
    if (json_is_number(json_object_get(row, "latency_p95_ms")))
        human_ms(p95, json_number_value(json_object_get(row, "latency_p95_ms")));
    else
        (void)snprintf(p95, sizeof(p95), "-");
    human_ms(target, json_number_value(json_object_get(terms, "latency_p95_target_ms")));
    (void)snprintf(detail, sizeof(detail), "%s of %s", p95, target);
    print_term(f, terms, "latency_p95", "p95", detail);
    breakers_text(detail, sizeof(detail), terms);
    print_term(f, terms, "breakers", "breakers", detail);
    print_cap(f, terms);
    print_source(f, row);
}

static json_t *below(json_t *rows)
{
    json_t *kept = json_array(), *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        json_t *score = json_object_get(row, "health_score");

        if (!opt.has_below || (json_is_number(score) && json_number_value(score) < opt.below))
            (void)json_array_append(kept, row);
    }
    json_decref(rows);
    return kept;
}

static void print_footer(const struct ctl *ctl, struct tally t)
{
    if (t.n && ctl_talks(ctl))
        (void)fprintf(stderr, "\n%u healthy, %u degraded, %u unhealthy, %u unknown\n", t.healthy, t.degraded,
                      t.unhealthy, t.n - t.healthy - t.degraded - t.unhealthy);
}

int health_show(struct ctl *ctl, FILE *f)
{
    struct buf path AUTO(buf_release) = {0};
    json_t *doc, *rows;
    struct tally t;
    int rc;

    buf_addz(&path, "/api/monitoring/health");
    if (ctl->n_args)
        buf_addf(&path, "/%s", ctl->args[0]);
    rc = ctl_get(ctl, path.p, &doc);
    if (rc || !doc)
        return rc;
    rows = below(json_is_array(doc) ? json_incref(doc) : json_pack("[O]", doc));
    t = tally_of(rows);
    if (opt.explain && ctl->output == OUTPUT_TABLE)
        explain(f, doc);
    else
        ctl_print(ctl, f, "health", HEALTH_COLUMNS, rows, NULL);
    if (f == stdout && ctl->output == OUTPUT_TABLE && !opt.explain)
        print_footer(ctl, t);
    if (f == stdout && ctl->output == OUTPUT_TABLE && !t.n && opt.has_below)
        (void)fprintf(stderr, "no provider scores below %g\n", opt.below);
    json_decref(rows);
    json_decref(doc);
    return code_of(ctl, t);
}

static int run(struct ctl *ctl)
{
    if (opt.explain && !ctl->n_args)
        return ctl_fail(CLI_USAGE, "health: --explain needs a provider");
    return ctl_watch(ctl, health_show);
}

static const struct command_verb VERBS[] = {
    {"", "[PROVIDER]", "health score, error rate and latency of each provider", READS,
     "GET /api/monitoring/health"},
    {0},
};

const struct command CMD_HEALTH = {
    .name = "health",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "health score, error rate and latency of each provider",
    .help = "Health of every provider over the last five minutes of attempts: 50 points for success, 30 for "
            "latency, 20 for breakers, at most 79 from 10 % errors and 49 from 50 % or while every breaker "
            "is open. "
            "Without traffic the last probe counts, without either it is unknown.\v"
            "  aigwctl health sim-flaky --explain",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 1,
};
