-- SPDX-License-Identifier: Apache-2.0
-- The books. {{TIMESTAMP}} is timestamptz or text (RFC 3339, UTC), {{BLOB}} is bytea or blob, {{JSON}} is jsonb or text.
-- Minutes, days and *_at of ledger-like tables are seconds since 1970 UTC; amounts are nano-USD.

-- How far each instance's records have come (see watermark.h). One row an instance.
CREATE TABLE journal_watermarks (
    instance   text PRIMARY KEY,
    batch      bigint NOT NULL,
    token      bigint NOT NULL,
    positions  text NOT NULL,
    updated_at bigint NOT NULL
);

-- Append only. `seq` is the batch, `line` the row in it. kind: request, attempt, adjust. Sums of kind request and of
-- kind attempt agree.
CREATE TABLE ledger (
    instance         text NOT NULL,
    seq              bigint NOT NULL,
    line             integer NOT NULL,
    kind             text NOT NULL,
    minute           bigint NOT NULL, -- in which it ended
    budget_hour      bigint NOT NULL, -- in which its money was reserved: what decides the window of its budgets
    tenant           text NOT NULL,
    key              text NOT NULL,
    provider         text NOT NULL,
    model            text NOT NULL,
    endpoint         text NOT NULL,
    outcome          text NOT NULL, -- success error cancelled rejected
    error            text NOT NULL, -- wire code, '' without
    stream_end       text NOT NULL,
    usage_source     text NOT NULL, -- none reported estimated
    count            bigint NOT NULL,
    tokens_in        bigint NOT NULL,
    tokens_cached    bigint NOT NULL,
    tokens_cwrite    bigint NOT NULL,
    tokens_out       bigint NOT NULL,
    tokens_reasoning bigint NOT NULL,
    images           bigint NOT NULL,
    searches         bigint NOT NULL,
    cost_nano        bigint NOT NULL,
    unpriced         bigint NOT NULL, -- of `count`: had usage and no known price
    latency_us       bigint NOT NULL, -- sum
    ttft_us          bigint NOT NULL, -- sum
    ttft_count       bigint NOT NULL,
    PRIMARY KEY (instance, seq, line)
);
CREATE INDEX ledger_minute ON ledger (minute);
CREATE INDEX ledger_tenant ON ledger (tenant, minute);

-- Durations of attempts; one row an instance, minute, provider and model, its sketch merged in place.
CREATE TABLE minute_sketches (
    instance text NOT NULL,
    minute   bigint NOT NULL,
    provider text NOT NULL,
    model    text NOT NULL,
    sketch   {{BLOB}} NOT NULL,
    ttft     {{BLOB}} NOT NULL, -- times to first content
    PRIMARY KEY (minute, provider, model, instance)
);

-- Hours whose rows changed since they were rolled up; written with the batch that changed them.
CREATE TABLE dirty_hours (
    hour  bigint PRIMARY KEY,
    since bigint NOT NULL
);

CREATE TABLE requests (
    id     text PRIMARY KEY,
    at     bigint NOT NULL, -- microseconds
    tenant text NOT NULL,
    key    text NOT NULL,
    story  {{JSON}} NOT NULL
);
CREATE INDEX requests_at ON requests (at);
CREATE INDEX requests_tenant ON requests (tenant, at);

CREATE TABLE metrics_hourly_aggregates (
    hour          {{TIMESTAMP}} NOT NULL,
    provider      text NOT NULL,
    model         text NOT NULL,
    req           bigint NOT NULL,
    attempts      bigint NOT NULL,
    ok            bigint NOT NULL,
    err           bigint NOT NULL,
    tin           bigint NOT NULL,
    tcached       bigint NOT NULL,
    tcwrite       bigint NOT NULL,
    tout          bigint NOT NULL,
    treason       bigint NOT NULL,
    images        bigint NOT NULL,
    searches      bigint NOT NULL,
    cost_nano     bigint NOT NULL,
    unpriced      bigint NOT NULL,
    lat_us        bigint NOT NULL,
    ttfb_us       bigint NOT NULL,
    ttfb_n        bigint NOT NULL,
    p50_ms        double precision, -- of attempts; null without any
    p95_ms        double precision,
    p99_ms        double precision,
    sketch        {{BLOB}} NOT NULL,
    source        text NOT NULL, -- ledger or redis
    aggregated_at bigint NOT NULL,
    PRIMARY KEY (hour, provider, model)
);
CREATE INDEX metrics_hourly_aggregates_hour ON metrics_hourly_aggregates (hour DESC);

