/* SPDX-License-Identifier: Apache-2.0 */
/* A gateway to look at: starts one with simulated providers, sends it requests, shows health and cost, and leaves nothing. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/command.h"
#include "aigwctl/demo_books.h"
#include "aigwctl/demo_gateway.h"
#include "aigwctl/demo_traffic.h"
#include "libshared/cli/human.h"

enum { KEY_ONCE = 0x2000, KEY_RPS, KEY_PORT };

#define PASS_SHARE 0.95

static struct {
    int64_t once_ms; /* 0: until Ctrl-C */
    double rps;
    uint16_t port;
} opt = {.rps = 5, .port = 8080};

static const struct argp_option OPTIONS[] = {
    {"once", KEY_ONCE, "TIME", 0, "end by itself after TIME, with a report; exit 0 when 95% were answered",
     0},
    {"rps", KEY_RPS, "N", 0, "requests a second (default 5)", 0},
    {"port", KEY_PORT, "N", 0, "listen there, or on the next free one (default 8080)", 0},
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    uint64_t n = 0;
    char *end;

    switch (key) {
    case KEY_ONCE:
        if (!human_parse_duration(arg, &opt.once_ms) || opt.once_ms < 1000)
            ctl_usage(state, "--once takes a time from 1s, not '%s'", arg);
        return 0;
    case KEY_RPS:
        opt.rps = strtod(arg, &end);
        if (*end || !(opt.rps >= 0.1 && opt.rps <= 1000))
            ctl_usage(state, "--rps takes 0.1 to 1000, not '%s'", arg);
        return 0;
    case KEY_PORT:
        if (!span_to_u64(span_of(arg), &n) || n > 65535)
            ctl_usage(state, "--port takes 0 to 65535, not '%s'", arg);
        opt.port = (uint16_t)n;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_banner(const struct demo_gateway *g)
{
    char how[256];
    const char *key = json_string_value(json_object_get(g->keys, "demo"));

    if (g->context[0])
        (void)snprintf(how, sizeof(how), "-c %s", g->context);
    else
        (void)snprintf(how, sizeof(how), "--url %s", g->admin_url);
    (void)printf("gatewayd " GATEWAYD_VERSION " demo: 3 simulated providers, nothing leaves this machine\n");
    if (g->is_moved)
        (void)printf("  port %u is taken, so this is the next free one\n", opt.port);
    (void)printf(
        "  API       %s/v1/chat/completions\n"
        "  key       %s\n"
        "  metrics   %s/metrics\n"
        "Try in another terminal:\n"
        "  %s %s health -w\n"
        "  %s %s mock set sim-fast --error-rate 100%%\n"
        "  curl -si %s/v1/chat/completions -H \"Authorization: Bearer %s\" \\\n"
        "    -d '{\"model\":\"chat-default\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'\n"
        "Ctrl-C stops and removes everything.\n\n",
        g->url, key ? key : "?", g->url, g->program, how, g->program, how, g->url, key ? key : "?");
    (void)fflush(stdout);
}

/* ---- the live view ------------------------------------------------------------------------------------------------- */

static double share_answered(const struct demo_figures *f)
{
    return f->expected ? (double)f->answered / (double)f->expected : 0;
}

static void print_figures(FILE *f, const struct demo_figures *d)
{
    (void)fprintf(
        f, "%llu requests sent, %llu answered, %llu streamed, %llu failed over, %llu failed\n%s%s%s",
        (unsigned long long)d->sent, (unsigned long long)d->answered, (unsigned long long)d->streamed,
        (unsigned long long)d->failed_over, (unsigned long long)d->failed,
        d->failed ? "latest failure: " : "", d->failed ? d->complaint : "", d->failed ? "\n" : "");
}

static void show(struct ctl *ctl, struct demo_traffic *t, unsigned *lines)
{
    struct demo_figures d = demo_traffic_figures(t);
    char *text = NULL, when[WALL_TEXT_CAP];
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        abort();
    if (!term_is_tty(stdout)) {
        (void)wall_format(wall_now(), when, sizeof(when));
        (void)fprintf(f, "%s\n", when);
    }
    print_figures(f, &d);
    (void)fputc('\n', f);
    (void)health_show(ctl, f);
    (void)fputc('\n', f);
    (void)cost_show(ctl, f);
    if (!term_is_tty(stdout))
        (void)fputc('\n', f);
    (void)fclose(f);
    if (term_is_tty(stdout))
        ctl_redraw(stdout, text, lines);
    else
        (void)fputs(text, stdout);
    (void)fflush(stdout);
    free(text);
}

/* ---- the report ---------------------------------------------------------------------------------------------------- */

static void print_books(struct ctl *ctl, const struct demo_figures *d)
{
    json_t *doc = NULL, *s;
    char cost[HUMAN_CAP];
    uint64_t counted, sent = d->sent + d->barred;

    if (ctl_get(ctl, "/health/dashboard", &doc) || !doc)
        return;
    s = json_object_get(doc, "summary");
    counted = (uint64_t)json_integer_value(json_object_get(s, "total_requests"));
    human_usd(cost, json_integer_value(json_object_get(s, "total_cost_nanousd")));
    (void)printf("  cost       %s\n", cost);
    (void)printf("  books      %s: %llu requests were sent, the gateway counted %llu%s\n",
                 counted < sent ? "differ" : "agree", (unsigned long long)sent, (unsigned long long)counted,
                 counted > sent ? ", some of them sent by others" : "");
    json_decref(doc);
}

static void print_ledger(struct ctl *ctl, const struct demo_gateway *g)
{
    struct demo_books b;
    char state_dir[sizeof(g->dir) + 8];

    (void)snprintf(state_dir, sizeof(state_dir), "%s/state", g->dir);
    if (!demo_books_compare(ctl, state_dir, &b))
        (void)puts("  ledger     cannot be compared with what the providers billed");
    else if (b.agree)
        (void)printf(
            "  ledger     agrees with what the providers billed: %lld calls, %lld tokens in, %lld out\n",
            (long long)b.ledger.posts, (long long)b.ledger.input, (long long)b.ledger.output);
    else
        (void)printf("  ledger     differs: it has %lld calls, %lld tokens in, %lld out; the providers "
                     "billed %lld calls, "
                     "%lld in, %lld out\n",
                     (long long)b.ledger.posts, (long long)b.ledger.input, (long long)b.ledger.output,
                     (long long)b.truth.posts, (long long)b.truth.input, (long long)b.truth.output);
}

static void print_report(struct ctl *ctl, const struct demo_gateway *g, const struct demo_figures *d)
{
    char p50[HUMAN_CAP] = "-", p95[HUMAN_CAP] = "-", share[HUMAN_CAP];

    if (d->p50_us >= 0) {
        human_ms(p50, (double)d->p50_us / 1000);
        human_ms(p95, (double)d->p95_us / 1000);
    }
    human_percent(share, share_answered(d));
    (void)printf("Report\n"
                 "  requests   %llu expected, %llu sent, %llu answered (%s), %llu of them streamed\n"
                 "  failover   %llu answered by another provider than the first\n"
                 "  refused    %llu of %llu of a tenant that may not use these models\n"
                 "  latency    p50 %s, p95 %s\n",
                 (unsigned long long)d->expected, (unsigned long long)d->sent,
                 (unsigned long long)d->answered, share, (unsigned long long)d->streamed,
                 (unsigned long long)d->failed_over, (unsigned long long)d->refused,
                 (unsigned long long)d->barred, p50, p95);
    print_books(ctl, d);
    print_ledger(ctl, g);
    if (d->failed)
        (void)printf("  failures   %llu, the latest: %s\n", (unsigned long long)d->failed, d->complaint);
    (void)fflush(stdout);
}

/* ---- the run ------------------------------------------------------------------------------------------------------- */

static int look_on(struct ctl *ctl, struct demo_gateway *g, struct demo_traffic *t)
{
    int64_t every_ms = ctl->is_watch ? ctl->watch_ms : term_is_tty(stdout) ? 1000 : 5000;
    struct mono next = mono_add_us(mono_now(), every_ms * 1000);
    unsigned lines = 0;

    while (!ctl_stop && !demo_traffic_is_done(t)) {
        if (!demo_gateway_is_alive(g)) {
            demo_gateway_print_log(g);
            return ctl_fail(CLI_FAILED, "gatewayd ended by itself");
        }
        if (mono_diff_us(mono_now(), next) >= 0) {
            show(ctl, t, &lines);
            next = mono_add_us(mono_now(), every_ms * 1000);
        }
        if (ferror(stdout))
            return ctl_fail(CLI_FAILED, "nobody reads the output any more");
        (void)ctl_sleep_ms(50);
    }
    if (!ctl_stop)
        show(ctl, t, &lines);
    return ctl_stop ? 128 + ctl_stop : CLI_OK;
}

static int with_traffic(struct ctl *ctl, struct demo_gateway *g)
{
    struct demo_traffic_options o = {.url = g->url, .keys = g->keys, .per_s = opt.rps, .for_ms = opt.once_ms};
    struct err err = {0};
    struct demo_traffic *t = demo_traffic_start(&o, &err);
    struct demo_figures d;
    int rc;

    if (!t)
        return ctl_fail(CLI_FAILED, "no traffic: %s", err_text(&err));
    rc = look_on(ctl, g, t);
    if (rc == CLI_OK) {
        d = demo_traffic_figures(t);
        (void)putchar('\n');
        print_report(ctl, g, &d);
        if (share_answered(&d) < PASS_SHARE)
            rc = ctl_fail(CLI_FAILED, "less than 95%% of the requests were answered");
    }
    demo_traffic_free(t);
    return rc;
}

static int run(struct ctl *ctl)
{
    struct demo_gateway g;
    int rc;

    (void)signal(SIGPIPE, SIG_IGN); /* a reader that goes away must not keep us from cleaning up */
    rc = demo_gateway_start(&g, opt.port);
    ctl->output = OUTPUT_TABLE;
    ctl->is_raw = false;
    if (!rc) {
        ctl->url = g.admin_url;
        print_banner(&g);
        rc = with_traffic(ctl, &g);
    }
    demo_gateway_stop(&g);
    return rc;
}

static const struct command_verb VERBS[] = {
    {"", "", "run it", READS, NULL},
    {0},
};

const struct command CMD_DEMO = {
    .name = "demo",
    .verbs = VERBS,
    .group = GROUP_SETUP,
    .summary = "run a gateway with simulated providers and watch it",
    .help = "Starts a gateway with three simulated providers in a private directory, sends it requests over "
            "HTTP, and shows "
            "health and cost until Ctrl-C. Nothing leaves this machine, and nothing stays.\v"
            "  aigwctl demo --once 15s",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
