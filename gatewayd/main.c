/* SPDX-License-Identifier: Apache-2.0 */
/* Boot order and nothing else: arguments, limits, demo, gateway, signals, drain. */
#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "gatewayd/books/books.h"
#include "gatewayd/config/config_show.h"
#include "gatewayd/core/loop.h"
#include "gatewayd/core/notify.h"
#include "gatewayd/demo.h"
#include "gatewayd/gateway.h"
#include "gatewayd/http/client.h"
#include "gatewayd/sim/sim.h"
#include "libshared/base/log.h"
#include "libshared/cli/options.h"

#define EXIT_USAGE 2

#define FILES_BESIDES 256u /* journal segments, logs, listeners, stores, lookups */

struct arguments {
    struct config_options config;
    struct sim_options sim;
    const char *ready_file;
    bool check_only, print_docs, print_json;
};

enum {
    KEY_DEMO = 256,
    KEY_CHECK,
    KEY_LISTEN,
    KEY_STATE,
    KEY_READY,
    KEY_SIMULATE,
    KEY_TRUTH,
    KEY_SEED,
    KEY_DOCS,
    KEY_JSON
};

static const struct argp_option OPTIONS[] = {
    {"config", 'c', "FILE", 0, "configuration file (YAML)", 0},
    {"demo", KEY_DEMO, NULL, 0,
     "three simulated providers, demo tenants and models; needs no file and no network", 0},
    {"check-config", KEY_CHECK, NULL, 0, "read the configuration, report, and exit: 0 good, 1 bad", 0},
    {"listen", KEY_LISTEN, "ADDR:PORT", 0, "data-plane address; port 0 lets the kernel choose", 0},
    {"state-dir", KEY_STATE, "DIR", 0, "journal, access log, history, sockets and minted keys", 0},
    {"ready-file", KEY_READY, "FILE", 0, "written once serving: addresses, pid, admin token (mode 0600)", 0},
    {"simulate", KEY_SIMULATE, "ADDR:PORT", 0, "run only the simulated provider", 1},
    {"truth-log", KEY_TRUTH, "FILE", 0, "with --simulate: append every received request to FILE", 1},
    {"seed", KEY_SEED, "N", 0, "with --simulate: answers and faults follow from it", 1},
    {"print-config-docs", KEY_DOCS, NULL, OPTION_HIDDEN, "every option as a Markdown table", 0},
    {"print-config-json", KEY_JSON, NULL, OPTION_HIDDEN, "every option as JSON; with -c its values", 0},
    {0},
};

static error_t take(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;
    char *end = NULL;

    switch (key) {
    case 'c':
        a->config.path = value;
        return 0;
    case KEY_DEMO:
        a->config.is_demo = true;
        return 0;
    case KEY_CHECK:
        a->check_only = true;
        return 0;
    case KEY_LISTEN:
        a->config.listen = value;
        return 0;
    case KEY_STATE:
        a->config.state_dir = value;
        return 0;
    case KEY_READY:
        a->ready_file = value;
        return 0;
    case KEY_SIMULATE:
        a->sim.listen = value;
        return 0;
    case KEY_TRUTH:
        a->sim.truth_log = value;
        return 0;
    case KEY_SEED:
        errno = 0;
        a->sim.seed = strtoull(value, &end, 10);
        if (errno || !*value || *end || *value == '-')
            argp_error(state, "--seed: '%s' is not a whole number", value);
        return 0;
    case KEY_DOCS:
        a->print_docs = true;
        return 0;
    case KEY_JSON:
        a->print_json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", value);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int print_docs(void)
{
    struct buf b AUTO(buf_release) = {0};

    config_document(&b);
    return b.p && fwrite(b.p, 1, b.len, stdout) == b.len && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int print_json(const struct arguments *a)
{
    struct config_options o = a->config;
    struct err err = {0};
    struct config *c = NULL;
    json_t *doc;
    int rc;

    o.is_check = true;
    if (o.path && !(c = config_load(&o, &err))) {
        (void)fprintf(stderr, "gatewayd: %s\n", err_text(&err));
        return EXIT_FAILURE;
    }
    doc = config_show(c);
    rc = json_dumpf(doc, stdout, JSON_COMPACT) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    json_decref(doc);
    config_unref(c);
    return rc;
}

static void print_warnings(const struct config *c)
{
    struct buf b AUTO(buf_release) = {0};
    struct span rest;

    config_warnings(c, &b);
    rest = buf_span(&b);
    while (rest.len) {
        struct span line = span_split(&rest, '\n');

        if (line.len)
            log_warn("configuration: %.*s", (int)line.len, line.p);
    }
}

static int check_config(const struct arguments *a)
{
    struct config_options o = a->config;
    struct err err = {0};
    struct buf stores AUTO(buf_release) = {0};
    struct config *c;

    o.is_check = true;
    c = config_load(&o, &err);
    if (!c || books_check(c, &stores, &err)) {
        (void)fprintf(stderr, "gatewayd: %s\n", err_text(&err));
        config_unref(c);
        return EXIT_FAILURE;
    }
    print_warnings(c);
    (void)printf("configuration is good: %zu providers, %zu models, %zu tenants, %zu keys\n%s\n",
                 c->n_providers, c->n_models, c->n_tenants, c->n_keys, stores.p);
    config_unref(c);
    return EXIT_SUCCESS;
}

static void raise_limits(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* The simulator has no secrets; what serves has. */
static void hide_memory(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    (void)prctl(PR_SET_DUMPABLE, 0); /* no core file with keys in it */
#endif
}

/* ---- signals --------------------------------------------------------------------------------------------------------- */

struct signals {
    struct loop_watch watch;
    struct gateway *gw;
    bool is_draining;
};

static void on_signal(struct loop_watch *w, uint32_t events)
{
    struct signals *s = CONTAINER_OF(w, struct signals, watch);
    struct signalfd_siginfo info;

    (void)events;
    while (read(w->fd, &info, sizeof(info)) == sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGHUP:
            if (!s->is_draining)
                notify_reloading();
            gateway_reload(s->gw);
            gateway_reopen_logs(s->gw);
            if (!s->is_draining)
                notify_ready();
            break;
        case SIGTERM:
        case SIGINT:
            notify_stopping();
            if (s->is_draining)
                gateway_cut(s->gw);
            else
                gateway_drain(s->gw);
            s->is_draining = true;
            break;
        default:
            break;
        }
    }
}

static enum err_code catch_signals(struct signals *s, struct loop *l, struct err *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL); /* before any thread, so that all inherit it */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file-size limit is an error code like a full disk */
    s->watch = (struct loop_watch){.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), .fn = on_signal};
    if (s->watch.fd < 0 || loop_watch(l, &s->watch, EPOLLIN) != ERR_OK)
        return err_set(err, ERR_IO, "signals: %s", strerror(errno));
    return ERR_OK;
}

/* A request holds its client's connection and its provider's; the rest is files, stores and listeners. */
static void warn_of_few_files(const struct config *c)
{
    uint64_t wanted = 2 * (uint64_t)c->http.max_connections + FILES_BESIDES;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY || files.rlim_cur >= wanted)
        return;
    log_warn(
        "only %llu files may be open, but 'http.max_connections' of %llu can take %llu; raise the hard limit "
        "(LimitNOFILE, ulimit -Hn) or lower the option",
        (unsigned long long)files.rlim_cur, (unsigned long long)c->http.max_connections,
        (unsigned long long)wanted);
}

