/* SPDX-License-Identifier: Apache-2.0 */
/* Plays one request to its end: waits, answers, paces a stream, misbehaves as drawn, and closes the record.
 *
 *   begin ──delay──► start ─┬─ whole answer ──────────────► sent ──► finish
 *                           ├─ STREAM ──pieces, paced─────► sent ──► finish
 *                           ├─ DRIP ──a byte a tick───────► sent ──► finish
 *                           └─ HOLD (timeout, stall) ──client leaves──► finish
 * A job never outlives its connection's request; finish() frees it. */
#include <stdlib.h>

#include "gatewayd/sim/sim_ask.h"
#include "gatewayd/sim/sim_server.h"

#define HUGE_EVENT_BYTES ((size_t)2 << 20)
#define GARBAGE_BYTES    512u

enum stage { STAGE_DELAY, STAGE_FIRST_TOKEN, STAGE_STREAM, STAGE_SENT, STAGE_DRIP, STAGE_HOLD };
enum part { PART_BEGIN, PART_OPEN, PART_PIECE, PART_FINISH, PART_CLOSE, PART_DONE, PART_END };

struct sim_job {
    struct sim_ask ask;
    const struct sim_profile *profile;
    enum stage stage;
    enum sim_fault fault;
    enum sim_dialect dialect;
    int status; /* of the answer */
    bool is_free, has_begun, fault_is_played;
    uint64_t seq, epoch; /* of its record; 0: a GET */
    struct buf answer;   /* whole answer's body, or what is dripped */
    size_t answer_at;
    /* stream */
    enum part part;
    unsigned choice, at; /* next token */
    unsigned emitted;    /* visible tokens of all choices */
    struct mono first_token_at;
    double tokens_per_s;
    size_t frame_bytes;
    int64_t drip_us, first_token_us;
    bool sse_crlf, sse_comments;
};

static struct sim_record *record_of(struct sim_conn *c)
{
    return sim_truth_at(c->sv->truth, c->job->seq, c->job->epoch);
}

/* ---- the end ---- */

static struct sim_bill bill_of(const struct sim_job *j)
{
    if (j->is_free || !j->has_begun)
        return (struct sim_bill){0};
    if (j->ask.is_stream && j->part <= PART_FINISH)
        return sim_ask_bill_so_far(&j->ask, j->emitted);
    return j->ask.bill;
}

/* Closes the record and frees the job; what becomes of the connection is the caller's next line. */
static void finish(struct sim_conn *c, enum sim_end end)
{
    struct sim_job *j = c->job;
    struct sim_record *r = record_of(c);

    loop_timer_cancel(c->sv->loop, &c->timer);
    if (c->is_broken && end != SIM_END_STOPPED)
        end = SIM_END_CLIENT_GONE;
    if (r) {
        r->end = (unsigned char)end;
        r->bill = bill_of(j);
        r->bytes_sent = c->sent;
        r->end_us = wall_now().us;
        sim_truth_close(c->sv->truth, r);
    }
    sim_ask_release(&j->ask);
    buf_release(&j->answer);
    free(j);
    c->job = NULL;
}

static void finish_sent(struct sim_conn *c)
{
    const struct sim_job *j = c->job;
    bool is_plain_error = j->status >= 400 && !j->fault;

    finish(c, j->fault ? SIM_END_FAULT : is_plain_error ? SIM_END_REFUSED : SIM_END_ANSWERED);
    sim_conn_next(c);
}

static void finish_close(struct sim_conn *c, bool by_reset)
{
    finish(c, SIM_END_FAULT);
    if (by_reset)
        sim_conn_reset(c);
    else
        sim_conn_close(c);
}

void sim_play_gone(struct sim_conn *c)
{
    /* Who holds an answer back for ever has played its fault when the client leaves. */
    finish(c, c->job->stage == STAGE_HOLD ? SIM_END_FAULT : SIM_END_CLIENT_GONE);
}

