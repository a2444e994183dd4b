-- SPDX-License-Identifier: Apache-2.0
DROP INDEX audit_at;
DROP INDEX anomalies_at;
DROP INDEX tenant_events_at;