-- One row a run of the hourly job, and which hours are done.
CREATE TABLE aggregation_runs (
    id          {{SERIAL}},
    started_at  bigint NOT NULL,
    finished_at bigint,
    result      text NOT NULL, -- running ok error
    source      text NOT NULL,
    hours       integer NOT NULL,
    rows_stored integer NOT NULL,
    error       text NOT NULL
);
CREATE TABLE aggregated_hours (
    hour          bigint PRIMARY KEY,
    source        text NOT NULL,
    rows_stored   integer NOT NULL,
    aggregated_at bigint NOT NULL
);

CREATE TABLE plans (
    id          text PRIMARY KEY,
    price_nano  bigint NOT NULL, -- a month
    is_trial    integer NOT NULL,
    rpm         bigint NOT NULL, -- 0: none; what a tenant without its own limit gets
    tpm         bigint NOT NULL,
    concurrent  bigint NOT NULL,
    budget_nano bigint NOT NULL,
    period      text NOT NULL,
    created_at  bigint NOT NULL,
    deleted_at  bigint
);
CREATE TABLE tenants (
    id         text PRIMARY KEY,
    plan       text NOT NULL,
    name       text NOT NULL,
    is_enabled integer NOT NULL,
    models     text NOT NULL, -- JSON array, '' for all
    rpm        bigint,        -- null: the plan's
    tpm        bigint,
    concurrent bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    deleted_at bigint
);
CREATE TABLE api_keys (
    tenant     text NOT NULL,
    id         text NOT NULL,
    sha256     {{BLOB}} NOT NULL,
    prefix     text NOT NULL, -- first characters, to recognise it by
    is_enabled integer NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX api_keys_sha256 ON api_keys (sha256);

-- account: "global", "tenant:ID", "key:TENANT/ID", "provider:NAME"
CREATE TABLE budgets (
    account         text PRIMARY KEY,
    limit_nano      bigint NOT NULL,
    period          text NOT NULL,
    warn_percent    integer NOT NULL,
    at_limit        text NOT NULL,
    when_store_down text NOT NULL,
    created_at      bigint NOT NULL,
    updated_at      bigint NOT NULL
);
-- What was spent and is held, posted with the batch that carried it.
CREATE TABLE budget_windows (
    account     text NOT NULL,
    period      text NOT NULL,
    window_id   text NOT NULL,
    posted_nano bigint NOT NULL,
    held_nano   bigint NOT NULL,
    ends_at     bigint, -- null for total
    updated_at  bigint NOT NULL,
    PRIMARY KEY (account, period, window_id)
);

CREATE TABLE active_users (
    day       bigint NOT NULL,
    tenant    text NOT NULL,
    user_hash text NOT NULL,
    PRIMARY KEY (day, tenant, user_hash)
);
CREATE TABLE tenant_events (
    id     {{SERIAL}},
    at     bigint NOT NULL,
    tenant text NOT NULL,
    kind   text NOT NULL,
    detail {{JSON}} NOT NULL
);
CREATE INDEX tenant_events_tenant ON tenant_events (tenant, at);
CREATE TABLE revenue (
    day         bigint NOT NULL,
    tenant      text NOT NULL,
    source      text NOT NULL, -- plan or payment
    reference   text NOT NULL,
    amount_nano bigint NOT NULL,
    PRIMARY KEY (day, tenant, source, reference)
);
CREATE TABLE slow_queries (
    id          {{SERIAL}},
    at          bigint NOT NULL,
    label       text NOT NULL,
    duration_us bigint NOT NULL,
    sql         text NOT NULL
);
CREATE INDEX slow_queries_at ON slow_queries (at);
CREATE TABLE anomalies (
    id       {{SERIAL}},
    at       bigint NOT NULL,
    kind     text NOT NULL,
    provider text NOT NULL,
    model    text NOT NULL,
    severity text NOT NULL,
    detail   {{JSON}} NOT NULL
);
CREATE TABLE audit (
    id      {{SERIAL}},
    at      bigint NOT NULL,
    actor   text NOT NULL,
    action  text NOT NULL,
    subject text NOT NULL,
    detail  {{JSON}} NOT NULL,
    hash    {{BLOB}} NOT NULL
);
-- Facts about the deployment itself: 'keyver', …
CREATE TABLE settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);
