/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as an immutable snapshot. Parsed from YAML (strict: unknown keys, wrong types and
 * out-of-range values are errors with file, line and column), environment and flags; then checked across
 * fields.
 *
 * A snapshot is reference counted: a request pins the one it started with until it settles, a reload swaps
 * the current pointer. All strings and arrays live in the snapshot's arena. Nothing in it is ever changed. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "gatewayd/config/limits.h"
#include "gatewayd/core/arena.h"
#include "libshared/base/err.h"
#include "libshared/base/hash.h"
#include "libshared/base/intern.h"
#include "libshared/base/secret.h"
#include "libshared/catalog/period.h"

struct limits_chain;
struct queue;
struct limits_point;
struct limits_scope;
struct price;
struct secret_link;

struct config_address { /* host "" means not listening */
    const char *host;
    uint16_t port; /* 0: the kernel chooses */
};

struct config_timeouts {   /* of one upstream attempt; 0 is not allowed */
    int64_t connect_us;    /* default 5 s: name, TCP, TLS */
    int64_t first_byte_us; /* default 120 s: request sent to first byte of the answer's body */
    int64_t idle_us;       /* default 120 s: between two chunks */
    int64_t total_us;      /* default 30 min */
};

struct config_limits { /* 0: none */
    uint64_t rpm, tpm, concurrent;
    bool shadow;
};

#define CONFIG_LEVELS 4u
struct config_levels { /* rising, each once */
    unsigned n;
    unsigned char percent[CONFIG_LEVELS];
};

/* What becomes of requests that a budget has no room for, and while its store is down; both by place among the words. */
#define AT_LIMIT_CHOICES   "block throttle warn"
#define STORE_DOWN_CHOICES "bounded closed open"
enum at_limit { AT_LIMIT_BLOCK, AT_LIMIT_THROTTLE, AT_LIMIT_WARN };
enum store_down { STORE_DOWN_BOUNDED, STORE_DOWN_CLOSED, STORE_DOWN_OPEN };

struct config_budget {
    int64_t limit_nanousd; /* 0: none */
    enum period period;
    const struct zone *zone;   /* by whose clocks; NULL: UTC */
    struct config_levels warn; /* percent spent at which that is told */
    enum at_limit at_limit;
    enum store_down when_store_down;
    int64_t open_cap_nanousd; /* of a node, while it is open; 0: the budget's own limit */
    bool cuts_streams;        /* a stream that runs while nothing is left any more is ended */
};
static inline struct cycle config_cycle(const struct config_budget *b)
{
    return (struct cycle){b ? b->period : PERIOD_MONTH, b ? b->zone : NULL};
}

struct config_provider {
    const char *name;
    const char *kind;     /* a dialect: "openai", "anthropic" */
    const char *base_url; /* no trailing slash; http or https only */
    struct secret *api_keys;
    size_t n_api_keys;
    /* Its name may resolve to loopback, private or link-local addresses; literal ones always may. */
    bool allow_private;
    bool is_enabled;
    uint32_t max_concurrent; /* attempts in flight per process, 0: no limit */
    struct config_timeouts timeouts;
    int64_t p95_target_us; /* of its health score */
    bool is_probed;        /* when idle, at a free endpoint where its kind has one */
    /* Client gone: read on to the usage instead of closing, for providers that bill anyway. */
    bool drain_on_abort;
    struct config_limits limits; /* of attempts; `concurrent` is unused */
    struct config_budget budget; /* of the file; the database's is in config.accounts */
    label label;
    unsigned index; /* in config.providers */
};

struct config_target {
    const struct config_provider *provider;
    const char *model;         /* as sent to the provider */
    label model_label;         /* catalogue or configured name, else "other" */
    const struct price *price; /* NULL: unpriced; borrowed from config.prices */
    unsigned weight;
};

enum config_strategy {
    STRATEGY_PRIORITY,
    STRATEGY_WEIGHTED,
    STRATEGY_LATENCY,
    STRATEGY_COST,
    STRATEGY_HEALTH,
    STRATEGY_LEAST_BUSY
};

struct config_model {
    const char *name; /* the alias */
    label label;
    enum config_strategy strategy;
    const struct config_target *targets;
    size_t n_targets;
    unsigned retries; /* further attempts after the first, over all targets */
    unsigned index;   /* in config.models */
    struct config_limits limits;
};

struct config_breaker {
    unsigned failures;     /* consecutive ones that open; 0: not by count */
    double error_rate;     /* share of attempts in the window that opens; 0: not by rate */
    unsigned min_requests; /* in the window before the rate means anything */
    int64_t window_us, open_for_us, max_open_for_us;
    unsigned probes;      /* at once while half open */
    unsigned close_after; /* successes in a row */
    bool has_rate_limits; /* a 429 of the provider counts as a failure */
};

struct config_health {
    int64_t interval_us, window_us, p95_target_us;
    int64_t probe_interval_us, probe_timeout_us; /* interval 0: no probes */
};

