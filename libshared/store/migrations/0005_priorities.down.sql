-- SPDX-License-Identifier: Apache-2.0
ALTER TABLE plans DROP COLUMN max_priority;
ALTER TABLE plans DROP COLUMN priority;
