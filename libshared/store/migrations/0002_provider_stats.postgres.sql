-- SPDX-License-Identifier: Apache-2.0
-- SQLite answers the same by a query; see provider_stats in aggregate.c.
CREATE MATERIALIZED VIEW provider_stats_24h AS
SELECT provider,
       sum(req)::bigint       AS total_requests,
       sum(attempts)::bigint  AS attempts,
       sum(ok)::bigint        AS successful,
       sum(err)::bigint       AS failed,
       sum(tin + tout)::bigint AS total_tokens,
       sum(cost_nano)::bigint AS cost_nano,
       CASE WHEN sum(attempts) > 0 THEN sum(lat_us)::double precision / sum(attempts) / 1000 END AS avg_latency_ms,
       CASE WHEN sum(attempts) > 0 THEN sum(err)::double precision / sum(attempts) END AS error_rate
  FROM metrics_hourly_aggregates
 WHERE hour >= now() - interval '24 hours'
 GROUP BY provider;
CREATE UNIQUE INDEX provider_stats_24h_provider ON provider_stats_24h (provider);
