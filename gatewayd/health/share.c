/* SPDX-License-Identifier: Apache-2.0 */
/* On the tracker's thread. Everything in the store is untrusted: a record is only taken for a provider that is configured here,
 * and one that makes no sense is left out. */
#include "gatewayd/health/share.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/hash.h"
#include "libshared/store/kv_keys.h"

#define RECORD_BYTES ((size_t)128 << 10)
#define GONE_MAX     64u /* ended records that are removed in one turn */
#define FIELD_CAP    200
#define GONE_US      ((int64_t)3600 * 1000000) /* a node that said nothing for so long is forgotten */
#define AHEAD_US     ((int64_t)3600 * 1000000) /* a record of a clock that is further ahead is not believed */

void health_record_release(struct health_record *r)
{
    sketch_release(&r->sketch);
}

enum err_code health_record_add(struct health_record *into, const struct health_record *from)
{
    into->attempts += from->attempts;
    into->errors += from->errors;
    if (from->last_attempt.us > into->last_attempt.us)
        into->last_attempt = from->last_attempt;
    if (from->probed.at.us > into->probed.at.us)
        into->probed = from->probed;
    return sketch_merge(&into->sketch, &from->sketch);
}

/* ---- telling --------------------------------------------------------------------------------------------------------- */

static json_t *sketch_json(const struct sketch *s)
{
    struct buf raw AUTO(buf_release) = {0};
    json_t *text;
    char *hex;

    if (sketch_encode(s, &raw) || !(hex = malloc(2 * raw.len + 1)))
        return json_string("");
    hex_encode((const unsigned char *)raw.p, raw.len, hex);
    text = json_string(hex);
    free(hex);
    return text;
}

static char *record_text(const struct health_record *r)
{
    json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:o}", "attempts", (json_int_t)r->attempts, "errors",
                          (json_int_t)r->errors, "until", (json_int_t)r->until.us, "last_attempt",
                          (json_int_t)r->last_attempt.us, "sketch", sketch_json(&r->sketch));
    char *text;

    if (r->probed.at.us)
        (void)json_object_set_new(o, "probe",
                                  json_pack("{s:I, s:b, s:b, s:I, s:s}", "at", (json_int_t)r->probed.at.us,
                                            "ok", (int)r->probed.is_ok, "unclear", (int)r->probed.is_unclear,
                                            "us", (json_int_t)r->probed.us, "text", r->probed.text));
    text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

static char *row_text(const struct health_board *b, const struct health_row *row)
{
    char at[WALL_TEXT_CAP];
    json_t *o;
    char *text;

    (void)wall_format(b->at, at, sizeof(at));
    o = json_pack("{s:s, s:o, s:s, s:s, s:I, s:I}", "provider", label_text(row->provider), "health_score",
                  row->health.is_known ? json_real(health_rounded(row->health.score)) : json_null(), "status",
                  health_name(&row->health), "at", at, "attempts", (json_int_t)row->facts.attempts, "errors",
                  (json_int_t)row->facts.errors);
    text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(o);
    return text;
}

static void set(struct kv_batch *b, const char *field, char *text)
{
    if (text)
        kv_batch_set(b, KV_HEALTH, field, span_of(text));
    free(text);
}

enum err_code health_share_tell(struct kv *kv, const char *node, const struct health_record *records,
                                size_t n, const struct health_board *board, struct err *err)
{
    struct kv_batch *b = kv_batch_new();
    char field[FIELD_CAP];
    enum err_code e;

    for (size_t i = 0; i < n; i++) {
        (void)snprintf(field, sizeof(field), "%s %s", node, label_text(records[i].provider));
        set(b, field, record_text(&records[i]));
    }
    for (size_t i = 0; board && i < board->n; i++)
        set(b, label_text(board->rows[i].provider), row_text(board, &board->rows[i]));
    kv_batch_expire(b, KV_HEALTH, KV_TTL_LIVE_S, false);
    e = kv_batch_ops(b) ? kv_write(kv, b, err) : ERR_OK;
    kv_batch_free(b);
    return e;
}

/* ---- hearing --------------------------------------------------------------------------------------------------------- */

