/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked. Waits for the whole body, then scans its top level once. */
#include "gatewayd/proxy/body.h"

#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/shed.h"
#include "libshared/base/hash.h"
#include "libshared/json/json.h"
#include <stdio.h>

static enum err_code scan(struct request *rq, struct err *err)
{
    struct span body = exchange_body(rq->ex);

    switch (operation_row(rq->op)->body) {
    case BODY_JSON:
        return body_scan_json(body, rq->op, &rq->plan, err);
    case BODY_MULTIPART:
        return body_scan_multipart(body, exchange_header(rq->ex, "content-type"), &rq->plan, err);
    case BODY_NONE:
        return ERR_OK;
    }
    return ERR_INTERNAL;
}

/* A keyed hash, so that nobody who reads the books can tell, or try out, who it was. */
static void name_user(struct request *rq)
{
    struct span key = secret_expose(&rq->config->history.users_key);
    struct buf text AUTO(buf_release) = {.max = 2048};
    unsigned char hash[SHA256_BYTES];
    char user[1024];
    size_t n;

    if (!key.len || !rq->plan.user.p || !json_str(json_value(rq->plan.user), user, sizeof(user), &n) || !n)
        return;
    buf_addf(&text, "%s/", rq->key->tenant->id);
    buf_add(&text, span_make(user, n));
    hmac_sha256(key, buf_span(&text), hash);
    for (size_t i = 0; i < (USER_HASH_CAP - 1) / 2; i++)
        (void)snprintf(rq->user + 2 * i, 3, "%02x", hash[i]);
}

enum step stage_decode(struct request *rq)
{
    struct err err = {0};
    enum err_code e;

    if (rq->is_gone)
        return request_fail(rq, ERR_CLIENT_GONE, "the client left before its request was complete");
    if (!rq->has_body)
        return STEP_WAIT;
    if (exchange_is_body_too_large(rq->ex))
        return request_fail(rq, ERR_TOO_LARGE, "the body exceeds 'http.max_body', %zu bytes",
                            rq->config->http.max_body);
    if (!rq->body_held && shed_hold(rq, exchange_bytes_in(rq->ex)) == STEP_DONE) /* it was chunked */
        return STEP_DONE;
    e = scan(rq, &err);
    if (e)
        return request_fail(rq, e, "%s", err_text(&err));
    name_user(rq);
    if (operation_row(rq->op)->body != BODY_NONE && !rq->plan.model.p)
        return request_fail(rq, ERR_MISSING_FIELD, "'model' is required");
    return STEP_NEXT;
}
