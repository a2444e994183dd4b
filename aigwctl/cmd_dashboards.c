/* SPDX-License-Identifier: Apache-2.0 */
/* Grafana dashboards: list, render, check, install as provisioned files, push to a running Grafana. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "aigwctl/alerts.h"
#include "aigwctl/dashboards.h"

enum {
    KEY_DATASOURCE = 0x2000,
    KEY_OUT_DIR,
    KEY_FOLDER,
    KEY_DRY_RUN,
    KEY_PROVISIONING,
    KEY_RUNBOOKS,
    KEY_LIVE
};

#define DEFAULT_DIR          "/var/lib/grafana/dashboards/gatewayd"
#define DEFAULT_PROVISIONING "/etc/grafana/provisioning/dashboards/gatewayd.yaml"
#define MAX_BYTES            ((size_t)16 << 20)

static struct {
    const char *datasource, *out_dir, *folder, *provisioning, *runbooks;
    bool is_dry_run, is_live;
} opt = {.folder = "gatewayd", .runbooks = "docs/alerts.md"};

static const struct argp_option OPTIONS[] = {
    {"datasource", KEY_DATASOURCE, "UID", 0, "render: this Prometheus data source, and no variable for it",
     0},
    {"out-dir", KEY_OUT_DIR, "DIR", 0,
     "render: write files there; install: where Grafana reads them (default " DEFAULT_DIR ")", 0},
    {"provisioning", KEY_PROVISIONING, "FILE", 0,
     "install: the provider file (default " DEFAULT_PROVISIONING ")", 0},
    {"folder", KEY_FOLDER, "UID", 0, "push: the folder, made when it is not there (default gatewayd)", 0},
    {"runbook-base", KEY_RUNBOOKS, "URL", 0, "link to the runbook of a rule as URL#name", 0},
    {"live", KEY_LIVE, 0, 0, "check: metric names against the gateway's scrape, too", 0},
    {"dry-run", KEY_DRY_RUN, 0, 0, "install, push: say what would be done", 0},
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    (void)state;
    switch (key) {
    case KEY_DATASOURCE:
        opt.datasource = arg;
        return 0;
    case KEY_OUT_DIR:
        opt.out_dir = arg;
        return 0;
    case KEY_PROVISIONING:
        opt.provisioning = arg;
        return 0;
    case KEY_FOLDER:
        opt.folder = arg;
        return 0;
    case KEY_RUNBOOKS:
        opt.runbooks = arg;
        return 0;
    case KEY_LIVE:
        opt.is_live = true;
        return 0;
    case KEY_DRY_RUN:
        opt.is_dry_run = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- list, render --------------------------------------------------------------------------------------------------- */

static const struct table_column COLUMNS[] = {
    {"name", "NAME", FORM_TEXT}, {"title", "TITLE", FORM_TEXT}, {"panels", "PANELS", FORM_COUNT}, {0}};
static const struct table_column ALL_COLUMNS[] = {
    {"name", "NAME", FORM_TEXT}, {"title", "TITLE", FORM_TEXT},       {"panels", "PANELS", FORM_COUNT},
    {"uid", "UID", FORM_TEXT},   {"description", "SHOWS", FORM_TEXT}, {0}};

static int list(struct ctl *ctl)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < dashboard_count(); i++) {
        const struct dashboard *d = dashboard_row(i);

        (void)json_array_append_new(rows,
                                    json_pack("{s:s, s:s, s:i, s:s, s:o}", "name", d->file, "title", d->title,
                                              "panels", (int)dashboard_panels(i), "description",
                                              d->description, "uid", json_sprintf("gatewayd-%s", d->file)));
    }
    ctl_print(ctl, stdout, "dashboards", ctl->output == OUTPUT_CSV ? ALL_COLUMNS : COLUMNS, rows, NULL);
    json_decref(rows);
    return CLI_OK;
}

static int write_one(const char *dir, size_t i)
{
    json_t *d = dashboard_render(i, opt.datasource, opt.runbooks);
    struct buf path AUTO(buf_release) = {0};
    char *text = dashboard_text(d);
    int rc;

    buf_addf(&path, "%s/%s.json", dir, dashboard_row(i)->file);
    rc = tool_write(path.p, span_of(text));
    free(text);
    json_decref(d);
    return rc;
}

static int make_dir(const char *dir)
{
    if (mkdir(dir, 0755) && errno != EEXIST)
        return ctl_fail(CLI_FAILED, "cannot make '%s': %s", dir, strerror(errno));
    return CLI_OK;
}

