/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of alerts.def, recordings.def, planned.def and alert_cases.def, and the filling in of parameters. Static data;
 * any thread. A parameter's value is kept as text from table to output, so that what is written is what was given. */
#include "libshared/catalog/alerts.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/base/compiler.h"
#include "libshared/catalog/metrics.h"

static const struct alert_row ROWS[] = {
#define ALERT(name_, pack_, category_, severity_, for_, ...)                                                 \
    {.name = #name_,                                                                                         \
     .pack = PACK_##pack_,                                                                                   \
     .category = CATEGORY_##category_,                                                                       \
     .severity = SEVERITY_##severity_,                                                                       \
     .for_time = for_,                                                                                       \
     __VA_ARGS__},
#include "libshared/catalog/alerts.def"
#undef ALERT
};

static const struct alert_record RECORDS[] = {
#define RECORD(group, interval, name, labels, expr) {group, interval, name, labels, expr},
#include "libshared/catalog/recordings.def"
#undef RECORD
};

static const struct alert_case CASES[] = {
#define FIRES(alert_, at_, labels_, story_, ...)                                                             \
    {.alert = #alert_, .fires = true, .at = at_, .labels = labels_, .story = story_, .series = __VA_ARGS__},
#define SILENT(alert_, at_, story_, ...)                                                                     \
    {.alert = #alert_, .at = at_, .labels = "", .story = story_, .series = __VA_ARGS__},
#include "libshared/catalog/alert_cases.def"
#undef SILENT
#undef FIRES
};

static const char *const PLANNED_NAMES[] = {
#define PLANNED(name, why) #name,
#include "libshared/catalog/planned.def"
#undef PLANNED
};

/* The operator's own calls are no traffic, nor are scrapes and probes. The objective of the first token is the upper bound of
 * a bucket of aigateway_time_to_first_token_seconds, written as `le` is. */
static const struct alert_param SHARED[] = {
    {"slo.availability", "0.99"},
    {"slo.ttft", "0.95"},
    {"slo.ttft_seconds", "5.0"},
    {"baseline.samples", "300"},
    {"probes", "/(metrics|health|ready|live|version|api/(monitoring|admin)).*"},
    {"inference", "/v1/(chat/completions|completions|messages|responses|embeddings|images.*)"},
    {"route.group_wait_window", "30s"},
    {"route.group_interval_window", "5m"},
    {"route.repeat_interval_window", "4h"},
};

size_t alert_count(void)
{
    return ARRAY_LEN(ROWS);
}
const struct alert_row *alert_row(size_t i)
{
    return &ROWS[i];
}
size_t alert_record_count(void)
{
    return ARRAY_LEN(RECORDS);
}
const struct alert_record *alert_record(size_t i)
{
    return &RECORDS[i];
}
size_t alert_case_count(void)
{
    return ARRAY_LEN(CASES);
}
const struct alert_case *alert_case(size_t i)
{
    return &CASES[i];
}

const struct alert_row *alert_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++)
        if (strcmp(ROWS[i].name, name) == 0)
            return &ROWS[i];
    return NULL;
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

static const char *const PACKS[] = {"core", "compat", "extended"};
static const char *const SEVERITIES[] = {"info", "warning", "critical"};
static const char *const CATEGORIES[] = {
#define X(name) #name,
    ALERT_CATEGORIES(X)
#undef X
};
_Static_assert(ARRAY_LEN(PACKS) == PACK_COUNT && ARRAY_LEN(SEVERITIES) == SEVERITY_COUNT,
               "every one has a name");

const char *alert_pack_name(enum alert_pack p)
{
    return PACKS[p];
}
const char *alert_severity_name(enum alert_severity s)
{
    return SEVERITIES[s];
}
const char *alert_category_name(enum alert_category c)
{
    return CATEGORIES[c];
}

static bool place_of(const char *name, const char *const *names, size_t n, unsigned *out)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (unsigned)i;
            return true;
        }
    return false;
}

