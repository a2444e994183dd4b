/* SPDX-License-Identifier: Apache-2.0 */
/* The alert and recording rules as data: alerts.def and recordings.def expanded, their parameters, and the settings that
 * override them. Whoever prints, checks, tests or documents a rule reads these tables. */
#ifndef CATALOG_ALERTS_H
#define CATALOG_ALERTS_H

#include <stdbool.h>
#include <stddef.h>

#include "libshared/base/buf.h"
#include "libshared/base/err.h"

enum alert_pack { PACK_CORE, PACK_COMPAT, PACK_EXTENDED, PACK_COUNT };
enum alert_severity { SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_CRITICAL, SEVERITY_COUNT };

/* In the order of the generated file; the first eleven are the core pack's. */
#define ALERT_CATEGORIES(X)                                                                                  \
    X(model_inference)                                                                                       \
    X(provider_health)                                                                                       \
    X(database)                                                                                              \
    X(cache)                                                                                                 \
    X(rate_limiting)                                                                                         \
    X(business_metrics)                                                                                      \
    X(http_api)                                                                                              \
    X(system_health)                                                                                         \
    X(anomaly_detection)                                                                                     \
    X(streaming)                                                                                             \
    X(budget_slo)                                                                                            \
    X(compat_004)                                                                                            \
    X(extended)

enum alert_category {
#define X(name) CATEGORY_##name,
    ALERT_CATEGORIES(X)
#undef X
        CATEGORY_COUNT
};

struct alert_param {
    const char *name, *value; /* a number, or a length of time such as 5m when the name ends in "window" */
};
#define ALERT_PARAMS_MAX 6

struct alert_row {
    const char *name;
    enum alert_pack pack;
    enum alert_category category;
    enum alert_severity severity;
    const char *for_time;
    const char *component; /* a label that routes select on, or NULL */
    struct alert_param params[ALERT_PARAMS_MAX];
    const char *expr, *now /* or NULL: needs a history */;
    const char *summary, *description;
    const char *steps; /* of the runbook, a line each */
};

struct alert_record {
    const char *group, *interval, *name, *labels /* "slo=ttft" or "" */, *expr;
};

/* What a test feeds to the rules, and whether that must fire. */
struct alert_case {
    const char *alert;
    bool fires;
    const char *at;     /* when the question is asked */
    const char *labels; /* of the alert that fires: "provider=openrouter,model=gpt" */
    const char *series; /* promtool's notation, a series and its values per two lines */
    const char *story;  /* what it stands for */
};

size_t alert_count(void);
const struct alert_row *alert_row(size_t i);
const struct alert_row *alert_find(const char *name);
size_t alert_record_count(void);
const struct alert_record *alert_record(size_t i);
size_t alert_case_count(void);
const struct alert_case *alert_case(size_t i);
const char *alert_pack_name(enum alert_pack p);
const char *alert_severity_name(enum alert_severity s);
const char *alert_category_name(enum alert_category c);
/* False when there is none of that name. */
bool alert_pack_of(const char *name, enum alert_pack *out);
bool alert_severity_of(const char *name, enum alert_severity *out);
bool alert_category_of(const char *name, enum alert_category *out);

/* ---- settings ------------------------------------------------------------------------------------------------------- */

#define ALERT_SETTINGS_MAX 128
struct alert_settings { /* the last one that fits wins */
    struct alert_setting {
        char rule[64], param[32], value[64];
    } items[ALERT_SETTINGS_MAX];
    size_t n;
};

/* `text` is NAME.param=value: NAME a rule or a pattern such as '*' (rules that do not have the parameter are left out of a
 * pattern), `param` one of its parameters or `for`; or the name of a shared parameter. ERR_CONFIG says what is wrong. */
NODISCARD enum err_code alert_set(struct alert_settings *s, const char *text, struct err *err);
/* The value in force; NULL when the rule has no such parameter. `row` NULL: a shared one. */
const char *alert_value(const struct alert_settings *s, const struct alert_row *row, const char *param);
/* Appends `template_text` with its parameters filled in. */
void alert_fill(struct buf *out, const struct alert_settings *s, const struct alert_row *row,
                const char *template_text);
/* Seconds of "90s", "5m", "1h30m", "2d"; false when it is none. */
bool alert_seconds(const char *text, double *out);
/* What cannot work with these settings: the reason, or NULL. */
const char *alert_settings_trouble(const struct alert_settings *s);

/* ---- names of metrics ------------------------------------------------------------------------------------------------ */

enum metric_standing {
    METRIC_IS_EXPOSED,  /* a family of metrics.def */
    METRIC_IS_RECORDED, /* by a row of recordings.def */
    METRIC_IS_FOREIGN,  /* of Prometheus itself: up, ALERTS */
    METRIC_IS_PLANNED,  /* a family of the reference documents that is not exposed yet: planned.def */
    METRIC_IS_UNKNOWN,
};
/* Of a name as it stands in an expression, _bucket, _sum and _count included. */
enum metric_standing metric_standing(struct span name);
struct metric_row;
/* The family of a sample, *out_family_len how long its name is within; NULL: none of metrics.def. */
const struct metric_row *metric_of_sample(struct span name, size_t *out_family_len);

#endif
