-- Requests whose user is still to be checked, work shared fairly between tenants, causes that last.

ALTER TABLE delivery DROP CONSTRAINT delivery_state_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_state_check CHECK (state IN
    ('RECEIVED', 'GRANTED', 'ORDERED', 'AVAILABLE', 'READY', 'TRANSFERRING', 'DONE', 'ERROR'));

ALTER TABLE delivery
    -- What a worker can do for it now; null when it waits for others, or has ended.
    ADD work text GENERATED ALWAYS AS (CASE state
        WHEN 'RECEIVED' THEN 'check'
        WHEN 'AVAILABLE' THEN 'plan'
        WHEN 'READY' THEN 'transfer'
        WHEN 'TRANSFERRING' THEN 'transfer' END) STORED,
    ADD tries integer NOT NULL DEFAULT 0,       -- of that work, since it is due; sets the backoff
    ADD last_cause text;                        -- why the last of them was given up

DROP INDEX delivery_claimable;
CREATE INDEX delivery_claimable ON delivery (work, tenant, priority DESC, requested_at)
    WHERE work IS NOT NULL;

-- When a tenant was last given a worker's time: whoever waited longest is next.
CREATE TABLE turn (
    work   text NOT NULL,
    tenant text NOT NULL,
    at     timestamptz NOT NULL,
    PRIMARY KEY (work, tenant)
);

DROP INDEX outbox_due;
CREATE INDEX outbox_due ON outbox (lane, tenant, id);
