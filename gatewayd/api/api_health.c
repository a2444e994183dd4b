/* SPDX-License-Identifier: Apache-2.0 */
/* Is it alive, does it take requests, and how do the providers fare in one page. */
#include <math.h>
#include <sys/statvfs.h>

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/api/provider_health_priv.h"

void api_healthz(const struct api_request *rq, struct api_reply *reply)
{
    (void)rq;
    buf_addz(&reply->body, "{\"status\":\"ok\"}\n");
}

/* Requests are taken without the stores too, as long as the journal has room: 200, with the names of what is missing. */
void api_readyz(const struct api_request *rq, struct api_reply *reply)
{
    bool draining = gateway_is_draining_mt(rq->gw);
    struct arena a = {0};
    struct metrics_state s;
    json_t *o = json_object(), *parts = json_array();

    gateway_metrics_state_mt(rq->gw, &a, &s);
    for (size_t i = 0; i < s.n_stores; i++)
        if (!s.stores[i].is_up)
            (void)json_array_append_new(parts, json_string(s.stores[i].name));
    reply->status = draining ? 503 : 200;
    (void)json_object_set_new(o, "status", json_string(draining ? "draining" : "ready"));
    if (json_array_size(parts))
        (void)json_object_set(o, "degraded", parts);
    json_decref(parts);
    arena_release(&a);
    api_reply_json(reply, o);
}

void api_version(const struct api_request *rq, struct api_reply *reply)
{
    struct arena a = {0};
    struct metrics_state s;
    json_t *o = json_object();

    gateway_metrics_state_mt(rq->gw, &a, &s);
    (void)json_object_set_new(o, "name", json_string("gatewayd"));
    (void)json_object_set_new(o, "version", json_string(s.version));
    (void)json_object_set_new(o, "started", api_json_time(s.started));
    (void)json_object_set_new(o, "uptime_s", json_integer((s.now.us - s.started.us) / 1000000));
    (void)json_object_set_new(o, "config_version", api_json_count(s.config_version));
    (void)json_object_set_new(o, "workers", api_json_count(s.n_workers));
    arena_release(&a);
    api_reply_json(reply, o);
}

/* ---- a page for dashboards ----------------------------------------------------------------------------------------- */

struct tally {
    uint64_t healthy, degraded, unhealthy, unknown;
    double score_sum;
};

static void tally_add(struct tally *t, const struct health *h)
{
    if (!h->is_known) {
        t->unknown++;
        return;
    }
    t->score_sum += h->score;
    if (health_rounded(h->score) >= HEALTH_HEALTHY)
        t->healthy++;
    else if (health_rounded(h->score) >= HEALTH_DEGRADED)
        t->degraded++;
    else
        t->unhealthy++;
}

static uint64_t tally_known(const struct tally *t)
{
    return t->healthy + t->degraded + t->unhealthy;
}

/* The worst that is known; nothing known is unknown, not healthy. */
static const char *tally_name(const struct tally *t)
{
    if (!tally_known(t))
        return "unknown";
    if (t->unhealthy)
        return "unhealthy";
    return t->degraded ? "degraded" : "healthy";
}

static json_t *dashboard_row(const struct facts_sum *s, const struct health *h)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "name", json_string(label_text(s->provider)));
    (void)json_object_set_new(o, "status", json_string(health_name(h)));
    (void)json_object_set_new(o, "availability", api_json_number(h->availability));
    (void)json_object_set_new(o, "error_rate", api_json_number(h->error_rate));
    (void)json_object_set_new(o, "health_score",
                              h->is_known ? json_real(health_rounded(h->score) / 100) : json_null());
    return o;
}

static json_t *stores_json(const struct metrics_state *s)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < s->n_stores; i++) {
        const struct metrics_store *st = &s->stores[i];
        json_t *o = json_object();

        (void)json_object_set_new(o, "name", json_string(st->name));
        (void)json_object_set_new(o, "status", json_string(st->is_up ? "up" : "down"));
        (void)json_object_set_new(o, "lag_s", json_real(round((double)st->lag_us / 1e4) / 100));
        (void)json_object_set_new(o, "down_since", st->is_up ? json_null() : api_json_time(st->down_since));
        (void)json_object_set_new(
            o, "down_s", st->is_up ? json_null() : json_integer((s->now.us - st->down_since.us) / 1000000));
        (void)json_object_set_new(o, "error", st->is_up ? json_null() : json_string(st->error));
        (void)json_array_append_new(rows, o);
    }
    return rows;
}