void sim_play_stop(struct sim_conn *c)
{
    if (c->job)
        finish(c, SIM_END_STOPPED);
}

/* ---- heads ---- */

static void add_head(struct sim_conn *c, const char *content_type, int64_t length, struct buf *out)
{
    const struct sim_job *j = c->job;
    const struct sim_behaviour *b = &j->profile->b;
    bool is_overload = j->status == 429 || j->status == 503 || j->status == 529;

    buf_addz(out, "HTTP/1.1 ");
    buf_addu(out, (uint64_t)j->status);
    buf_addc(out, ' ');
    buf_addz(out, sim_status_text(j->status));
    buf_addz(out, "\r\ncontent-type: ");
    buf_addz(out, content_type);
    if (length >= 0) {
        buf_addz(out, "\r\ncontent-length: ");
        buf_addu(out, (uint64_t)length);
    } else {
        buf_addz(out, "\r\ntransfer-encoding: chunked\r\ncache-control: no-cache");
    }
    sim_add_id(out, j->dialect == SIM_ANTHROPIC ? "\r\nrequest-id: req_" : "\r\nx-request-id: req_",
               j->ask.id);
    if (c->wants_close)
        buf_addz(out, "\r\nconnection: close");
    if (is_overload && b->retry_after_s >= 0)
        buf_addf(out, "\r\nretry-after: %g", b->retry_after_s);
    buf_addz(out, "\r\n");
    if (b->headers)
        buf_addz(out, b->headers);
    if (b->error_headers && j->status >= 400)
        buf_addz(out, b->error_headers);
    buf_addz(out, "\r\n");
}

static void note_first(struct sim_conn *c)
{
    struct sim_record *r = record_of(c);

    c->job->has_begun = true;
    if (r) {
        r->first_us = wall_now().us;
        r->status = (uint16_t)c->job->status;
    }
}

/* ---- whole answers ---- */

static void hold(struct sim_conn *c)
{
    c->job->stage = STAGE_HOLD;
}

static void add_garbage(struct buf *out, uint64_t seed)
{
    for (unsigned i = 0; i < GARBAGE_BYTES; i++)
        buf_addc(out, (char)(sim_mix(seed, i) >> 56));
}

/* Pads an event with a member that clients ignore; the place is in front of the last closing brace. */
static void pad_event(struct buf *frame, size_t to_bytes)
{
    static const char OPEN[] = ",\"obfuscation\":\"";
    const size_t extra = sizeof(OPEN) - 1 + 1;
    char *brace = frame->len ? memrchr(frame->p, '}', frame->len) : NULL;
    size_t fill, tail, at;

    if (!brace || frame->len + extra >= to_bytes)
        return;
    fill = to_bytes - frame->len - extra;
    at = (size_t)(brace - frame->p);
    tail = frame->len - at;
    if (buf_reserve(frame, fill + extra))
        return;
    memmove(frame->p + at + fill + extra, frame->p + at, tail);
    memcpy(frame->p + at, OPEN, sizeof(OPEN) - 1);
    memset(frame->p + at + sizeof(OPEN) - 1, 'x', fill);
    frame->p[at + sizeof(OPEN) - 1 + fill] = '"';
    frame->len += fill + extra;
}

static void start_drip(struct sim_conn *c)
{
    c->job->stage = STAGE_DRIP;
    loop_timer(c->sv->loop, &c->timer, c->job->drip_us);
}

/* Some faults change the body, the others how much of it is sent. */
static void spoil_body(struct sim_job *j)
{
    struct buf *body = &j->answer;

    if (j->fault == SIM_FAULT_BAD_JSON) {
        body->len /= 2;
    } else if (j->fault == SIM_FAULT_HUGE_EVENT) {
        pad_event(body, HUGE_EVENT_BYTES);
    } else if (j->fault == SIM_FAULT_GARBAGE_BODY) {
        buf_clear(body);
        add_garbage(body, j->ask.id);
        j->is_free = true;
    } else if (j->fault == SIM_FAULT_ERROR_EVENT) {
        buf_clear(body);
        sim_error_body(j->dialect, 500, NULL, j->ask.id, body);
        j->is_free = true;
    } else if (j->fault == SIM_FAULT_NO_DONE) {
        j->fault = SIM_FAULT_NONE; /* only a stream has an end marker */
    }
}