/* Those that were named, or all. */
static int each(struct ctl *ctl, int (*fn)(struct ctl *ctl, size_t i))
{
    size_t at;
    int rc = CLI_OK;

    for (int k = 1; k < ctl->n_args; k++)
        if (!dashboard_find(ctl->args[k], &at))
            return ctl_fail(CLI_NOT_FOUND, "no dashboard is named '%s'; 'aigwctl dashboards list' shows them",
                            ctl->args[k]);
    for (size_t i = 0; i < dashboard_count() && !rc; i++) {
        bool is_wanted = ctl->n_args < 2;

        for (int k = 1; k < ctl->n_args; k++)
            is_wanted |= strcmp(ctl->args[k], dashboard_row(i)->file) == 0;
        rc = is_wanted ? fn(ctl, i) : CLI_OK;
    }
    return rc;
}

static int render_to_dir(struct ctl *ctl, size_t i)
{
    (void)ctl;
    return write_one(opt.out_dir, i);
}

static int render_to_stdout(struct ctl *ctl, size_t i)
{
    json_t *d = dashboard_render(i, opt.datasource, opt.runbooks);
    char *text = dashboard_text(d);
    int rc = tool_write("-", span_of(text));

    (void)ctl;
    free(text);
    json_decref(d);
    return rc;
}

static int render(struct ctl *ctl)
{
    int rc;

    if (!opt.out_dir)
        return ctl->n_args == 2
                   ? each(ctl, render_to_stdout)
                   : ctl_fail(CLI_USAGE, "dashboards render: name one dashboard, or say --out-dir DIR");
    rc = make_dir(opt.out_dir);
    return rc ? rc : each(ctl, render_to_dir);
}

/* ---- check ---------------------------------------------------------------------------------------------------------- */

static const struct table_column FOUND[] = {{"place", "DASHBOARD", FORM_TEXT},
                                            {"panel", "PANEL", FORM_TEXT},
                                            {"grade", "GRADE", FORM_TEXT},
                                            {"message", "MESSAGE", FORM_TEXT | FORM_WRAP},
                                            {0}};

/* A file, or one of ours by its name. */
static json_t *load(const char *name, int *rc)
{
    struct buf text AUTO(buf_release) = {.max = MAX_BYTES};
    json_error_t why;
    json_t *d;
    size_t at;

    if (dashboard_find(name, &at))
        return dashboard_render(at, opt.datasource, opt.runbooks);
    *rc = tool_read(name, &text);
    if (*rc)
        return NULL;
    d = json_loadb(text.p ? text.p : "", text.len, JSON_REJECT_DUPLICATES, &why);
    if (!d)
        *rc = ctl_fail(CLI_CRITICAL, "'%s' is not JSON: line %d: %s", name, why.line, why.text);
    return d;
}

static int check_one(const char *name, json_t *uids, json_t *rows, const json_t *live, int *worst)
{
    int rc = CLI_OK, code;
    json_t *d = load(name, &rc);
    const char *uid = json_string_value(json_object_get(d, "uid"));

    if (!d)
        return rc;
    code = dashboard_check(rows, name, d, live);
    if (uid && json_object_get(uids, uid)) {
        (void)json_array_append_new(rows,
                                    json_pack("{s:s, s:s, s:s, s:s}", "place", name, "panel", "", "grade",
                                              "invalid", "message", "another dashboard has the same 'uid'"));
        code = CLI_CRITICAL;
    }
    if (uid)
        (void)json_object_set_new(uids, uid, json_true());
    json_decref(d);
    *worst = code > *worst ? code : *worst;
    return CLI_OK;
}

static int check(struct ctl *ctl)
{
    json_t *rows = json_array(), *uids = json_object(), *live = NULL;
    int worst = CLI_OK, rc = opt.is_live ? alerts_scrape_names(ctl, &live) : CLI_OK;
    size_t n = ctl->n_args > 1 ? (size_t)ctl->n_args - 1 : dashboard_count();

    for (size_t i = 0; i < n && !rc; i++)
        rc = check_one(ctl->n_args > 1 ? ctl->args[i + 1] : dashboard_row(i)->file, uids, rows, live, &worst);
    if (!rc) {
        ctl_print(ctl, stdout, "dashboards_check", FOUND, rows, NULL);
        if (ctl->output == OUTPUT_TABLE)
            (void)printf("%s%zu dashboards, %s\n", json_array_size(rows) ? "\n" : "", n,
                         worst == CLI_OK        ? "all good"
                         : worst == CLI_WARNING ? "with findings"
                                                : "invalid");
        rc = worst;
    }
    json_decref(rows);
    json_decref(uids);
    json_decref(live);
    return rc;
}

/* ---- install -------------------------------------------------------------------------------------------------------- */

static void provider_file(struct buf *out, const char *dir)
{
    buf_addf(out,
             "# Generated by aigwctl %s (aigwctl dashboards install).\napiVersion: 1\nproviders:\n  - name: "
             "gatewayd\n"
             "    orgId: 1\n    folder: AI Gateway\n    folderUid: gatewayd\n    type: file\n    "
             "disableDeletion: false\n"
             "    allowUiUpdates: false\n    updateIntervalSeconds: 30\n    options:\n      path: ",
             GATEWAYD_VERSION);
    buf_add_json(out, span_of(dir));
    buf_addc(out, '\n');
}

