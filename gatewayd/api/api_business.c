/* SPDX-License-Identifier: Apache-2.0 */
/* What is out of the ordinary, and what becomes of trials. On the thread of RUN_READING. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/api_view_priv.h"
#include "gatewayd/books/watcher.h"
#include "libshared/analytics/business.h"

/* ---- anomalies ------------------------------------------------------------------------------------------------------- */

struct anomaly_list {
    const struct api_request *rq;
    json_t *rows;
    struct watcher_finding found[WATCHER_FINDINGS];
    size_t n_found;
    char severity[16], type[32], provider[132];
    uint64_t critical, warning;
    unsigned n_rows; /* of closed hours */
};

#define ANOMALIES_MAX 1000u

static bool is_asked(const struct anomaly_list *l, const char *severity, const char *type,
                     struct span provider)
{
    return (!l->severity[0] || strcmp(l->severity, severity) == 0) &&
           (!l->type[0] || strcmp(l->type, type) == 0) && (!l->provider[0] || span_is(provider, l->provider));
}

static void add(struct anomaly_list *l, json_t *row, bool is_critical)
{
    *(is_critical ? &l->critical : &l->warning) += 1;
    (void)json_array_append_new(l->rows, row);
}

static bool is_active(const struct anomaly_list *l, int64_t hour, const char *type, struct span provider)
{
    for (size_t i = 0; i < l->n_found; i++)
        if (l->found[i].hour == hour && span_is(provider, label_text(l->found[i].provider)) &&
            strcmp(anomaly_kind_name(l->found[i].a.kind), type) == 0)
            return l->found[i].is_active;
    return false;
}

static json_t *anomaly_json(const char *type, struct span provider, int64_t hour, const char *severity)
{
    json_t *o = json_object();

    SET(o, "type", json_string(type));
    SET(o, "provider", json_stringn(provider.p ? provider.p : "", provider.len));
    SET(o, "hour", view_hour(hour));
    SET(o, "severity", json_string(severity));
    return o;
}

/* kind, provider, hour, severity, detail, at */
static bool take_anomaly(void *user, const struct db_value *c, unsigned n)
{
    static const char *const NAMES[] = {"value", "expected", "score", "ratio", "scale", "method", "samples"};
    struct anomaly_list *l = user;
    char type[32], severity[16];
    json_t *detail, *o;

    (void)n;
    if (++l->n_rows > ANOMALIES_MAX)
        return false;
    (void)span_copy(type, sizeof(type), c[0].s);
    (void)span_copy(severity, sizeof(severity), c[3].s);
    detail = json_loadb(c[4].s.p ? c[4].s.p : "", c[4].s.len, 0, NULL);
    o = anomaly_json(type, c[1].s, c[2].i, severity);
    for (unsigned i = 0; i < ARRAY_LEN(NAMES); i++) {
        json_t *v = json_object_get(detail, NAMES[i]);

        SET(o, NAMES[i],
            json_is_integer(v) && i < 5 ? json_real((double)json_integer_value(v))
            : v                         ? json_incref(v)
                                        : json_null());
    }
    SET(o, "at", api_json_time((struct wall){c[5].i * 1000000}));
    SET(o, "active", json_boolean(is_active(l, c[2].i, type, c[1].s)));
    SET(o, "provisional", json_false());
    add(l, o, strcmp(severity, "critical") == 0);
    json_decref(detail);
    return true;
}

/* Of the hour that runs: scaled up to a whole one, and perhaps gone when it is over. */
static void add_running(struct anomaly_list *l, struct wall looked)
{
    for (size_t i = 0; i < l->n_found; i++) {
        const struct watcher_finding *f = &l->found[i];
        const char *severity = f->a.is_critical ? "critical" : "warning",
                   *type = anomaly_kind_name(f->a.kind);
        json_t *o;

        if (!f->a.is_running || !is_asked(l, severity, type, span_of(label_text(f->provider))))
            continue;
        o = anomaly_json(type, span_of(label_text(f->provider)), f->hour, severity);
        SET(o, "value", api_json_number(f->a.value));
        SET(o, "expected", api_json_number(f->a.expected));
        SET(o, "score", api_json_number(f->a.score));
        SET(o, "ratio", api_json_number(f->a.ratio));
        SET(o, "scale", api_json_number(f->a.scale));
        SET(o, "method", json_string(anomaly_method_name(f->a.method)));
        SET(o, "samples", json_integer(f->a.samples));
        SET(o, "at", api_json_time(looked));
        SET(o, "active", json_boolean(f->is_active));
        SET(o, "provisional", json_true());
        add(l, o, f->a.is_critical);
    }
}