struct config_aggregation {
    bool is_enabled;
    int64_t interval_us, retention_us;
};
/* Where numbers are sent. Accepted and validated; nothing sends yet. */
struct config_grafana {
    bool is_enabled;
    const char *remote_write_url, *user;
    struct secret api_key;
};
struct config_sentry {
    bool is_enabled;
    struct secret dsn;
    const char *environment;
};
struct config_otlp {
    const char *endpoint, *protocol;
    struct secret headers;
    int64_t timeout_us;
};

struct config_tenant {
    const char *id, *plan;
    label label;
    bool is_enabled;
    const char *const *models; /* allowed aliases and provider/model names, may end in `*`; NULL: all */
    size_t n_models;
    struct config_limits limits;
    struct config_budget budget;
    unsigned priority, max_priority; /* 1 … 5, 1 is served first: of requests that say none, and at best */
};

struct config_key {
    const char *id;
    label label;
    unsigned char sha256[SHA256_BYTES];
    bool is_enabled;
    bool is_revoked;       /* said in the database; stays so whatever the file says */
    int64_t expires_at_us; /* wall clock, 0: never */
    const struct config_tenant *tenant;
    struct config_limits limits; /* of its own, beside the tenant's */
};

struct config_topup {
    int64_t amount_nanousd, until_us; /* is added to the limit before that instant */
};

/* A budget of the database, by account: "global", "tenant:ID", "key:TENANT/ID", "provider:NAME". */
struct config_account {
    const char *account;
    struct config_budget budget; /* limit_nanousd 0: only topups of a budget of the file */
    const struct config_topup *topups;
    size_t n_topups;
};

/* What operators said of a provider, over what the file says. */
enum provider_state {
    PROVIDER_ENABLED,
    PROVIDER_DRAINING, /* no new attempts; those under way may end */
    PROVIDER_DISABLED  /* those under way are cut */
};
struct config_provider_state {
    const char *provider;
    label label;
    enum provider_state state;
    int64_t at_us, until_us; /* wall clock; until 0: until it is said otherwise */
    const char *reason, *actor;
};

struct config_cidr {
    unsigned char addr[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned prefix;        /* 0..128 */
};

struct config {
    _Atomic unsigned refs; /* private */
    struct arena arena;    /* private */
    uint64_t version;      /* 1 at boot, +1 per applied reload */
    const char *path;      /* NULL: no file */

    struct config_address listen;   /* default 127.0.0.1:8080 */
    const char *tls_cert, *tls_key; /* file paths, NULL: plain HTTP */
    /* Default 127.0.0.1:8081 when there is a token; without one always none. */
    struct config_address admin_listen;
    struct secret admin_token;
    const char *admin_socket; /* default admin.sock in $RUNTIME_DIRECTORY (systemd), else in state_dir */
    unsigned workers;         /* resolved: 1..LIMIT_WORKERS */
    const char *state_dir; /* default $STATE_DIRECTORY, $XDG_STATE_HOME/gatewayd or ~/.local/state/gatewayd */
    const char *log_level; /* error warn info debug */
    const char *access_log;   /* path, "-" stdout, "" off; default <state_dir>/access.log */
    size_t journal_max_bytes; /* all workers together, default 1 GiB */
    int64_t drain_timeout_us;
    const char *redis, *database; /* "" when not set; may hold passwords, so never printed */
    int64_t directory_max_age_us; /* an older snapshot of the directory is not used */
    bool is_redis_enabled;        /* false: `redis` is "" whatever was set */
    unsigned redis_max_connections;
    int64_t lease_life_us;
    const char *prices_path;         /* "": the built-in table alone */
    const char *upstream_ca_file;    /* "": the system's */
    struct config_timeouts upstream; /* of providers that set none of their own */
    struct config_breaker breaker;
    struct config_health health;
    struct config_aggregation aggregation;
    struct {
        unsigned stories_per_second, stories_max; /* per_second 0: no limit */
        int64_t stories_age_us;
        struct secret users_key; /* len 0: users are not counted */
    } history;
    struct config_grafana grafana;
    struct config_sentry sentry;
    struct config_otlp otlp;

    struct {
        size_t max_body;
        unsigned max_connections, max_connections_per_ip; /* per_ip 0: no limit */
        int64_t header_time_us, body_time_us, keepalive_us, write_stall_us;
        unsigned max_requests; /* open at once, all workers together; 0: no limit */
        size_t max_buffered;   /* of request bodies in memory, all workers together; 0: no limit */
        int64_t max_lag_us;    /* of an event loop, above which new requests are refused; 0: no limit */
    } http;
    struct { /* those that wait for a slot of a provider; each bound is per provider */
        unsigned max_depth;
        size_t max_bytes;
        int64_t max_wait_us;
        bool spills; /* to the next target that has a slot, before any waiting */
    } queue;
    struct {
        const struct config_cidr *allow; /* who may read /metrics without a token; default loopback */
        size_t n_allow;
        const char *const *profiles; /* families of names; default "all" */
        size_t n_profiles;
        size_t max_series; /* default 100000 */
    } metrics;