bool alert_pack_of(const char *name, enum alert_pack *out)
{
    unsigned i;
    bool found = place_of(name, PACKS, ARRAY_LEN(PACKS), &i);

    if (found)
        *out = (enum alert_pack)i;
    return found;
}
bool alert_severity_of(const char *name, enum alert_severity *out)
{
    unsigned i;
    bool found = place_of(name, SEVERITIES, ARRAY_LEN(SEVERITIES), &i);

    if (found)
        *out = (enum alert_severity)i;
    return found;
}
bool alert_category_of(const char *name, enum alert_category *out)
{
    unsigned i;
    bool found = place_of(name, CATEGORIES, ARRAY_LEN(CATEGORIES), &i);

    if (found)
        *out = (enum alert_category)i;
    return found;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

static double unit_seconds(const char **p)
{
    static const struct {
        const char *unit;
        double seconds;
    } UNITS[] = {{"ms", 0.001}, {"s", 1},      {"m", 60},      {"h", 3600},
                 {"d", 86400},  {"w", 604800}, {"y", 31536000}};

    for (size_t i = 0; i < ARRAY_LEN(UNITS); i++) {
        size_t n = strlen(UNITS[i].unit);

        if (strncmp(*p, UNITS[i].unit, n) == 0) {
            *p += n;
            return UNITS[i].seconds;
        }
    }
    return 0;
}

bool alert_seconds(const char *text, double *out)
{
    double sum = 0;

    if (!*text)
        return false;
    while (*text) {
        char *end;
        double n = isdigit((unsigned char)*text) ? (double)strtoul(text, &end, 10) : -1, unit;

        if (n < 0)
            return false;
        text = end;
        unit = unit_seconds(&text);
        if (unit <= 0)
            return false;
        sum += n * unit;
    }
    *out = sum;
    return true;
}

static bool is_time(const char *param)
{
    size_t n = strlen(param);

    return strcmp(param, "for") == 0 || (n >= 6 && strcmp(param + n - 6, "window") == 0);
}

static bool is_number(const char *text)
{
    char *end;

    return (isdigit((unsigned char)*text) || *text == '.' || *text == '-') && (strtod(text, &end), !*end) &&
           !strpbrk(text, "xXpP");
}

static const char *default_of(const struct alert_row *row, const char *param)
{
    if (row && strcmp(param, "for") == 0)
        return row->for_time;
    for (size_t i = 0; row && i < ALERT_PARAMS_MAX && row->params[i].name; i++)
        if (strcmp(row->params[i].name, param) == 0)
            return row->params[i].value;
    for (size_t i = 0; !row && i < ARRAY_LEN(SHARED); i++)
        if (strcmp(SHARED[i].name, param) == 0)
            return SHARED[i].value;
    return NULL;
}

const char *alert_value(const struct alert_settings *s, const struct alert_row *row, const char *param)
{
    const char *value = default_of(row, param);

    for (size_t i = s && value ? s->n : 0; i-- > 0;) {
        const struct alert_setting *o = &s->items[i];

        if (strcmp(o->param, param) == 0 && (row ? fnmatch(o->rule, row->name, 0) == 0 : !*o->rule))
            return o->value;
    }
    return value;
}

/* ---- settings ------------------------------------------------------------------------------------------------------- */

static enum err_code bad_value(const struct alert_setting *o, struct err *err)
{
    double seconds;

    if (is_time(o->param) && !alert_seconds(o->value, &seconds))
        return err_set(err, ERR_CONFIG, "'%s' is a length of time such as 10m, not '%s'", o->param, o->value);
    if (is_time(o->param) && strcmp(o->param, "for") != 0 && seconds <= 0)
        return err_set(err, ERR_CONFIG, "'%s' is more than 0", o->param);
    if (!is_time(o->param) && !is_number(o->value))
        return err_set(err, ERR_CONFIG, "'%s' is a number, not '%s'", o->param, o->value);
    return ERR_OK;
}

static bool matches_some(const struct alert_setting *o, bool *out_names_one)
{
    bool has_param = false;

    *out_names_one = false;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        if (fnmatch(o->rule, ROWS[i].name, 0) != 0)
            continue;
        *out_names_one = true;
        has_param |= default_of(&ROWS[i], o->param) != NULL;
    }
    return has_param;
}

static enum err_code known(const struct alert_setting *o, struct err *err)
{
    bool names_one;

    if (!*o->rule || matches_some(o, &names_one))
        return ERR_OK;
    if (!names_one)
        return err_set(err, ERR_CONFIG, "no rule is named '%s'", o->rule);
    return err_set(err, ERR_CONFIG, "rule '%s' has no parameter '%s'", o->rule, o->param);
}

static enum err_code part(char *dst, size_t cap, struct span from, struct err *err)
{
    if (!from.len || from.len >= cap)
        return err_set(err, ERR_CONFIG, "a setting is NAME.param=value with a short value");
    (void)span_copy(dst, cap, from);
    return ERR_OK;
}

enum err_code alert_set(struct alert_settings *s, const char *text, struct err *err)
{
    struct span value = span_of(text), name = span_split(&value, '=');
    struct alert_setting o = {0};
    const char *dot;
    enum err_code rc;

    if (s->n == ALERT_SETTINGS_MAX)
        return err_set(err, ERR_CONFIG, "more than %d settings", ALERT_SETTINGS_MAX);
    rc = part(o.value, sizeof(o.value), value, err);
    dot = memchr(name.p, '.', name.len);
    for (size_t i = 0; !rc && i < ARRAY_LEN(SHARED); i++)
        if (span_is(name, SHARED[i].name))
            rc = part(o.param, sizeof(o.param), name, err);
    if (!rc && !*o.param) {
        if (!dot)
            return err_set(err, ERR_CONFIG, "'%.*s': a setting is NAME.param=value", (int)name.len, name.p);
        rc = part(o.rule, sizeof(o.rule), span_make(name.p, (size_t)(dot - name.p)), err);
        if (!rc)
            rc = part(o.param, sizeof(o.param), span_make(dot + 1, (size_t)(name.p + name.len - dot - 1)),
                      err);
    }
    if (rc || (rc = known(&o, err)) ||
        (strcmp(o.param, "probes") != 0 && strcmp(o.param, "inference") != 0 && (rc = bad_value(&o, err))))
        return rc;
    s->items[s->n++] = o;
    return ERR_OK;
}

