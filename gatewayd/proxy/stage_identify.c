/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks. Runs while only the headers are in, so that a stranger's body is never read. */
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/shed.h"
#include "gatewayd/proxy/waiting.h"

#define KEY_BYTES_MAX 512u

static struct span presented_key(const struct exchange *ex)
{
    struct span auth = exchange_header(ex, "authorization");
    struct span key = exchange_header(ex, "x-api-key");

    if (auth.p) {
        struct span scheme = span_split(&auth, ' ');

        if (span_eq_nocase(scheme, SPAN_LIT("bearer")) && auth.p)
            return span_trim(auth);
    }
    return span_trim(key.p ? key : exchange_header(ex, "api-key"));
}

/* A valid incoming traceparent continues its trace; anything else starts one. */
static void take_trace(struct request *rq)
{
    struct span tp = exchange_header(rq->ex, "traceparent");
    unsigned char version, flags, span_id[8];
    char span_hex[17];
    static const unsigned char ZERO[16];

    if (tp.len < 55 || tp.p[2] != '-' || tp.p[35] != '-' || tp.p[52] != '-' ||
        !hex_decode(span_make(tp.p, 2), &version, 1) || version == 0xff || (version == 0 && tp.len != 55) ||
        !hex_decode(span_make(tp.p + 3, 32), rq->trace.b, 16) || memcmp(rq->trace.b, ZERO, 16) == 0 ||
        !hex_decode(span_make(tp.p + 36, 16), span_id, 8) || memcmp(span_id, ZERO, 8) == 0 ||
        !hex_decode(span_make(tp.p + 53, 2), &flags, 1)) {
        random_bytes(rq->trace.b, sizeof(rq->trace.b));
        flags = 1;
    }
    random_bytes(span_id, sizeof(span_id));
    hex_encode(rq->trace.b, 16, rq->trace_text);
    hex_encode(span_id, 8, span_hex);
    memcpy(rq->parent, "00-", 3);
    memcpy(rq->parent + 3, rq->trace_text, 32);
    rq->parent[35] = '-';
    memcpy(rq->parent + 36, span_hex, 16);
    memcpy(rq->parent + 52, flags & 1 ? "-01" : "-00", 4);
}

enum step stage_identify(struct request *rq)
{
    unsigned char digest[SHA256_BYTES];
    struct span key;

    rq->id = id_mint(rq->arrived_wall);
    id_format(&rq->id, rq->id_text);
    take_trace(rq);
    key = presented_key(rq->ex);
    if (!key.len)
        return request_fail(rq, ERR_NO_KEY,
                            "no API key; send 'Authorization: Bearer KEY' or 'x-api-key: KEY'");
    if (key.len > KEY_BYTES_MAX)
        return request_fail(rq, ERR_BAD_KEY, "the API key is longer than %u bytes", KEY_BYTES_MAX);
    sha256(key, digest);
    rq->key = config_find_key(rq->config, digest);
    if (!rq->key && rq->config->lacks_keys) /* it may well be good, so a client must not throw it away */
        return request_fail(
            rq, ERR_UNAVAILABLE,
            "the directory of keys cannot be reached, and this key is not in what is known of it");
    if (!rq->key)
        return request_fail(rq, ERR_BAD_KEY, "the API key is not known to this gateway");
    if (rq->key->is_revoked)
        return request_fail(rq, ERR_KEY_DISABLED, "key '%s' is revoked", rq->key->id);
    if (rq->key->expires_at_us && rq->arrived_wall.us >= rq->key->expires_at_us)
        return request_fail(rq, ERR_KEY_DISABLED, "key '%s' has expired", rq->key->id);
    if (!rq->key->is_enabled)
        return request_fail(rq, ERR_KEY_DISABLED, "key '%s' is disabled", rq->key->id);
    if (!rq->key->tenant->is_enabled)
        return request_fail(rq, ERR_KEY_DISABLED, "tenant '%s' is disabled", rq->key->tenant->id);
    retry_budget_deposit(&rq->proxy->retry_budget); /* strangers earn nobody a retry */
    return waiting_read(rq) == STEP_DONE ? STEP_DONE : shed_hold(rq, exchange_announced(rq->ex));
}
