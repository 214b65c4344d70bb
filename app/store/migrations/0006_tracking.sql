-- Deliveries are looked at: lists by time, and which workers there are.

CREATE INDEX delivery_listed ON delivery (tenant, requested_at DESC, id DESC);

CREATE TABLE worker (
    id         text PRIMARY KEY,
    version    text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    slots      integer NOT NULL                 -- transfers that it runs at once
);