/* What is allocated and not written to, and what may still be allocated by the limit and by the disk. */
static uint64_t journal_room(struct gateway *gw, const struct metrics_state *s)
{
    uint64_t more =
        s->journal.max_bytes > s->journal.used_bytes ? s->journal.max_bytes - s->journal.used_bytes : 0;
    struct config *c = gateway_config_ref_mt(gw);
    struct statvfs disk;

    if (statvfs(c->state_dir, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < more)
        more = (uint64_t)disk.f_bavail * disk.f_frsize;
    config_unref(c);
    return s->journal.ahead_bytes + more;
}

/* `room_s`: how long the room lasts at the rate of the last minutes when no store takes anything. */
static json_t *journal_json(struct gateway *gw, const struct picture *p)
{
    const struct metrics_state *s = &p->state;
    uint64_t room = journal_room(gw, s);
    json_t *o = json_object(), *rate = requests_per_s(p, p->totals.window_requests);
    double each = p->totals.requests ? (double)s->journal.bytes / (double)p->totals.requests : 0;
    double bytes_per_s = json_number_value(rate) * each,
           lasts = bytes_per_s > 0 ? (double)room / bytes_per_s : 1e12;

    (void)json_object_set_new(o, "held_bytes",
                              api_json_count(s->journal.used_bytes > s->journal.ahead_bytes
                                                 ? s->journal.used_bytes - s->journal.ahead_bytes
                                                 : 0));
    (void)json_object_set_new(o, "limit_bytes", api_json_count(s->journal.max_bytes));
    (void)json_object_set_new(o, "room_bytes", api_json_count(room));
    (void)json_object_set_new(o, "room_s", lasts < 1e9 ? json_integer((json_int_t)lasts) : json_null());
    (void)json_object_set_new(o, "refused_requests", api_json_count(s->journal.full_refusals));
    json_decref(rate);
    return o;
}

static json_t *summary_json(const struct picture *p, const struct tally *t)
{
    json_t *o = json_object();
    uint64_t known = tally_known(t);

    (void)json_object_set_new(o, "status", json_string(tally_name(t)));
    (void)json_object_set_new(o, "total_providers", api_json_count(known + t->unknown));
    (void)json_object_set_new(o, "healthy", api_json_count(t->healthy));
    (void)json_object_set_new(o, "degraded", api_json_count(t->degraded));
    (void)json_object_set_new(o, "unhealthy", api_json_count(t->unhealthy));
    (void)json_object_set_new(o, "unknown", api_json_count(t->unknown));
    (void)json_object_set_new(o, "avg_health_score",
                              known ? json_real(health_rounded(t->score_sum / (double)known) / 100)
                                    : json_null());
    (void)json_object_set_new(o, "total_requests", api_json_count(p->totals.requests));
    (void)json_object_set_new(o, "successful_requests", api_json_count(p->totals.by_status[STATUS_SUCCESS]));
    (void)json_object_set_new(o, "failed_requests", api_json_count(p->totals.by_status[STATUS_ERROR]));
    (void)json_object_set_new(o, "cancelled_requests", api_json_count(p->totals.by_status[STATUS_CANCELLED]));
    (void)json_object_set_new(o, "rejected_requests", api_json_count(p->totals.by_status[STATUS_REJECTED]));
    (void)json_object_set_new(o, "requests_per_s", requests_per_s(p, p->totals.window_requests));
    (void)json_object_set_new(o, "active_streams", api_json_count(p->totals.active_streams));
    api_set_cost(o, "total_cost", "total_cost_nanousd", p->totals.cost_nanousd);
    return o;
}

void api_dashboard(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    struct tally t = {0};
    json_t *o = json_object(), *rows = json_array();

    picture_take(&p, rq->gw);
    for (size_t i = 0; i < p.n_providers; i++) {
        struct health h = provider_health(&p, p.providers[i].provider).health;

        tally_add(&t, &h);
        (void)json_array_append_new(rows, dashboard_row(&p.providers[i], &h));
    }
    (void)json_object_set_new(o, "timestamp", api_json_time(p.state.now));
    (void)json_object_set_new(o, "version", json_string(p.state.version));
    (void)json_object_set_new(o, "uptime_s", json_integer(picture_uptime_us(&p) / 1000000));
    (void)json_object_set_new(o, "draining", json_boolean(gateway_is_draining_mt(rq->gw)));
    (void)json_object_set_new(o, "providers", rows);
    (void)json_object_set_new(o, "stores", stores_json(&p.state));
    (void)json_object_set_new(o, "journal", journal_json(rq->gw, &p));
    (void)json_object_set_new(o, "summary", summary_json(&p, &t));
    picture_release(&p);
    api_reply_json(reply, o);
}

void api_metrics_health(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    struct tally t = {0};
    json_t *o = json_object();

    picture_take(&p, rq->gw);
    for (size_t i = 0; i < p.n_providers; i++) {
        struct health h = provider_health(&p, p.providers[i].provider).health;

        tally_add(&t, &h);
    }
    (void)json_object_set_new(o, "status", json_string(tally_name(&t)));
    (void)json_object_set_new(o, "timestamp", api_json_time(p.state.now));
    (void)json_object_set_new(o, "uptime_s", json_integer(picture_uptime_us(&p) / 1000000));
    (void)json_object_set_new(o, "metrics", summary_json(&p, &t));
    picture_release(&p);
    api_reply_json(reply, o);
}
