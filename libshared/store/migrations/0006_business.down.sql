-- SPDX-License-Identifier: Apache-2.0
DROP INDEX anomalies_once;
ALTER TABLE anomalies DROP COLUMN hour;
DROP INDEX tenant_events_reference;
ALTER TABLE tenant_events DROP COLUMN reference;
