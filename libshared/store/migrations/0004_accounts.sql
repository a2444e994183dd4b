-- SPDX-License-Identifier: Apache-2.0
-- Budgets by local time, with several marks, and topped up for a while; limits of keys. From here on ledger.budget_hour is the
-- quarter of an hour, since not all local days begin with a full one, and kind may be 'reset': what was spent of the account
-- that tenant, key and provider name (none: of all) no longer counts, while no cost changes.
ALTER TABLE budgets ADD COLUMN timezone text NOT NULL DEFAULT ''; -- IANA name, '' UTC
ALTER TABLE budgets ADD COLUMN warn_levels text NOT NULL DEFAULT ''; -- '80, 95'; '' as warn_percent says
ALTER TABLE budgets ADD COLUMN cuts_streams integer NOT NULL DEFAULT 0;
ALTER TABLE budget_windows ADD COLUMN starts_at bigint; -- null in rows of older releases
CREATE TABLE budget_topups (
    id          text PRIMARY KEY,
    account     text NOT NULL,
    amount_nano bigint NOT NULL,
    until_at    bigint NOT NULL, -- counts before
    created_at  bigint NOT NULL
);
ALTER TABLE api_keys ADD COLUMN rpm bigint; -- null: none of its own
ALTER TABLE api_keys ADD COLUMN tpm bigint;
ALTER TABLE api_keys ADD COLUMN concurrent bigint;