static void send_whole(struct sim_conn *c)
{
    struct sim_job *j = c->job;
    struct buf *out = &c->sv->out;
    const char *type = j->status == 200 && j->ask.content_type ? j->ask.content_type : "application/json";
    size_t part = j->answer.len;

    buf_clear(out);
    add_head(c, type, (int64_t)j->answer.len, out);
    note_first(c);
    if (j->fault == SIM_FAULT_SLOW_HEAD || j->fault == SIM_FAULT_SLOW_DRIP) {
        if (j->fault == SIM_FAULT_SLOW_DRIP) {
            sim_conn_send(c, buf_span(out));
            buf_clear(out);
        }
        buf_add(out, buf_span(&j->answer));
        buf_clear(&j->answer);
        buf_add(&j->answer, buf_span(out));
        start_drip(c);
        return;
    }
    if (j->fault == SIM_FAULT_CUT_BEFORE_FIRST) {
        part = 0;
        j->is_free = true;
    } else if (j->fault == SIM_FAULT_CUT_MID || j->fault == SIM_FAULT_RESET_MID ||
               j->fault == SIM_FAULT_STALL_MID) {
        part /= 2;
    }
    buf_add(out, span_make(j->answer.p, part));
    j->stage = STAGE_SENT;
    sim_conn_send(c, buf_span(out));
    if (j->fault == SIM_FAULT_STALL_MID)
        hold(c);
    else if (part < j->answer.len)
        finish_close(c, j->fault == SIM_FAULT_RESET_MID);
    else if (!sim_conn_queued(c))
        finish_sent(c);
}

/* ---- streams ---- */

static void add_chunk(struct buf *out, struct span bytes)
{
    if (!bytes.len)
        return; /* an empty chunk would end the body */
    buf_addf(out, "%zx\r\n", bytes.len);
    buf_add(out, bytes);
    buf_add(out, SPAN_LIT("\r\n"));
}

static void use_crlf(struct buf *frame)
{
    size_t lines = 0, from = frame->len;

    for (size_t i = 0; i < frame->len; i++)
        lines += frame->p[i] == '\n';
    if (buf_reserve(frame, lines))
        return;
    frame->len += lines;
    for (size_t to = frame->len; from < to;) {
        frame->p[--to] = frame->p[--from];
        if (frame->p[from] == '\n')
            frame->p[--to] = '\r';
    }
}

/* Fills `frame` with the events of the present part and steps to the next one. */
static void next_part(struct sim_job *j, struct buf *frame)
{
    const struct sim_stream_ops *ops = j->ask.op->stream;
    unsigned to;

    switch (j->part) {
    case PART_BEGIN:
        if (ops->begin)
            ops->begin(&j->ask, frame);
        j->part = PART_OPEN;
        return;
    case PART_OPEN:
        if (ops->open)
            ops->open(&j->ask, j->choice, frame);
        j->part = j->ask.visible ? PART_PIECE : PART_FINISH;
        return;
    case PART_PIECE:
        to = j->ask.visible - j->at > j->ask.chunk_tokens ? j->at + j->ask.chunk_tokens : j->ask.visible;
        ops->piece(&j->ask, j->choice, j->at, to, frame);
        j->emitted += to - j->at;
        j->at = to;
        if (j->at == j->ask.visible)
            j->part = PART_FINISH;
        pad_event(frame, j->frame_bytes);
        return;
    case PART_FINISH:
        if (ops->finish)
            ops->finish(&j->ask, j->choice, frame);
        j->at = 0;
        j->part = ++j->choice < j->ask.choices ? PART_OPEN : PART_CLOSE;
        return;
    case PART_CLOSE:
        if (ops->close)
            ops->close(&j->ask, frame);
        j->part = PART_DONE;
        return;
    default:
        if (ops->done && j->fault != SIM_FAULT_NO_DONE)
            ops->done(&j->ask, frame);
        j->part = PART_END;
        return;
    }
}

