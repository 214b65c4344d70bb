-- Orders of several suborders: their files are archived as they come, in the order of their announcement.

CREATE TABLE segment (
    delivery_id  uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    number       integer NOT NULL,      -- from 1, as they were announced
    suborder_id  bigint,                -- rs-order's; null: what its whole order has beside the others
    announced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    listed_at    timestamptz,           -- when its files came into the manifest
    file_count   integer NOT NULL DEFAULT 0,    -- of those that are in no segment before
    PRIMARY KEY (delivery_id, number)
);
CREATE UNIQUE INDEX segment_once ON segment (delivery_id, coalesce(suborder_id, -1));

ALTER TABLE delivery
    ADD order_done boolean NOT NULL DEFAULT false,  -- rs-order says that no further suborder comes
    ADD announced integer NOT NULL DEFAULT 0,       -- its segments,
    ADD listed integer NOT NULL DEFAULT 0,          -- and those whose files are in the manifest
    ADD plan json,                                  -- of an archive that began before all was available
    ADD parked boolean NOT NULL DEFAULT false;      -- half-made; it waits for the next segment

-- What was laid out before was so when its order was done.
UPDATE delivery SET order_done = true WHERE state IN ('AVAILABLE', 'READY', 'TRANSFERRING');

-- A worker of the version before takes what it finds in the manifest for all, and what it lists for the whole order:
-- what was announced in parts it may not lay out.
ALTER TABLE delivery
    ADD CONSTRAINT delivery_laid_out_whole CHECK (
        state NOT IN ('READY', 'TRANSFERRING', 'DONE') OR plan IS NOT NULL OR order_done OR announced = 0);

-- What is parked is no worker's until then. (The indexes go with the column.)
ALTER TABLE delivery DROP COLUMN work;
ALTER TABLE delivery
    ADD work text GENERATED ALWAYS AS (CASE
        WHEN parked THEN NULL
        WHEN state = 'RECEIVED' THEN 'check'
        WHEN state = 'AVAILABLE' THEN 'plan'
        WHEN state IN ('READY', 'TRANSFERRING') THEN 'transfer' END) STORED;
CREATE INDEX delivery_claimable ON delivery (work, tenant, rank) WHERE work IS NOT NULL;
CREATE INDEX delivery_claimable_to ON delivery (work, tenant, target, rank) WHERE work IS NOT NULL;
CREATE INDEX delivery_leased ON delivery (work, tenant) WHERE lease_until IS NOT NULL;