    const struct config_provider *providers;
    size_t n_providers;
    const struct config_model *models;
    size_t n_models;
    const struct config_tenant *tenants;
    size_t n_tenants;
    const struct config_key *keys;
    size_t n_keys;
    const struct config_account *accounts;
    size_t n_accounts;
    const struct config_provider_state *provider_states; /* those that are not just enabled; may be over */
    size_t n_provider_states;
    const struct limits_chain *limits;          /* by key; given once, before it is published (limits_bind) */
    struct queue **queues;                      /* by provider; likewise (queues_bind) */
    const struct limits_point *provider_limits; /* by provider; likewise */
    struct limits_scope *const *model_limits;   /* by alias; likewise; NULLs where nothing is limited */
    /* There may be keys of the database that are not in here: it has not answered since the start. */
    bool lacks_keys;
    struct price_table *prices; /* owned; of `file` when there is one */
    bool is_demo;
    struct config *file;         /* private: owns what this one shares with it; NULL: nothing */
    const struct origin *set_by; /* private: of each option, see config_describe.h */
    const char *warnings;        /* private */
    struct secret_link *secrets; /* private */
    void *key_index, *model_index, *target_index; /* private */
    label other_label;                            /* private */
};

/* The command line; NULL and 0 mean not given. Flags win over environment over file. */
struct config_options {
    const char *path;
    const char *listen, *state_dir;
    bool is_demo;
    bool is_check; /* write nothing: no state directory, no minted key */
    uint64_t version;
    const char *overlay_yaml; /* text parsed before the file as if it were one (the demo's), or NULL */
};

/* Reads file, environment and flags; NULL with `err` (its text begins with "file:line:column: " where there
 * is one). Scalars of the file win over those of the overlay, lists of both are joined. Any thread. */
struct config *config_load(const struct config_options *o, struct err *err);
/* What is defined elsewhere than in the file. Strings are copied. */
struct config_extra {
    const struct config_extra_tenant {
        const char *id, *plan;
        bool is_defined; /* false: only refused or not, nothing else is said of it */
        bool is_enabled;
        const char *const *models; /* NULL: all */
        size_t n_models;
        struct config_limits limits;
        struct config_budget budget;
        unsigned priority, max_priority; /* 0: as usual */
    } * tenants;
    size_t n_tenants;
    const struct config_extra_key {
        const char *tenant, *id;
        unsigned char sha256[SHA256_BYTES];
        bool is_enabled, is_revoked;
        int64_t expires_at_us; /* 0: never */
        struct config_limits limits;
    } * keys;
    size_t n_keys;
    const struct config_account *accounts;
    size_t n_accounts;
    const struct config_provider_state *provider_states;
    size_t n_provider_states;
    bool lacks_keys;
};
/* The file's configuration and the rest in one. What the file defines wins over the rest's definition of the same tenant,
 * of the same key of a tenant, of the same hash; a refusal wins wherever it was said (a tenant by its id, a key by its
 * hash). Keys of a tenant that nobody defines are left out. Takes a reference on `file`, which must come from
 * config_load(); never fails. Any thread. */
struct config *config_join(struct config *file, const struct config_extra *x);
/* Makes it and what is above it, mode 0700, where it is not there. */
NODISCARD enum err_code config_make_state_dir(const struct config *c, struct err *err);
/* Any thread. */
struct config *config_ref(struct config *c);
void config_unref(struct config *c);

/* Constant-time in the digest; NULL when unknown. */
const struct config_key *config_find_key(const struct config *c, const unsigned char sha256[SHA256_BYTES]);
/* An alias; NULL when there is none of that name. */
const struct config_model *config_find_model(const struct config *c, struct span name);
const struct config_provider *config_find_provider(const struct config *c, struct span name);
/* What an operator said of it and is not over; NULL: it is enabled. */
const struct config_provider_state *config_provider_state(const struct config *c, label provider,
                                                          int64_t now_us);
const char *provider_state_name(enum provider_state s); /* "enabled" "draining" "disabled" */
/* A name that is no alias: `provider/model`, or a model that the catalogue knows under an enabled provider
 * (the first in configured order), or any name when exactly one provider is enabled. A prefix that names a
 * disabled provider fits none. Fills `out` (its `model` is copied to `a`); false when none fits. */
bool config_resolve_direct(const struct config *c, struct span name, struct arena *a,
                           struct config_target *out);
bool config_tenant_may_use(const struct config_tenant *t, struct span model_name);
bool config_cidr_match(const struct config_cidr *list, size_t n, const void *sockaddr);

/* Every option and known provider as Markdown tables, from options.def and providers.def; for
 * docs/configuration.md. */
struct buf;
void config_document(struct buf *out);
/* Names of options that differ but take effect at a restart only, joined by ", ". */
void config_restart_needed(const struct config *running, const struct config *fresh, struct buf *out);
/* Worth showing at boot and by --check-config, one per line (accepted but not yet enforced, insecure, …). */
void config_warnings(const struct config *c, struct buf *out);

#endif
