-- SPDX-License-Identifier: Apache-2.0
DROP MATERIALIZED VIEW provider_stats_24h;