static int serve(const struct arguments *a, const struct demo *demo)
{
    struct gateway_options go = {.config = a->config,
                                 .ready_file = a->ready_file,
                                 .simulator = demo ? demo->simulator : NULL,
                                 .demo_keys_json = demo ? demo->keys.p : NULL};
    struct err err = {0};
    struct signals signals = {0};
    struct config *c;

    hide_memory();
    go.loop = loop_new(&err);
    if (go.loop && catch_signals(&signals, go.loop, &err) == ERR_OK)
        signals.gw = gateway_new(&go, &err);
    if (signals.gw) {
        c = gateway_config_ref_mt(signals.gw);
        print_warnings(c);
        warn_of_few_files(c);
        config_unref(c);
        notify_ready();
        loop_run(go.loop);
    } else {
        (void)fprintf(stderr, "gatewayd: %s\n", err_text(&err));
    }
    gateway_free(signals.gw);
    if (signals.gw)
        log_info("stopped");
    if (signals.watch.slot) {
        loop_unwatch(go.loop, &signals.watch);
        (void)close(signals.watch.fd);
    }
    loop_free(go.loop);
    return signals.gw ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int serve_demo(struct arguments *a)
{
    struct demo demo;
    struct err err = {0};
    int rc = EXIT_FAILURE;

    if (demo_start(&demo, a->config.state_dir, &err) == ERR_OK) {
        a->config.state_dir = demo.state_dir;
        a->config.overlay_yaml = demo.yaml.p;
        rc = serve(a, &demo);
    } else {
        (void)fprintf(stderr, "gatewayd: %s\n", err_text(&err));
    }
    demo_stop(&demo);
    return rc;
}

static bool has_abbreviation(int argc, char **argv)
{
    static const struct argp_option BUILT_IN[] = {
        {"help", '?', 0, 0, 0, 0}, {"usage", 'u', 0, 0, 0, 0}, {"version", 'V', 0, 0, 0, 0}, {0}};
    static const struct argp_option *const LISTS[] = {OPTIONS, BUILT_IN, NULL};
    const char *whole, *word = cli_abbreviated(argc, argv, LISTS, &whole);

    if (word)
        (void)fprintf(stderr, "gatewayd: no option is '%s'; did you mean '--%s'?\n", word, whole);
    return word != NULL;
}

int main(int argc, char **argv)
{
    static const struct argp PARSER = {
        OPTIONS,
        take,
        NULL,
        "An AI gateway: relays OpenAI- and Anthropic-shaped requests to any provider and "
        "keeps books of what they cost.\vSIGHUP reloads the configuration, SIGTERM drains "
        "(open streams finish), a second SIGTERM cuts.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.config.version = 1, .sim.seed = 1};

    argp_program_version = "gatewayd " GATEWAYD_VERSION;
    argp_err_exit_status = EXIT_USAGE;
    if (has_abbreviation(argc, argv))
        return EXIT_USAGE;
    (void)argp_parse(&PARSER, argc, argv, 0, NULL, &a);
    if (a.print_docs)
        return print_docs();
    if (a.print_json)
        return print_json(&a);
    if (a.print_json)
        return print_json(&a);
    if (a.check_only)
        return check_config(&a);
    raise_limits();
    if (a.sim.listen) {
        a.sim.ready_file = a.ready_file;
        return sim_main(&a.sim);
    }
    client_global_init();
    return a.config.is_demo ? serve_demo(&a) : serve(&a, NULL);
}