static bool is_at_fault(const struct sim_job *j)
{
    unsigned half = j->ask.visible * j->ask.choices / 2;

    return !j->fault_is_played && j->part >= PART_PIECE &&
           (j->emitted >= (half ? half : 1) || j->part > PART_PIECE);
}

/* Halves the first data line of the frame. */
static void break_event(struct buf *frame)
{
    size_t line = 0;

    while (line < frame->len && frame->p[line] != '\n')
        line++;
    frame->len = line / 2 + 4;
    buf_addz(frame, "\n\n");
}

/* The middle of a stream is where most faults strike. Returns false when the stream ends here. */
static bool strike(struct sim_conn *c, struct buf *out, struct buf *frame)
{
    struct sim_job *j = c->job;

    switch (j->fault) {
    case SIM_FAULT_CUT_MID:
    case SIM_FAULT_RESET_MID:
        sim_conn_send(c, buf_span(out));
        finish_close(c, j->fault == SIM_FAULT_RESET_MID);
        return false;
    case SIM_FAULT_STALL_MID:
        sim_conn_send(c, buf_span(out));
        hold(c);
        return false;
    case SIM_FAULT_ERROR_EVENT:
        sim_error_event(&j->ask, frame);
        add_chunk(out, buf_span(frame));
        buf_add(out, SPAN_LIT("0\r\n\r\n"));
        j->stage = STAGE_SENT;
        sim_conn_send(c, buf_span(out));
        if (!sim_conn_queued(c))
            finish_sent(c);
        return false;
    case SIM_FAULT_BAD_JSON:
        next_part(j, frame);
        break_event(frame);
        break;
    case SIM_FAULT_HUGE_EVENT:
        next_part(j, frame);
        pad_event(frame, HUGE_EVENT_BYTES);
        break;
    default:
        next_part(j, frame);
        break;
    }
    j->fault_is_played = true;
    return true;
}

/* Microseconds until the next piece is due; 0 or less: now. */
static int64_t piece_due_us(const struct sim_conn *c)
{
    const struct sim_job *j = c->job;
    int64_t due_us;

    if (j->part != PART_PIECE || j->tokens_per_s <= 0)
        return 0;
    due_us = j->first_token_at.us + (int64_t)((double)j->emitted * 1e6 / j->tokens_per_s);
    return due_us - loop_now(c->sv->loop).us;
}

static void add_frame(struct sim_job *j, struct buf *out, struct buf *frame)
{
    if (j->sse_comments && frame->len)
        add_chunk(out, SPAN_LIT(": keep-alive\n\n"));
    if (j->sse_crlf)
        use_crlf(frame);
    add_chunk(out, buf_span(frame));
    if (j->part == PART_END)
        buf_add(out, SPAN_LIT("0\r\n\r\n"));
}