struct hearing {
    const char *node;
    struct wall now;
    struct health_record *records;
    unsigned *nodes_of;
    size_t n;
    struct kv_batch *gone;
    unsigned n_gone;
};

static bool read_sketch(const char *hex, struct sketch *out)
{
    size_t n = hex ? strlen(hex) / 2 : 0;
    unsigned char *raw = malloc(n + 1);
    bool ok = raw && n && hex_decode(span_of(hex), raw, n) &&
              sketch_decode(out, span_make((const char *)raw, n)) == ERR_OK;

    free(raw);
    return ok;
}

static struct wall stamp(const json_t *o, const char *name)
{
    json_int_t us = json_integer_value(json_object_get(o, name));

    return (struct wall){us > 0 ? us : 0};
}

static void read_probe(const json_t *o, struct health_probed *out)
{
    const char *text = json_string_value(json_object_get(o, "text"));

    *out = (struct health_probed){.at = stamp(o, "at"),
                                  .is_ok = json_is_true(json_object_get(o, "ok")),
                                  .is_unclear = json_is_true(json_object_get(o, "unclear")),
                                  .us = json_integer_value(json_object_get(o, "us"))};
    (void)span_copy(out->text, sizeof(out->text), span_of(text ? text : ""));
}

/* What adds up: a count of attempts that the sketch does not have would be believed by nobody. */
static bool read_record(struct span text, struct wall now, struct health_record *out)
{
    json_t *o = text.len <= RECORD_BYTES ? json_loadb(text.p, text.len, 0, NULL) : NULL;
    json_int_t attempts = json_integer_value(json_object_get(o, "attempts"));
    json_int_t errors = json_integer_value(json_object_get(o, "errors"));
    bool ok = json_is_object(o) && attempts >= 0 && errors >= 0 && errors <= attempts &&
              attempts <= UINT32_MAX &&
              read_sketch(json_string_value(json_object_get(o, "sketch")), &out->sketch);

    out->attempts = (uint64_t)attempts;
    out->errors = (uint64_t)errors;
    out->until = stamp(o, "until");
    out->last_attempt = stamp(o, "last_attempt");
    read_probe(json_object_get(o, "probe"), &out->probed);
    ok = ok && out->until.us <= now.us + AHEAD_US && out->last_attempt.us <= now.us + AHEAD_US &&
         out->probed.at.us <= now.us + AHEAD_US;
    json_decref(o);
    return ok;
}

static void drop(struct hearing *h, struct span field)
{
    char name[FIELD_CAP];

    if (field.len >= sizeof(name) || h->n_gone >= GONE_MAX)
        return;
    (void)span_copy(name, sizeof(name), field);
    kv_batch_unset(h->gone, KV_HEALTH, name);
    h->n_gone++;
}

static void hear(void *user, struct span field, struct span value)
{
    struct hearing *h = user;
    struct span provider = field, node = span_split(&provider, ' ');
    struct health_record r = {0};

    if (!provider.p || span_is(node, h->node))
        return;
    if (!read_record(value, h->now, &r) || r.until.us + GONE_US < h->now.us) {
        drop(h, field);
        health_record_release(&r);
        return;
    }
    if (r.until.us <
        h->now.us) { /* its node is gone; what it last heard of the provider still says something */
        r.attempts = r.errors = 0;
        sketch_clear(&r.sketch);
    }
    for (size_t i = 0; i < h->n; i++)
        if (span_is(provider, label_text(h->records[i].provider)) &&
            health_record_add(&h->records[i], &r) == ERR_OK)
            h->nodes_of[i] += r.attempts > 0;
    health_record_release(&r);
}

enum err_code health_share_hear(struct kv *kv, const char *node, struct wall now,
                                struct health_record *records, unsigned *nodes_of, size_t n, struct err *err)
{
    struct hearing h = {
        .node = node, .now = now, .records = records, .nodes_of = nodes_of, .n = n, .gone = kv_batch_new()};
    enum err_code e = kv_hash(kv, KV_HEALTH, hear, &h, err);

    kv_batch_expire(h.gone, KV_HEALTH, KV_TTL_LIVE_S, false);
    if (!e && h.n_gone)
        e = kv_write(kv, h.gone, err);
    kv_batch_free(h.gone);
    return e;
}
