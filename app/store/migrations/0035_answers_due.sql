-- rs-order makes an order of each order request that it gets: of one that was sent again, as RabbitMQ's confirm was
-- not heard or not noted, there are two, and each is answered. So each further try is noted before it is made. Another
-- answer than the first is credited to the delivery, and its order cancelled. (In one column of its own is whether the
-- first is still to come to a delivery that has ended: `order_awaited`.)

ALTER TABLE outbox ADD COLUMN repeats integer NOT NULL DEFAULT 0;  -- tries, beside the first, that may be out
ALTER TABLE delivery
    ADD COLUMN answers_due integer NOT NULL DEFAULT 0,              -- answers that may come beside the first
    ADD COLUMN answers_until timestamptz,                           -- none is reckoned with after that, nor the first
    ADD COLUMN repeated_orders bigint[] NOT NULL DEFAULT '{}',      -- the orders that those named
    ADD COLUMN order_out_at timestamptz;                            -- its request went out after its end, then

-- Of the deliveries of a correlation id, those that have an answer to come.
CREATE INDEX delivery_awaited ON delivery (tenant, correlation_id) WHERE order_awaited OR answers_due > 0;
