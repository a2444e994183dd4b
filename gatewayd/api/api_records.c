/* SPDX-License-Identifier: Apache-2.0 */
/* What the history store noted down: the audit log, with the proof of its chain, and statements that were slow. On the thread of
 * RUN_READING. */
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/api_view_priv.h"
#include "gatewayd/api/shapes.h"
#include "gatewayd/config/limits.h"
#include "libshared/cli/human.h"
#include "libshared/store/audit.h"

/* An instant, or how long ago; false with the reply written. 0: not asked for. */
static bool take_since(const struct api_request *rq, int64_t *out_s, struct api_reply *reply)
{
    char text[65];
    struct wall t;
    int64_t ms;

    *out_s = 0;
    if (!api_text(rq, "since", text, sizeof(text)))
        return true;
    if (human_parse_time(text, &t))
        *out_s = t.us / 1000000;
    else if (human_parse_duration(text, &ms) && ms >= 0)
        *out_s = (wall_now().us / 1000 - ms) / 1000;
    else {
        api_reply_error(reply, ERR_BAD_REQUEST, "'since' takes a time or a duration such as 1h");
        return false;
    }
    return true;
}

static json_t *text_of(const struct db_value *v)
{
    return v->type == DB_TEXT ? json_stringn(v->s.p ? v->s.p : "", v->s.len) : json_null();
}

static void put_hex(json_t *o, const char *name, struct span bytes)
{
    char hex[2 * SHA256_BYTES + 1] = "";

    for (size_t i = 0; i < bytes.len && i < SHA256_BYTES; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", (unsigned char)bytes.p[i]);
    SET(o, name, json_string(hex));
}

/* ---- the audit log --------------------------------------------------------------------------------------------------- */

/* id, at, actor, action, subject, detail, hash */
static bool take_audit(void *user, const struct db_value *c, unsigned n)
{
    json_t *o = json_object(), *detail = json_loadb(c[5].s.p ? c[5].s.p : "", c[5].s.len, 0, NULL);

    (void)n;
    SET(o, "id", json_integer(c[0].i));
    SET(o, "at", api_json_time((struct wall){c[1].i * 1000000}));
    SET(o, "actor", text_of(&c[2]));
    SET(o, "action", text_of(&c[3]));
    SET(o, "subject", text_of(&c[4]));
    SET(o, "detail", detail ? detail : json_null());
    put_hex(o, "hash", c[6].s);
    (void)json_array_append_new(user, o);
    return true;
}

void api_audit(const struct api_request *rq, struct api_reply *reply)
{
    char action[LIMIT_NAME_BYTES + 1], subject[API_SUBJECT_MAX + 1];
    int64_t since;
    json_t *rows, *o;
    struct err err = {0};

    if (!take_since(rq, &since, reply))
        return;
    (void)api_text(rq, "action", action, sizeof(action));
    (void)api_text(rq, "subject", subject, sizeof(subject));
    rows = json_array();
    if (db_query(
            gateway_monitor_stores(rq->gw)->db, "audit_list",
            "SELECT id, at, actor, action, subject, detail, hash FROM audit WHERE at >= $1 AND ($2 = '' OR "
            "action = $2) AND ($3 = '' OR subject = $3) ORDER BY id DESC LIMIT $4",
            (struct db_value[]){db_int(since), db_textz(action), db_textz(subject),
                                db_int(api_count(rq, "limit"))},
            4, take_audit, rows, &err)) {
        json_decref(rows);
        view_fail(reply, &err);
        return;
    }
    o = json_object();
    SET(o, "entries", rows);
    SET(o, "count", json_integer((json_int_t)json_array_size(rows)));
    api_reply_json(reply, o);
}

void api_audit_verify(const struct api_request *rq, struct api_reply *reply)
{
    struct audit_proof p;
    struct err err = {0};
    json_t *o;

    if (audit_verify(gateway_monitor_stores(rq->gw)->db, &p, &err)) {
        view_fail(reply, &err);
        return;
    }
    o = json_object();
    SET(o, "intact", json_boolean(!p.broken_id));
    SET(o, "entries", json_integer(p.rows));
    SET(o, "first_broken_id", p.broken_id ? json_integer(p.broken_id) : json_null());
    SET(o, "last_id", p.last_id ? json_integer(p.last_id) : json_null());
    put_hex(o, "last_hash", span_make(p.last_hash, p.rows ? SHA256_BYTES : 0));
    api_reply_json(reply, o);
}

/* ---- slow statements ------------------------------------------------------------------------------------------------- */

static bool take_slow(void *user, const struct db_value *c, unsigned n)
{
    json_t *o = json_object();

    (void)n;
    SET(o, "at", api_json_time((struct wall){c[0].i * 1000000}));
    SET(o, "label", text_of(&c[1]));
    SET(o, "duration_ms", json_real((double)c[2].i / 1000));
    SET(o, "sql", text_of(&c[3]));
    (void)json_array_append_new(user, o);
    return true;
}

void api_slow_queries(const struct api_request *rq, struct api_reply *reply)
{
    char name[LIMIT_NAME_BYTES + 1];
    int64_t since;
    json_t *rows, *o;
    struct err err = {0};

    if (!take_since(rq, &since, reply))
        return;
    (void)api_text(rq, "label", name, sizeof(name));
    rows = json_array();
    if (db_query(
            gateway_monitor_stores(rq->gw)->db, "slow_queries_list",
            "SELECT at, label, duration_us, sql FROM slow_queries WHERE at >= $1 AND ($2 = '' OR label = $2) "
            "ORDER BY at DESC, id DESC LIMIT $3",
            (struct db_value[]){db_int(since), db_textz(name), db_int(api_count(rq, "limit"))}, 3, take_slow,
            rows, &err)) {
        json_decref(rows);
        view_fail(reply, &err);
        return;
    }
    o = json_object();
    SET(o, "queries", rows);
    SET(o, "count", json_integer((json_int_t)json_array_size(rows)));
    api_reply_json(reply, o);
}