/* Generates what is due, up to what the reader may lag behind. */
static void pump(struct sim_conn *c)
{
    struct sim_job *j = c->job;
    struct buf *out = &c->sv->out, *frame = &c->sv->frame;
    int64_t wait_us = 0;

    buf_clear(out);
    while (j->part != PART_END && out->len + sim_conn_queued(c) < SIM_SEND_HIGH) {
        if (j->part == PART_PIECE && j->stage == STAGE_FIRST_TOKEN) {
            wait_us = j->first_token_us;
            j->first_token_us = 0;
            j->stage = STAGE_STREAM;
            j->first_token_at = mono_add_us(loop_now(c->sv->loop), wait_us);
        } else {
            wait_us = piece_due_us(c);
        }
        if (wait_us > 0)
            break;
        buf_clear(frame);
        if (j->fault && is_at_fault(j)) {
            if (!strike(c, out, frame))
                return;
        } else {
            next_part(j, frame);
        }
        add_frame(j, out, frame);
    }
    if (j->part == PART_END)
        j->stage = STAGE_SENT;
    sim_conn_send(c, buf_span(out));
    if (j->part == PART_END && !sim_conn_queued(c))
        finish_sent(c);
    else if (wait_us > 0)
        loop_timer(c->sv->loop, &c->timer, wait_us);
    else if (j->part != PART_END && !sim_conn_queued(c))
        loop_timer(c->sv->loop, &c->timer, 0); /* the socket takes all: give others a turn */
}

static void render_stream(struct sim_job *j, struct buf *out, struct buf *frame)
{
    while (j->part != PART_END) {
        buf_clear(frame);
        next_part(j, frame);
        add_frame(j, out, frame);
    }
}

static void start_stream(struct sim_conn *c)
{
    struct sim_job *j = c->job;
    struct buf *out = &c->sv->out;

    buf_clear(out);
    add_head(c, j->ask.is_array_stream ? "application/json" : "text/event-stream; charset=utf-8", -1, out);
    note_first(c);
    j->stage = STAGE_FIRST_TOKEN;
    if (j->fault == SIM_FAULT_SLOW_HEAD || j->fault == SIM_FAULT_SLOW_DRIP) {
        if (j->fault == SIM_FAULT_SLOW_DRIP) {
            sim_conn_send(c, buf_span(out));
            buf_clear(out);
        }
        buf_add(&j->answer, buf_span(out));
        render_stream(j, &j->answer, &c->sv->frame);
        start_drip(c);
        return;
    }
    if (j->fault == SIM_FAULT_GARBAGE_BODY) {
        struct buf *frame = &c->sv->frame;

        buf_clear(frame);
        add_garbage(frame, j->ask.id);
        add_chunk(out, buf_span(frame));
        buf_add(out, SPAN_LIT("0\r\n\r\n"));
        j->is_free = true;
        j->stage = STAGE_SENT;
        sim_conn_send(c, buf_span(out));
        if (!sim_conn_queued(c))
            finish_sent(c);
        return;
    }
    sim_conn_send(c, buf_span(out));
    if (j->fault == SIM_FAULT_CUT_BEFORE_FIRST)
        finish_close(c, false);
    else
        pump(c);
}

/* ---- when to do what ---- */

static void start(struct sim_conn *c)
{
    struct sim_job *j = c->job;
    struct buf *out = &c->sv->out;

    if (j->fault == SIM_FAULT_RESET_AFTER_REQUEST) {
        finish_close(c, true);
    } else if (j->fault == SIM_FAULT_GARBAGE) {
        buf_clear(out);
        add_garbage(out, j->ask.id);
        j->is_free = true;
        sim_conn_send(c, buf_span(out));
        finish_close(c, false);
    } else if (j->ask.is_stream && j->status == 200) {
        start_stream(c);
    } else {
        spoil_body(j);
        send_whole(c);
    }
}

static void drip(struct sim_conn *c)
{
    struct sim_job *j = c->job;

    if (!sim_conn_queued(c))
        sim_conn_send(c, span_make(j->answer.p + j->answer_at++, 1));
    if (j->answer_at < j->answer.len) {
        loop_timer(c->sv->loop, &c->timer, j->drip_us);
        return;
    }
    j->stage = STAGE_SENT;
    if (!sim_conn_queued(c))
        finish_sent(c);
}

void sim_play_timer(struct timer *t)
{
    struct sim_conn *c = CONTAINER_OF(t, struct sim_conn, timer);

    if (c->job->stage == STAGE_DELAY)
        start(c);
    else if (c->job->stage == STAGE_DRIP)
        drip(c);
    else
        pump(c);
}

