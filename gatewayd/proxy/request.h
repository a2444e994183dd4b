/* SPDX-License-Identifier: Apache-2.0 */
/* The one struct that travels. It lives in its exchange's arena from on_head to on_end, and pins one configuration
 * snapshot for that time. Worker thread only. */
#ifndef PROXY_REQUEST_H
#define PROXY_REQUEST_H

#include "gatewayd/core/mailbox.h"
#include "gatewayd/http/client.h"
#include "gatewayd/http/server.h"
#include "gatewayd/http/sse.h"
#include "gatewayd/journal/journal.h"
#include "gatewayd/limits/limits.h"
#include "gatewayd/provider/pricing.h"
#include "gatewayd/provider/provider.h"
#include "gatewayd/proxy/reach.h"
#include "gatewayd/resilience/backoff.h"
#include "gatewayd/resilience/breaker.h"
#include "gatewayd/resilience/overload.h"
#include "gatewayd/resilience/queue.h"
#include "gatewayd/telemetry/facts.h"

struct load;
struct loads;
struct tracker;

/* What a worker lends to its requests. */
struct proxy {
    struct loop *loop;
    struct client *client;
    struct facts *facts;
    struct journal *journal;
    struct limits *limits;
    struct config *config;     /* the worker's current snapshot; a request refs it */
    struct breakers *breakers; /* of all workers */
    struct queues *queues;     /* likewise */
    struct overload *overload; /* likewise */
    struct mailbox *mailbox;   /* the worker's, by which a slot is granted */
    struct loads *loads;       /* likewise */
    struct tracker *tracker;   /* likewise */
    struct retry_budget retry_budget;
    unsigned next_key;    /* rotates the first key of an attempt */
    struct request *live; /* all requests */
    struct timer watch;   /* see statement.h */
};

enum step { STEP_NEXT, STEP_WAIT, STEP_DONE };

/* Offsets into the client's body of what the gateway reads or patches. */
struct body_plan {
    struct span model; /* the raw value, quotes included; p == NULL when absent */
    char model_name[LIMIT_MODEL_BYTES + 1];
    bool is_stream;
    bool asked_usage;           /* stream_options.include_usage was true */
    struct span stream_options; /* raw value, p == NULL when absent */
    struct span include_usage;  /* raw value inside it, p == NULL when absent */
    struct span user;           /* raw value of who the client acts for, p == NULL when it does not say */
    uint64_t max_tokens;        /* 0 when not said */
    struct span
        max_blank; /* raw value of such a member that says none (null, 0); p == NULL when there is none */
    const char *put_max_name; /* a maximum is put into what is sent, NULL: none */
    uint64_t put_max;
    uint64_t n;       /* choices, 1 when not said */
    size_t insert_at; /* just behind the opening brace */
};

enum attempt_state {
    ATTEMPT_WAITING,   /* nothing was passed on: may still fail over */
    ATTEMPT_ANSWERING, /* bytes of it are on their way to the client */
    ATTEMPT_FAILED,    /* it is of no use */
    ATTEMPT_FINISHED   /* its answer is complete, or ended after ANSWERING */
};
enum attempt_mode { MODE_BUFFER, MODE_SSE, MODE_RAW, MODE_ERROR };

struct attempt {
    struct request *rq;
    const struct config_target *target;
    const struct provider_ops *ops;
    unsigned key_index;
    struct breaker_ticket ticket; /* reported when it is closed */
    struct queue_slot slot;       /* of the provider; left when it is closed */
    struct limits_hold hold;      /* of the provider's account; open until then */
    struct load *load;            /* counted in it until then; NULL: not */
    struct client_call *call;     /* NULL once it ended */
    struct client_timing timing;
    struct mono started;
    enum attempt_state state;
    enum attempt_mode mode;
    int http_status;
    char content_type[96];
    struct buf body;    /* MODE_BUFFER, MODE_ERROR: the whole; MODE_RAW: the last bytes */
    struct buf sent;    /* the patched body, when it differs from the client's */
    struct buf headers; /* request header lines */
    struct sse sse;
    bool has_sse;
    struct buf held; /* SSE before the first event with data: kept, so that failing over stays possible */
    struct buf tail; /* the end of the stream, kept back until the books are written */
    struct answer answer;
    struct failure failure;
    struct answer_headers judged_headers; /* copies in the arena */
    char detail[120];
    bool is_error_body_cut;
    bool is_mid_event; /* the client has a piece of an event whose end has not come */
    bool passes_error; /* the client gets the provider's own error answer */
    bool is_unfit;     /* nothing of it is taken any more */
    bool hides_usage;  /* the usage chunk exists only because we asked for it */
    bool is_paused;
    bool has_ended;    /* the transfer is over */
    bool is_clean_end; /* and HTTP has no complaint */
    bool is_closed;    /* `fact` is complete and journalled */
    struct fact_attempt fact;
};

