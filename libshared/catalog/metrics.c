/* SPDX-License-Identifier: Apache-2.0 */
/* Static tables; any thread. metrics_document() prints them for docs/metrics.md. */
#include "libshared/catalog/metrics.h"

#include <string.h>

#include "libshared/base/buf.h"
#include "libshared/base/compiler.h"

enum {
    BUCKETS_MASK = 31,
    ZERO_INIT = 1 << 5,
    EXEMPLARS = 1 << 6,
    WINDOW = 1 << 7,
    IS_ALIAS = 1 << 8,
    PROFILE_SHIFT = 9,
    R0 = 1 << (PROFILE_SHIFT + PROFILE_000),
    R1 = 1 << (PROFILE_SHIFT + PROFILE_001),
    R2 = 1 << (PROFILE_SHIFT + PROFILE_002),
    R3 = 1 << (PROFILE_SHIFT + PROFILE_003),
    R4 = 1 << (PROFILE_SHIFT + PROFILE_004),
    OTEL = 1 << (PROFILE_SHIFT + PROFILE_OTEL),
    SIZE = 1 << (PROFILE_SHIFT + PROFILE_RESPONSE_SIZE),
    ALIAS_SHIFT = PROFILE_SHIFT + PROFILE_COUNT,
#define BUCKETS(name, ...) BUCKETS_##name = METRIC_BUCKETS_##name,
#include "libshared/catalog/buckets.def"
#undef BUCKETS
};
_Static_assert((int)METRIC_BUCKETS_COUNT <= (int)BUCKETS_MASK, "bucket sets fit their bits");

_Static_assert(METRIC_COUNT < 1 << (31 - ALIAS_SHIFT), "a family fits behind the other bits");

#define PROFILES(detail) ((unsigned)(detail) >> PROFILE_SHIFT & ((1u << PROFILE_COUNT) - 1))
#define ALIAS(of)        (IS_ALIAS | (int)METRIC_##of << ALIAS_SHIFT)
#define UNWRAP(...)      __VA_ARGS__
static const struct metric_row ROWS[] = {
#define METRIC(name_, type_, unit_, labels_, fact_, detail_, help_)                                          \
    [METRIC_##name_] = {                                                                                     \
        .name = #name_,                                                                                      \
        .type = METRIC_##type_,                                                                              \
        .unit = unit_,                                                                                       \
        .labels = {UNWRAP labels_},                                                                          \
        .n_labels = sizeof((const char *const[]){UNWRAP labels_}) / sizeof(char *),                          \
        .fact = FACT_##fact_,                                                                                \
        .buckets = (enum metric_buckets)((detail_)&BUCKETS_MASK),                                            \
        .is_zero_init = ((detail_)&ZERO_INIT) != 0,                                                          \
        .has_exemplars = ((detail_)&EXEMPLARS) != 0,                                                         \
        .is_alias = ((detail_)&IS_ALIAS) != 0,                                                               \
        .alias_of = (enum metric)((detail_) >> ALIAS_SHIFT),                                                 \
        .profiles = PROFILES(detail_) ? PROFILES(detail_) : 1u << PROFILE_GATEWAYD,                          \
        .is_window = ((detail_)&WINDOW) != 0,                                                                \
        .help = help_,                                                                                       \
    },
#include "libshared/catalog/metrics.def"
#undef METRIC
};
_Static_assert(ARRAY_LEN(ROWS) == METRIC_COUNT, "metrics.def is complete");