void sim_play_drained(struct sim_conn *c)
{
    struct sim_job *j = c->job;

    if (j->stage == STAGE_SENT)
        finish_sent(c);
    else if ((j->stage == STAGE_STREAM || j->stage == STAGE_FIRST_TOKEN) && !timer_is_armed(&c->timer))
        pump(c);
}

/* ---- the beginning ---- */

static struct span key_of(const struct sim_request *rq)
{
    struct span v = sim_head_get(rq->head, "authorization");

    if (v.len > 7 && span_eq_nocase(span_make(v.p, 7), SPAN_LIT("bearer ")))
        return span_trim(span_make(v.p + 7, v.len - 7));
    if (!v.p)
        v = sim_head_get(rq->head, "x-api-key");
    if (!v.p)
        v = sim_head_get(rq->head, "x-goog-api-key");
    if (!v.p)
        v = sim_head_get(rq->head, "api-key");
    return v.p ? v : sim_query_get(rq->head->query, "key");
}

static void open_record(struct sim_conn *c, struct sim_request *rq, struct span head_bytes)
{
    struct sim_truth *t = c->sv->truth;
    struct sim_job *j = c->job;
    struct sim_record *r = sim_truth_open(t);
    unsigned char sha[SHA256_BYTES];

    sha256(rq->body, sha);
    memcpy(r->body_sha256, sha, sizeof(sha));
    memcpy(&rq->body_hash, sha, sizeof(rq->body_hash));
    r->at_us = loop_wall(c->sv->loop).us;
    r->profile = sim_truth_name(t, span_of(rq->profile->name));
    r->key = sim_truth_name(t, key_of(rq));
    r->operation = j->ask.op ? j->ask.op->name : "unknown";
    r->body_len = rq->body.len;
    r->connection = c->id;
    (void)span_copy(r->request_id, sizeof(r->request_id), sim_head_get(rq->head, "x-request-id"));
    j->seq = r->seq;
    j->epoch = sim_truth_epoch(t);
    sim_truth_add_body(t, r->seq, head_bytes, rq->body);
}

static void describe_record(struct sim_conn *c)
{
    struct sim_job *j = c->job;
    struct sim_record *r = record_of(c);

    if (!r)
        return;
    r->model = sim_truth_name(c->sv->truth, span_of(j->ask.model ? j->ask.model : ""));
    r->is_stream = j->ask.is_stream;
    r->fault = (unsigned char)j->fault;
}

static void refuse(struct sim_job *j, int status, const char *why)
{
    j->status = status;
    j->is_free = true;
    buf_clear(&j->answer);
    sim_error_body(j->dialect, status, why, j->ask.id, &j->answer);
}

/* `/sim-fast/v1/chat/completions`: the provider, then a version, then the operation. */
static struct span split_path(struct span path, struct span *out_provider)
{
    static const char *const VERSIONS[] = {"/v1beta/openai/", "/openai/v1/", "/v1beta/", "/v1/"};
    struct span rest = span_make(path.p + 1, path.len - 1);

    *out_provider = span_split(&rest, '/');
    rest = rest.p ? span_make(rest.p - 1, rest.len + 1) : span_make(path.p + path.len, 0);
    for (size_t i = 0; i < ARRAY_LEN(VERSIONS); i++) {
        size_t n = strlen(VERSIONS[i]);

        if (rest.len >= n && memcmp(rest.p, VERSIONS[i], n) == 0)
            return span_make(rest.p + n - 1, rest.len - n + 1);
    }
    return rest;
}

static void take_behaviour(struct sim_job *j, int64_t delay_us)
{
    const struct sim_behaviour *b = &j->profile->b;

    j->tokens_per_s = b->tokens_per_s;
    j->frame_bytes = (size_t)b->frame_bytes;
    j->drip_us = (int64_t)(b->drip_ms * 1000);
    j->sse_crlf = b->sse_crlf;
    j->sse_comments = b->sse_comments;
    if (b->ttft_ms > 0)
        j->first_token_us = (int64_t)(b->ttft_ms * 1000) - delay_us;
}

