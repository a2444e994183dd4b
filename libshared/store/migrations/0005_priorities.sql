-- SPDX-License-Identifier: Apache-2.0
-- Of the requests of a plan's tenants, in queues: 1 to 5, 1 is served first; 0: as usual.
ALTER TABLE plans ADD COLUMN priority integer NOT NULL DEFAULT 0;
ALTER TABLE plans ADD COLUMN max_priority integer NOT NULL DEFAULT 0;