#define BUCKETS(name, ...)                                                                                   \
    static const int64_t US_##name[] = {__VA_ARGS__};                                                        \
    _Static_assert(ARRAY_LEN(US_##name) <= METRIC_BUCKETS_MAX, "buckets of " #name " fit a cell");
#include "libshared/catalog/buckets.def"
#undef BUCKETS

static const struct metric_bounds BOUNDS[] = {
    [METRIC_NO_BUCKETS] = {"", NULL, false, 0},
#define BUCKETS(name, ...)       [METRIC_BUCKETS_##name] = {#name, US_##name, false, ARRAY_LEN(US_##name)},
#define BUCKETS_WHOLE(name, ...) [METRIC_BUCKETS_##name] = {#name, US_##name, true, ARRAY_LEN(US_##name)},
#include "libshared/catalog/buckets.def"
#undef BUCKETS
};

const struct metric_row *metric_row(enum metric m)
{
    return &ROWS[m];
}
const struct metric_bounds *metric_bounds(enum metric_buckets b)
{
    return &BOUNDS[b];
}

const char *metric_type_name(enum metric_type t)
{
    static const char *const NAMES[] = {"counter", "gauge", "histogram", "info"};

    return NAMES[t];
}

static const struct {
    const char *name, *grain;
} FACTS[] = {
    [FACT_HTTP_REQUEST] = {"http_request", "one completed inbound HTTP request"},
    [FACT_INFERENCE_ATTEMPT] = {"inference_attempt",
                                "one call to a provider; a request that fails over makes several"},
    [FACT_INFERENCE_REQUEST] = {"inference_request",
                                "one logical inference request, after retries and failover"},
    [FACT_STREAM_STATE] = {"stream_state", "the process"},
    [FACT_TASK] = {"task", "one request that waited for a slot of a provider"},
    [FACT_QUEUE_STATE] = {"queue_state",
                          "one queue of a provider, and what the process refuses for lack of room"},
    [FACT_BREAKER_STATE] = {"breaker_state", "the circuit breaker of a provider and model"},
    [FACT_PROVIDER_HEALTH] = {"provider_health", "a provider, of all nodes together"},
    [FACT_ANOMALY_STATE] = {"anomaly_state", "one kind of anomaly of a provider, judged by the hour"},
    [FACT_PROCESS_STATE] = {"process_state", "the process"},
    [FACT_JOURNAL_STATE] = {"journal_state", "the journals of all workers"},
    [FACT_BOOKS_STATE] = {"books_state", "the last roll-up and the last comparison of the books"},
    [FACT_RATE_DECISION] = {"rate_decision", "one request that a limit of rates refused, or would have"},
    [FACT_BUDGET_STATE] = {"budget_state", "one tenant's budget"},
    [FACT_DB_OP] = {"db_op", "one SQL statement of this process"},
    [FACT_POOL_STATE] = {"pool_state", "the connections to the database"},
    [FACT_REDIS_OP] = {"redis_op", "one Redis command of this process"},
    [FACT_EXTERNAL_CALL] = {"external_call", "one call to another service than for inference"},
    [FACT_BUSINESS_EVENT] = {"business_event", "one event in the life of a tenant"},
    [FACT_BUSINESS_STATE] = {"business_state", "the tenants of the directory"},
    [FACT_PIPELINE_STATE] = {"pipeline_state", "one telemetry pipeline"},
    [FACT_REGISTRY_STATE] = {"registry_state", "one family"},
};
_Static_assert(ARRAY_LEN(FACTS) == METRIC_FACTS, "every fact has a name");

const char *metric_profile_name(enum metric_profile p)
{
    static const char *const NAMES[] = {"reference-000", "reference-001", "reference-002", "reference-003",
                                        "reference-004", "gatewayd",      "otel",          "response-size"};

    _Static_assert(ARRAY_LEN(NAMES) == PROFILE_COUNT, "every profile has a name");
    return NAMES[p];
}

bool metric_profiles_add(const char *name, unsigned *mask)
{
    bool is_less = name[0] == '-';
    unsigned bits = 0;

    name += is_less;
    if (strcmp(name, "all") == 0)
        bits = METRIC_PROFILES_DEFAULT;
    for (int p = 0; p < PROFILE_COUNT; p++)
        if (strcmp(name, metric_profile_name((enum metric_profile)p)) == 0)
            bits = 1u << p;
    *mask = is_less ? *mask & ~bits : *mask | bits;
    return bits != 0;
}

unsigned metric_profiles(const char *const *names, size_t n)
{
    unsigned mask = n == 0 || names[0][0] == '-' ? METRIC_PROFILES_DEFAULT : 0;

    for (size_t i = 0; i < n; i++)
        (void)metric_profiles_add(names[i], &mask);
    return mask;
}

static bool has_labels_of(const struct metric_row *r, const struct metric_row *of)
{
    for (size_t i = 0; i < of->n_labels; i++) {
        bool found = false;

        for (size_t k = 0; k < r->n_labels; k++)
            found |= strcmp(r->labels[k], of->labels[i]) == 0;
        if (!found)
            return false;
    }
    return true;
}

static const struct metric_row *root_of(const struct metric_row *r)
{
    while (r->is_alias)
        r = metric_row(r->alias_of);
    return r;
}

const struct metric_row *metric_shown_as(const struct metric_row *r, unsigned mask)
{
    if (metric_is_shown(r, mask))
        return r;
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *other = metric_row((enum metric)m);

        if (metric_is_shown(other, mask) && root_of(other) == root_of(r) && other->type == r->type &&
            other->buckets == r->buckets && strcmp(other->unit, r->unit) == 0 && has_labels_of(other, r))
            return other;
    }
    return NULL;
}

static void document_notes(struct buf *out, const struct metric_row *r)
{
    const char *sep = "";

    if (r->buckets) {
        buf_addf(out, "buckets `%s`", BOUNDS[r->buckets].name);
        sep = ", ";
    }
    if (r->has_exemplars) {
        buf_addf(out, "%sexemplars", sep);
        sep = ", ";
    }
    if (r->is_window) {
        buf_addf(out, "%s5 minutes, NaN when empty", sep);
        sep = ", ";
    }
    if (r->is_zero_init) {
        buf_addf(out, "%sfrom the first scrape", sep);
        sep = ", ";
    }
    if (r->is_alias) {
        buf_addf(out, "%ssame number as `%s`", sep, ROWS[r->alias_of].name);
        sep = ", ";
    }
    if (!metric_is_shown(r, METRIC_PROFILES_DEFAULT))
        buf_addf(out, "%soff by default", sep);
}

static void document_row(struct buf *out, const struct metric_row *r)
{
    buf_addf(out, "| `%s` | %s | %s | ", r->name, metric_type_name(r->type), r->unit);
    for (size_t i = 0; i < r->n_labels; i++)
        buf_addf(out, "%s%s", i ? ", " : "", r->labels[i]);
    buf_addf(out, " | %s | ", r->help);
    document_notes(out, r);
    buf_addz(out, " |\n");
}

static void document_buckets(struct buf *out)
{
    buf_addz(out, "\n## Buckets\n\nUpper bounds in seconds, of `bytes` and `otel_tokens` in those; `+Inf` "
                  "follows each. `le` always has a decimal point.\n\n"
                  "| set | bounds |\n|---|---|\n");
    for (size_t b = 1; b < METRIC_BUCKETS_COUNT; b++) {
        buf_addf(out, "| `%s` |", BOUNDS[b].name);
        for (size_t i = 0; i < BOUNDS[b].n; i++)
            buf_addf(out, " %.10g", (double)BOUNDS[b].us[i] / (BOUNDS[b].is_whole ? 1 : 1e6));
        buf_addz(out, " |\n");
    }
}

static void document_absent(struct buf *out)
{
    buf_addz(out,
             "\n## Not exposed\n\nNames of the reference documents and of the catalogue whose fact does not "
             "exist here.\n\n| family | why |\n|---|---|\n");
#define PLANNED(name, why) buf_addf(out, "| `%s` | %s |\n", #name, why);
#include "libshared/catalog/planned.def"
#undef PLANNED
}

static void document_profiles(struct buf *out)
{
    static const char *const WHAT[] = {
        "the names of reference document 000",
        "the names of reference document 001",
        "the names of reference document 002",
        "the names of reference document 003",
        "the names of reference document 004",
        "the families beyond the reference documents",
        "the five histograms of OpenTelemetry's `gen_ai` conventions; off by default",
        "`http_response_size_bytes`; off by default"};

    _Static_assert(ARRAY_LEN(WHAT) == PROFILE_COUNT, "every profile is explained");
    buf_addz(
        out,
        "\n## Profiles\n\n`metrics.profiles` lists what is shown; a name with `-` before it is taken "
        "away. A family is shown while one\nof its profiles is. What is off by default is counted from when "
        "it is switched on.\n\n| profile | families | |\n|---|---|---|\n| `all` | all that are on by "
        "default | |\n");
    for (int p = 0; p < PROFILE_COUNT; p++) {
        unsigned n = 0;

        for (int m = 0; m < METRIC_COUNT; m++)
            n += metric_is_shown(&ROWS[m], 1u << p);
        buf_addf(out, "| `%s` | %s | %u |\n", metric_profile_name((enum metric_profile)p), WHAT[p], n);
    }
}

void metrics_document(struct buf *out)
{
    buf_addz(out,
             "<!-- generated by `./dev gen` from libshared/catalog/metrics.def -->\n"
             "# Metrics\n\n"
             "`GET /metrics` answers in the Prometheus text format 0.0.4, or in OpenMetrics 1.0 when "
             "the `Accept` header\n"
             "prefers it; only OpenMetrics carries exemplars (`trace_id`) and drops `_total` from the "
             "names of counter\n"
             "families, not from their samples.\n\n"
             "Every family is a projection of one of few facts. A family marked *same number as* "
             "another carries it under\n"
             "another name or with other labels: never add the two up. A request and an attempt are "
             "different facts: a\n"
             "request that fails on provider A and is answered by B is one request of B and two "
             "attempts, one of A with an\n"
             "error and one of B.\n\n"
             "Label values are names from the configuration and the catalogues, never a client's "
             "string: a path without\n"
             "a route is `__unmatched__`, a model outside the catalogue `other`, and what is unknown "
             "because the request\n"
             "was refused before it was known is `none`. A family holds at most 5000 label sets and "
             "1000 tenants, and all\n"
             "families together about `metrics.max_series` lines; an observation beyond is kept, with "
             "the label that grew\n"
             "too large set to `__overflow__`, and counted in `aigateway_metric_overflow_total`.\n\n"
             "Gauges over the last five minutes are NaN (`null` in JSON) while nothing happened. They "
             "cannot be averaged\n"
             "over processes; the histograms can. `POST /metrics/reset` (admin) begins them anew, from the "
             "next ten seconds on;\n"
             "counters and histograms only ever grow. What all nodes say alike (breakers, health, budgets, "
             "subscriptions) is\n"
             "aggregated with `max by`, what each says of itself with `sum`.\n");
    document_profiles(out);
    for (int f = 0; f < METRIC_FACTS; f++) {
        buf_addf(
            out,
            "\n## %s: %s\n\n| family | type | unit | labels | meaning | notes |\n|---|---|---|---|---|---|\n",
            FACTS[f].name, FACTS[f].grain);
        for (int m = 0; m < METRIC_COUNT; m++)
            if (ROWS[m].fact == (enum metric_fact)f)
                document_row(out, &ROWS[m]);
    }
    document_buckets(out);
    document_absent(out);
}