static void answer_control(struct sim_conn *c, const struct sim_head *head, struct span body)
{
    struct sim_reply reply = {.status = 200, .content_type = "application/json"};
    struct buf *out = &c->sv->out;

    sim_control(c->sv, head, body, &reply);
    buf_clear(out);
    buf_addf(out, "HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%s\r\n", reply.status,
             sim_status_text(reply.status), reply.content_type, reply.body.len,
             c->wants_close ? "connection: close\r\n" : "");
    sim_conn_send(c, buf_span(out));
    sim_conn_send(c, buf_span(&reply.body));
    buf_release(&reply.body);
    sim_conn_next(c);
}

static void prepare(struct sim_conn *c, struct sim_request *rq, uint64_t number)
{
    struct sim_job *j = c->job;
    const struct sim_behaviour *b = &j->profile->b;
    const char *why;

    if (!j->ask.op) {
        refuse(j, 404, "no such path here");
        return;
    }
    why = sim_ask_decode(&j->ask, rq, c->sv->seed, number);
    j->is_free = j->ask.op->is_unbilled;
    if (sim_fault_status(j->fault))
        refuse(j, sim_fault_status(j->fault), NULL);
    else if (b->require_key && !span_is(key_of(rq), b->require_key))
        refuse(j, 401, NULL);
    else if (why && strcmp(why, "model_not_found") == 0)
        refuse(j, 404, NULL);
    else if (why)
        refuse(j, 400, why);
    else if (!j->ask.is_stream)
        j->ask.op->whole(&j->ask, rq, &j->answer);
}

void sim_play_begin(struct sim_conn *c, const struct sim_head *head, struct span head_bytes, struct span body)
{
    struct sim_request rq = {.head = head, .body = body};
    bool is_get = span_is(head->method, "GET");
    struct sim_draw draw = {0};
    struct span provider;
    struct sim_profile *p;
    struct sim_job *j;

    if (span_starts(head->path, SPAN_LIT("/_sim"))) {
        answer_control(c, head, body);
        return;
    }
    rq.path = split_path(head->path, &provider);
    p = sim_profiles_get(c->sv->profiles, provider);
    j = p ? calloc(1, sizeof(*j)) : NULL;
    if (!j || (!is_get && !span_is(head->method, "POST"))) {
        free(j);
        sim_conn_send(c, p ? SPAN_LIT("HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")
                           : SPAN_LIT("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"));
        sim_conn_next(c);
        return;
    }
    c->job = j;
    j->answer.max = SIM_OUT_MAX;
    j->status = 200;
    j->profile = rq.profile = p;
    j->dialect = sim_dialect_of(rq.path);
    j->ask.op = sim_op_find(&rq, is_get);
    if (!is_get)
        open_record(c, &rq, head_bytes);
    if (j->ask.op)
        draw = sim_profile_draw(p, c->sv->seed, !is_get);
    j->fault = draw.fault;
    if (j->fault == SIM_FAULT_CLOSE_IDLE && c->requests == 1)
        j->fault = SIM_FAULT_NONE;
    prepare(c, &rq, draw.number);
    describe_record(c);
    take_behaviour(j, draw.delay_us);
    if (!j->ask.is_stream && j->tokens_per_s > 0 && j->status == 200)
        draw.delay_us += (int64_t)((double)j->ask.bill.output * 1e6 / j->tokens_per_s);
    if (j->fault == SIM_FAULT_RESET || j->fault == SIM_FAULT_CLOSE_IDLE)
        finish_close(c, j->fault == SIM_FAULT_RESET);
    else if (j->fault == SIM_FAULT_TIMEOUT)
        hold(c);
    else if (draw.delay_us > 0)
        loop_timer(c->sv->loop, &c->timer, draw.delay_us);
    else
        start(c);
}
