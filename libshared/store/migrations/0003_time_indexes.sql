-- SPDX-License-Identifier: Apache-2.0
-- What is listed newest first and removed by age.
CREATE INDEX tenant_events_at ON tenant_events (at);
CREATE INDEX anomalies_at ON anomalies (at);
CREATE INDEX audit_at ON audit (at);
