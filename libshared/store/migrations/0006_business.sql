-- SPDX-License-Identifier: Apache-2.0
-- What an operator's own systems report counts once; a finding is one of an hour.
ALTER TABLE tenant_events ADD COLUMN reference text; -- the reporter's id; null: the gateway's own
CREATE UNIQUE INDEX tenant_events_reference ON tenant_events (reference);
ALTER TABLE anomalies ADD COLUMN hour bigint NOT NULL DEFAULT 0; -- its first second
CREATE UNIQUE INDEX anomalies_once ON anomalies (hour, kind, provider, model);