static int install(struct ctl *ctl)
{
    const char *provisioning = opt.provisioning ? opt.provisioning : DEFAULT_PROVISIONING;
    struct buf text AUTO(buf_release) = {0};
    int rc;

    if (!opt.out_dir)
        opt.out_dir = DEFAULT_DIR;
    provider_file(&text, opt.out_dir);
    if (opt.is_dry_run) {
        (void)printf("%zu files to %s\n%s:\n", dashboard_count(), opt.out_dir, provisioning);
        return tool_write("-", buf_span(&text));
    }
    rc = make_dir(opt.out_dir);
    if (!rc)
        rc = each(ctl, render_to_dir);
    if (!rc)
        rc = tool_write(provisioning, buf_span(&text));
    if (!rc)
        (void)printf("%zu dashboards in %s, provider in %s\nGrafana reads the provider when it starts\n",
                     dashboard_count(), opt.out_dir, provisioning);
    return rc;
}

/* ---- push ----------------------------------------------------------------------------------------------------------- */

static int post(struct ctl *ctl, const char *path, json_t *body, int also_good)
{
    struct api_answer a = {0};
    char *text = json_dumps(body, JSON_COMPACT);
    int rc;

    if (!text)
        abort();
    rc = ctl_call(ctl, "POST", path, span_of(text), &a);
    if (!rc && (a.status < 200 || a.status > 299) && a.status != also_good)
        rc = ctl_refused(&a);
    api_answer_release(&a);
    free(text);
    return rc;
}

static int push_one(struct ctl *ctl, size_t i)
{
    json_t *body;
    int rc;

    if (opt.is_dry_run) {
        (void)printf("POST %s/api/dashboards/db  gatewayd-%s into folder '%s'\n", ctl->url,
                     dashboard_row(i)->file, opt.folder);
        return CLI_OK;
    }
    body = json_pack("{s:o, s:s, s:b, s:s}", "dashboard", dashboard_render(i, opt.datasource, opt.runbooks),
                     "folderUid", opt.folder, "overwrite", 1, "message", "aigwctl dashboards push");
    rc = post(ctl, "/api/dashboards/db", body, 0);
    json_decref(body);
    if (!rc)
        (void)printf("%s: pushed\n", dashboard_row(i)->file);
    return rc;
}

/* 412: Grafana's word for a folder that is there. */
static int push(struct ctl *ctl)
{
    json_t *folder = json_pack("{s:s, s:s}", "uid", opt.folder, "title", "AI Gateway");
    int rc = CLI_OK;

    if (!ctl->url)
        rc = ctl_fail(
            CLI_USAGE,
            "dashboards push: name the Grafana with --url URL, and its token with --token-file FILE");
    ctl->is_quiet = true; /* hints are about a gateway, and this is a Grafana */
    if (!rc && !opt.is_dry_run)
        rc = post(ctl, "/api/folders", folder, 412);
    json_decref(folder);
    return rc ? rc : each(ctl, push_one);
}

static int run(struct ctl *ctl)
{
    static const struct {
        const char *name;
        int (*run)(struct ctl *ctl);
    } VERBS[] = {{"list", list}, {"render", render}, {"check", check}, {"install", install}, {"push", push}};
    const char *verb = ctl->n_args ? ctl->args[0] : "list";

    for (size_t i = 0; i < ARRAY_LEN(VERBS); i++)
        if (strcmp(verb, VERBS[i].name) == 0)
            return VERBS[i].run(ctl);
    return ctl_fail(CLI_USAGE, "dashboards: the verbs are list, render, check, install and push, not '%s'",
                    verb);
}

static const struct command_verb VERBS[] = {
    {"list", "", "their names", READS, NULL},
    {"render", "[NAME]", "one as JSON, or all into a directory", READS, NULL},
    {"check", "[NAME|FILE…]", "structure, queries, metrics", READS, NULL},
    {"install", "", "files and a provisioning provider", MILD, NULL},
    {"push", "--url URL [NAME…]", "send them to a Grafana", MILD, NULL},
    {0},
};

const struct command CMD_DASHBOARDS = {
    .name = "dashboards",
    .verbs = VERBS,
    .group = GROUP_ALERTS,
    .summary = "Grafana dashboards: render, check, install, push",
    .help = "The dashboards of the reference documents as Grafana's JSON. 'check' looks at them, or at any "
            "file, without Grafana: "
            "structure, queries, and whether every metric is known; exit 10 for findings, 11 for what cannot "
            "work. 'install' writes "
            "the files and a provisioning provider, 'push' sends them to the Grafana that --url and "
            "--token-file name.\v"
            "  aigwctl dashboards render --out-dir dashboards\n"
            "  aigwctl dashboards push --url http://grafana:3000 --token-file grafana.token",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 64,
};
