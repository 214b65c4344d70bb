-- Deliveries are looked at: lists by time, what is leased, and which workers there are.

CREATE INDEX delivery_listed ON delivery (tenant, requested_at DESC, id DESC);

-- Who has how much under way, without a look at all that waits: asked at each claim.
CREATE INDEX delivery_leased ON delivery (work, tenant) WHERE lease_until IS NOT NULL;

CREATE TABLE worker (
    id         text PRIMARY KEY,
    version    text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    slots      integer NOT NULL                 -- transfers that it runs at once
);