void api_anomalies(const struct api_request *rq, struct api_reply *reply)
{
    const struct monitor_stores *stores = gateway_monitor_stores(rq->gw);
    struct watcher *w = gateway_watcher_mt(rq->gw);
    struct anomaly_list *l = calloc(1, sizeof(*l));
    struct wall looked = watcher_looked_mt(w);
    struct db_value from = db_int(view_hours_back(wall_now(), api_count(rq, "hours")));
    struct err err = {0};
    enum err_code e;
    json_t *o;

    if (!l)
        abort();
    *l = (struct anomaly_list){.rq = rq, .rows = json_array()};
    l->n_found = watcher_findings_mt(w, l->found, WATCHER_FINDINGS);
    (void)api_text(rq, "severity", l->severity, sizeof(l->severity));
    (void)api_text(rq, "type", l->type, sizeof(l->type));
    (void)api_text(rq, "provider", l->provider, sizeof(l->provider));
    add_running(l, looked);
    e = db_query(
        stores->db, "anomalies_list",
        "SELECT kind, provider, hour, severity, detail, at FROM anomalies WHERE hour >= $1 AND "
        "($2 = '' OR severity = $2) AND ($3 = '' OR kind = $3) AND ($4 = '' OR provider = $4) ORDER BY hour "
        "DESC, provider, kind LIMIT 1001",
        (struct db_value[]){from, db_textz(l->severity), db_textz(l->type), db_textz(l->provider)}, 4,
        take_anomaly, l, &err);
    if (e && !looked.us) {
        view_fail(reply, &err);
        json_decref(l->rows);
        free(l);
        return;
    }
    o = json_object();
    SET(o, "timestamp", api_json_time(wall_now()));
    SET(o, "anomalies", l->rows);
    SET(o, "total_count", api_json_count(l->critical + l->warning));
    SET(o, "critical_count", api_json_count(l->critical));
    SET(o, "warning_count", api_json_count(l->warning));
    SET(o, "computed_at", api_json_time(looked));
    view_put_state(o, e || !looked.us || l->n_rows > ANOMALIES_MAX,
                   e            ? err_text(&err)
                   : !looked.us ? "the hours were not looked at yet"
                                : "those before the newest 1000",
                   view_is_stale(rq->gw));
    free(l);
    api_reply_json(reply, o);
}

/* ---- trials ---------------------------------------------------------------------------------------------------------- */

struct lives {
    struct life_event *v;
    size_t n;
    char tenant[132]; /* of the last row */
    uint64_t number;
};

static bool begins_trial(struct span detail)
{
    json_t *o = json_loadb(detail.p ? detail.p : "", detail.len, 0, NULL);
    const char *plan = json_string_value(json_object_get(o, "plan"));
    bool does = json_is_true(json_object_get(o, "trial")) || (plan && strcmp(plan, "trial") == 0);

    json_decref(o);
    return does;
}

/* tenant, kind, at, detail; by tenant, oldest first */
static bool take_life(void *user, const struct db_value *c, unsigned n)
{
    static const struct {
        const char *name;
        enum life_kind kind;
    } KINDS[] = {{"created", LIFE_TRIAL},
                 {"first_answer", LIFE_FIRST_ANSWER},
                 {"converted", LIFE_CONVERTED},
                 {"cancelled", LIFE_CANCELLED},
                 {"deleted", LIFE_CANCELLED}};
    struct lives *l = user;
    size_t i = 0;

    (void)n;
    while (i < ARRAY_LEN(KINDS) && !span_is(c[1].s, KINDS[i].name))
        i++;
    if (i == ARRAY_LEN(KINDS) || (KINDS[i].kind == LIFE_TRIAL && !begins_trial(c[3].s)))
        return true;
    if (!span_is(c[0].s, l->tenant)) {
        (void)span_copy(l->tenant, sizeof(l->tenant), c[0].s);
        l->number++;
    }
    l->v = realloc(l->v, (l->n + 1) * sizeof(*l->v));
    if (!l->v)
        abort();
    l->v[l->n++] = (struct life_event){.tenant = l->number, .kind = KINDS[i].kind, .at_s = c[2].i};
    return true;
}