static bool is_bucket_bound(const char *text)
{
    const struct metric_bounds *b = metric_bounds(METRIC_BUCKETS_ttft_seconds);

    for (size_t i = 0; i < b->n; i++) {
        char le[32];

        (void)snprintf(le, sizeof(le), b->us[i] % 1000000 ? "%.15g" : "%.1f", (double)b->us[i] / 1e6);
        if (strcmp(le, text) == 0)
            return true;
    }
    return false;
}

const char *alert_settings_trouble(const struct alert_settings *s)
{
    const struct alert_row *fast = alert_find("SLOAvailabilityFastBurn"),
                           *ttft = alert_find("SLOTimeToFirstTokenBurn");
    double a = strtod(alert_value(s, NULL, "slo.availability"), NULL),
           t = strtod(alert_value(s, NULL, "slo.ttft"), NULL);

    if (a <= 0 || a >= 1 || t <= 0 || t >= 1)
        return "an objective is a share between 0 and 1";
    if (strtod(alert_value(s, fast, "threshold"), NULL) * (1 - a) >= 1)
        return "slo.availability: with so low an objective the fast burn could never fire";
    if (strtod(alert_value(s, ttft, "threshold"), NULL) * (1 - t) >= 1)
        return "slo.ttft: with so low an objective the fast burn could never fire";
    if (!is_bucket_bound(alert_value(s, NULL, "slo.ttft_seconds")))
        return "slo.ttft_seconds is an upper bound of the buckets ttft_seconds (docs/metrics.md), written as "
               "there";
    return NULL;
}

/* ---- filling in ----------------------------------------------------------------------------------------------------- */

static void fill_one(struct buf *out, const struct alert_settings *s, const struct alert_row *row,
                     struct span name)
{
    struct span form = name, param = span_split(&form, '|');
    char text[64];
    const char *value;

    (void)span_copy(text, sizeof(text), param);
    value = alert_value(s, row, text);
    if (!value)
        value = alert_value(s, NULL, text);
    if (!value)
        abort(); /* a template names what its row does not have; a test fills in every one */
    if (span_is(form, "percent"))
        buf_addf(out, "%.6g%%", strtod(value, NULL) * 100);
    else if (span_is(form, "budget"))
        buf_addf(out, "%.6g", 1 - strtod(value, NULL));
    else
        buf_addz(out, value);
}

void alert_fill(struct buf *out, const struct alert_settings *s, const struct alert_row *row,
                const char *template_text)
{
    const char *from = template_text, *open, *close;

    while ((open = strstr(from, "${")) && (close = strchr(open, '}'))) {
        buf_add(out, span_make(from, (size_t)(open - from)));
        fill_one(out, s, row, span_make(open + 2, (size_t)(close - open - 2)));
        from = close + 1;
    }
    buf_addz(out, from);
}

/* ---- names of metrics ------------------------------------------------------------------------------------------------ */

/* The family's name, or with what its samples end in. */
static bool is_of(struct span name, const char *family, bool is_histogram)
{
    static const char *const ENDS[] = {"_bucket", "_sum", "_count"};
    size_t n = strlen(family);

    if (name.len < n || memcmp(name.p, family, n) != 0)
        return false;
    if (name.len == n)
        return !is_histogram;
    for (size_t i = 0; is_histogram && i < ARRAY_LEN(ENDS); i++)
        if (span_is(span_make(name.p + n, name.len - n), ENDS[i]))
            return true;
    return false;
}

const struct metric_row *metric_of_sample(struct span name, size_t *out_family_len)
{
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *r = metric_row((enum metric)m);

        if (is_of(name, r->name, r->type == METRIC_HISTOGRAM)) {
            *out_family_len = strlen(r->name);
            return r;
        }
    }
    return NULL;
}

enum metric_standing metric_standing(struct span name)
{
    static const char *const FOREIGN[] = {"up", "ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds"};
    size_t n;

    if (metric_of_sample(name, &n))
        return METRIC_IS_EXPOSED;
    for (size_t i = 0; i < ARRAY_LEN(RECORDS); i++)
        if (span_is(name, RECORDS[i].name))
            return METRIC_IS_RECORDED;
    for (size_t i = 0; i < ARRAY_LEN(FOREIGN); i++)
        if (span_is(name, FOREIGN[i]))
            return METRIC_IS_FOREIGN;
    for (size_t i = 0; i < ARRAY_LEN(PLANNED_NAMES); i++)
        if (is_of(name, PLANNED_NAMES[i], false) || is_of(name, PLANNED_NAMES[i], true))
            return METRIC_IS_PLANNED;
    return METRIC_IS_UNKNOWN;
}
