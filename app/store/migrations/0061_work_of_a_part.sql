-- The work on a delivery that takes a part has words of its own, so that no worker from before 0058 claims it: that would end
-- it as if nothing were missing. Nor one whose order ended with errors before it was planned, and is left to a worker to be
-- ended. Such rows wait for a later worker, and hold up no other. (The indexes go with the column.)

ALTER TABLE delivery DROP COLUMN work;
ALTER TABLE delivery
    ADD work text GENERATED ALWAYS AS (CASE
        WHEN parked THEN NULL
        WHEN state = 'RECEIVED' THEN 'check'
        WHEN state = 'AVAILABLE' THEN
            CASE WHEN partial OR order_error_type IS NOT NULL THEN 'plan-part' ELSE 'plan' END
        WHEN state IN ('READY', 'TRANSFERRING') THEN
            CASE WHEN partial THEN 'transfer-part' ELSE 'transfer' END
        END) STORED;
CREATE INDEX delivery_claimable ON delivery (work, tenant, rank) WHERE work IS NOT NULL;
CREATE INDEX delivery_claimable_to ON delivery (work, tenant, target, rank) WHERE work IS NOT NULL;
CREATE INDEX delivery_leased ON delivery (work, tenant) WHERE lease_until IS NOT NULL;