static bool take_users(void *user, const struct db_value *c, unsigned n)
{
    for (unsigned i = 0; i < n && i < 4; i++)
        ((int64_t *)user)[i] = c[i].type == DB_INT ? c[i].i : 0;
    return false;
}

/* Days are of UTC; today is one of them. Null where users are not counted. */
static enum err_code put_users(json_t *o, struct gateway *gw, int64_t now_s, struct err *err)
{
    int64_t today = now_s / VIEW_DAY_S * VIEW_DAY_S, v[4] = {0};
    struct db_value p[] = {db_int(today), db_int(today - VIEW_DAY_S), db_int(today - 6 * VIEW_DAY_S),
                           db_int(today - 29 * VIEW_DAY_S)};
    struct config *c = gateway_config_ref_mt(gw);
    bool counts = c->history.users_key.len > 0;
    json_t *users = json_object();
    enum err_code e = db_query(
        gateway_monitor_stores(gw)->db, "active_users",
        "SELECT CAST(count(DISTINCT CASE WHEN day = $1 THEN tenant || '/' || user_hash END) AS bigint), "
        "CAST(count(DISTINCT CASE WHEN day = $2 THEN tenant || '/' || user_hash END) AS bigint), "
        "CAST(count(DISTINCT CASE WHEN day >= $3 THEN tenant || '/' || user_hash END) AS bigint), "
        "CAST(count(DISTINCT tenant || '/' || user_hash) AS bigint) "
        "FROM active_users WHERE day >= $4",
        p, 4, take_users, v, err);

    config_unref(c);
    counts = !e && (counts || v[3]);
    SET(users, "today", counts ? json_integer(v[0]) : json_null());
    SET(users, "dau", counts ? json_integer(v[1]) : json_null());
    SET(users, "wau", counts ? json_integer(v[2]) : json_null());
    SET(users, "mau", counts ? json_integer(v[3]) : json_null());
    SET(o, "active_users", users);
    return e;
}

void api_trials(const struct api_request *rq, struct api_reply *reply)
{
    struct db *db = gateway_monitor_stores(rq->gw)->db;
    int64_t now = wall_now().us / 1000000, days = api_count(rq, "days");
    int64_t from = days ? now - days * VIEW_DAY_S : 0;
    struct lives l = {0};
    struct funnel f;
    struct err err = {0};
    json_t *o;
    enum err_code e = db_query(db, "trial_events",
                               "SELECT tenant, kind, at, detail FROM tenant_events WHERE kind IN ('created', "
                               "'first_answer', 'converted', 'cancelled', 'deleted') ORDER BY tenant, at, id",
                               NULL, 0, take_life, &l, &err);

    if (e) {
        free(l.v);
        view_fail(reply, &err);
        return;
    }
    funnel_of(l.v, l.n, from, now + 1, &f);
    free(l.v);
    o = json_object();
    SET(o, "timestamp", api_json_time(wall_now()));
    SET(o, "from", from ? api_json_time((struct wall){from * 1000000}) : json_null());
    SET(o, "signups", api_json_count(f.signups));
    SET(o, "started_trial", api_json_count(f.started));
    SET(o, "converted", api_json_count(f.converted));
    SET(o, "cancelled", api_json_count(f.cancelled));
    SET(o, "conversion_rate", api_json_number(f.conversion_rate));
    SET(o, "activation_rate", api_json_number(f.activation_rate));
    SET(o, "trial_conversion_rate", api_json_number(f.trial_conversion_rate));
    SET(o, "avg_time_to_conversion_days", api_json_number(f.days_to_conversion));
    SET(o, "avg_time_to_start_days", api_json_number(f.days_to_start));
    e = put_users(o, rq->gw, now, &err);
    view_put_state(o, e != ERR_OK, err_text(&err), view_is_stale(rq->gw));
    api_reply_json(reply, o);
}
