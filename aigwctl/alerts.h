/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of `alerts` share: which rules, under which settings, and the forms they are written in. */
#ifndef AIGWCTL_ALERTS_H
#define AIGWCTL_ALERTS_H

#include <jansson.h>

#include "aigwctl/command.h"
#include "libshared/catalog/alerts.h"

#define ALERTS_WEBHOOKS_MAX 8
#define ALERTS_IMPLIED_MAX  16

struct alerts_pick {
    unsigned packs;                                              /* a bit each */
    bool categories[CATEGORY_COUNT], severities[SEVERITY_COUNT]; /* none set: all */
    struct alert_settings settings;
    const char *runbooks;                      /* where a rule's runbook is: BASE#name */
    const char *webhooks[ALERTS_WEBHOOKS_MAX]; /* [RECEIVER=]URL */
    size_t n_webhooks;
    const char *rules_file; /* what the unit tests name; NULL: gatewayd.yml */
    json_t *warn_levels;    /* {tenant: ratio} where it is not the rule's threshold; NULL: nowhere */
    unsigned profiles;      /* of families that the gateway shows; 0: any */
    struct alerts_implied { /* what its configuration asks of a rule, and by which option */
        const char *rule, *option;
    } implied[ALERTS_IMPLIED_MAX];
    size_t n_implied;
};

/* In the order of the table. */
bool alerts_wants(const struct alerts_pick *p, const struct alert_row *row);
/* Whether every rule of the chosen packs is wanted. */
bool alerts_wants_all(const struct alerts_pick *p);
/* The rule's expression with its settings. */
void alerts_expr(struct buf *out, const struct alerts_pick *p, const struct alert_row *row);
/* "${…}" filled in, "{{ $labels.x }}" as it is; with `labels` ("a=b,c=d") that, too; with ALERTS_NAMES it is X. */
#define ALERTS_NAMES "*"
void alerts_text(struct buf *out, const struct alerts_pick *p, const struct alert_row *row, const char *text,
                 const char *labels);
void alerts_runbook(struct buf *out, const struct alerts_pick *p, const struct alert_row *row);

void alerts_write_prometheus(struct buf *out, const struct alerts_pick *p);
void alerts_write_prometheusrule(struct buf *out, const struct alerts_pick *p);
void alerts_write_grafana(struct buf *out, const struct alerts_pick *p);
void alerts_write_alertmanager(struct buf *out, const struct alerts_pick *p);
void alerts_write_tests(struct buf *out, const struct alerts_pick *p);
void alerts_write_markdown(struct buf *out, const struct alerts_pick *p);
/* Whether the recorded series is read by a wanted rule, or by a record that is; all of them when all rules are wanted. */
bool alerts_needs_record(const struct alerts_pick *p, size_t record);

/* The expression with families that the profiles do not show under another name that they do show (alerts_profile.c). */
void alerts_in_profile(struct buf *out, const struct alerts_pick *p, struct span expr);
/* The first family that an expression reads, by records or itself, and that the profiles show under no name; NULL: none. */
const char *alerts_lacks(const struct alerts_pick *p, const struct alert_row *row, const char *template_text);
/* Says on standard error which of the chosen rules are left out for that. */
void alerts_tell_left_out(const struct alerts_pick *p);

/* `matchers` is "severity=critical,component=billing", or NULL for the tree. */
int alerts_routes(struct ctl *ctl, const char *matchers);
/* `live` NULL: against the catalogue alone; else also against a scrape, and against what the configuration asks for. */
int alerts_check(struct ctl *ctl, char **files, int n, const struct alerts_pick *live);
/* The names that a live scrape has, as a set; *out is the caller's. */
int alerts_scrape_names(struct ctl *ctl, json_t **out);
int alerts_test_now(struct ctl *ctl, const struct alerts_pick *p, const char *prometheus);
int alerts_firing(struct ctl *ctl, const char *prometheus, const char *alertmanager);
/* The profiles of a list such as "all,-reference-004"; *out_wrong is the name that there is not, or NULL. */
unsigned alerts_profiles(const char *list, const char **out_wrong);
/* Settings that the gateway's own configuration implies (alerts_live.c). */
int alerts_take_live(struct ctl *ctl, struct alerts_pick *p);

/* ---- other programs and servers (tool.c) ---------------------------------------------------------------------------- */

/* Runs a program with its output (both streams) appended to `out`. The exit code, or -1 when it is not installed. */
int tool_run(struct buf *out, const char *const *argv);
/* Reads a file, or standard input for "-"; says why it cannot. */
int tool_read(const char *path, struct buf *out);
/* Replaces a file as a whole, or writes to standard output for "-". */
int tool_write(const char *path, struct span text);
/* GET of another server's JSON; *out is the caller's. */
int tool_get_json(struct ctl *ctl, const char *url, const char *path, json_t **out);

#endif
