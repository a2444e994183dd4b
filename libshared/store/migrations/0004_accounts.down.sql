-- SPDX-License-Identifier: Apache-2.0
ALTER TABLE api_keys DROP COLUMN concurrent;
ALTER TABLE api_keys DROP COLUMN tpm;
ALTER TABLE api_keys DROP COLUMN rpm;
DROP TABLE budget_topups;
ALTER TABLE budget_windows DROP COLUMN starts_at;
ALTER TABLE budgets DROP COLUMN cuts_streams;
ALTER TABLE budgets DROP COLUMN warn_levels;
ALTER TABLE budgets DROP COLUMN timezone;
