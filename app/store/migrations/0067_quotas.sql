-- Quotas of tenants and their users: a delivery that waits for its own is held, and no work is due for it. How much is used is read
-- from the deliveries themselves, so that nothing can differ from them. (A version before takes no notice: what it takes in counts,
-- and is never held.)

ALTER TABLE delivery
    ADD held        boolean NOT NULL DEFAULT false,  -- it waits for its quota: RECEIVED, of requests; READY, of bytes
    ADD admitted_at timestamptz,                     -- when its request counted; null: there was no quota of requests
    ADD charged_at  timestamptz;                     -- when its bytes counted; null: there was no quota of bytes

-- Held deliveries have no work. That on a delivery which takes a part has words of its own, so that no worker from before 0058
-- claims it: that would end it as if nothing were missing. Nor one whose order ended with errors before it was planned, and is left
-- to a worker to be ended. Such rows wait for a later worker, and hold up no other. (The indexes go with the column, and the table is
-- written again: once for both.)
ALTER TABLE delivery DROP COLUMN work;
ALTER TABLE delivery
    ADD work text GENERATED ALWAYS AS (CASE
        WHEN parked OR held THEN NULL
        WHEN state = 'RECEIVED' THEN 'check'
        WHEN state = 'AVAILABLE' THEN
            CASE WHEN partial OR order_error_type IS NOT NULL THEN 'plan-part' ELSE 'plan' END
        WHEN state IN ('READY', 'TRANSFERRING') THEN
            CASE WHEN partial THEN 'transfer-part' ELSE 'transfer' END
        END) STORED;
CREATE INDEX delivery_claimable ON delivery (work, tenant, rank) WHERE work IS NOT NULL;
CREATE INDEX delivery_claimable_to ON delivery (work, tenant, target, rank) WHERE work IS NOT NULL;
CREATE INDEX delivery_leased ON delivery (work, tenant) WHERE lease_until IS NOT NULL;

CREATE INDEX delivery_held ON delivery (tenant, state, user_email, rank) WHERE held;
CREATE INDEX delivery_admitted ON delivery (tenant, admitted_at) WHERE admitted_at IS NOT NULL;
CREATE INDEX delivery_charged ON delivery (tenant, charged_at) WHERE charged_at IS NOT NULL;