struct request {
    struct proxy *proxy;
    struct exchange *ex;
    struct arena *arena; /* the exchange's */
    struct config *config;
    unsigned stage;
    bool is_running, has_body, is_settled, is_gone, is_ended;
    struct loop_task resume_task;
    struct timer timer; /* backoff, tail, drain: one wait at a time */
    bool timer_fired;

    struct id id;
    char id_text[ID_TEXT_CAP];
    struct trace_id trace;
    char trace_text[33], parent[56];
    struct mono arrived;
    struct wall arrived_wall;

    enum operation op;
    struct span model_from_path;  /* GET /v1/models/{id} */
    const struct config_key *key; /* borrowed from the snapshot */
    struct body_plan plan;
    char user[USER_HASH_CAP];         /* see fact_request */
    const struct config_model *alias; /* NULL for a direct model */
    struct config_target *targets;
    size_t n_targets;
    unsigned attempts_allowed;
    char passed[96]; /* targets that it passed over, and why, for the log; "" none */

    struct lease_wait
        *lease_wait; /* in admit, for what this node has leased too little of; NULL: no letter is awaited */
    struct mono lease_since;       /* 0: it never waited */
    struct reach reach;            /* of the body; from admit on */
    struct limits_hold hold;       /* open from admit to settle */
    int64_t bound_nanousd;         /* what it was opened with: of one attempt */
    struct rate_view rates[2];     /* of requests and tokens: the scope that has least left; limit 0: none */
    const struct explain *refusal; /* why admit, or the providers' accounts, refused; in the arena */
    const struct explain
        *passed_over; /* why a target's provider was not asked: the first of them; likewise */
    struct fact_reservation reservation;
    uint64_t stated; /* sequence number of its newest statement in the journal, 0: none is open */
    struct mono stated_at;
    int64_t cost_so_far;   /* when that was made, by estimate */
    uint64_t stated_chars; /* of the current attempt's output */

    unsigned priority;       /* in a queue, 1 is served first */
    struct mono patience;    /* when its client gives up, as it said; 0: it said nothing */
    struct waiting *waiting; /* for a slot of the target at hand; NULL: it does not */
    unsigned wait_key;       /* the key that the attempt behind the wait is made with */
    struct waiting_refusal {
        enum queue_verdict verdict;
        struct queue_report report;
    } wait_refusal;    /* of the last queue that it was in, or could not get into */
    int64_t queued_us; /* in queues so far */
    bool has_queued;
    uint64_t body_held; /* bytes that count against the process's bound */

    struct attempt *attempts[LIMIT_ATTEMPTS];
    unsigned n_attempts;
    size_t target_at;    /* of the current attempt */
    unsigned laps;       /* waits before asking targets again */
    unsigned keys_tried; /* of the current target */
    bool is_backing_off;
    int64_t first_content_us; /* after arrival; -1 */
    bool is_streaming;        /* the client's answer is a stream and has begun */
    enum stream_end end;

    enum err_code error; /* why it did not succeed; ERR_OK otherwise */
    struct err detail;
    int64_t retry_after_ms; /* to tell the client; -1 */
    struct buf reply;       /* local answer (models list), JSON */

    struct request *next, **link; /* proxy->live */
};

typedef enum step (*stage_fn)(struct request *);

static inline struct attempt *request_attempt(const struct request *rq)
{
    return rq->n_attempts ? rq->attempts[rq->n_attempts - 1] : NULL;
}
/* Ends the request with an error; for `return request_fail(…)` in a stage. */
enum step request_fail(struct request *rq, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Notes a target that is not asked, each once and as far as there is room. */
void request_pass_over(struct request *rq, const struct config_target *t, const char *why);

#endif
