-- What is known of an order request that is owed: whether it may be out. Only one that surely is not may be taken
-- back when its delivery ends. (A relay that had sent one and could not note that, for it died or PostgreSQL was
-- away, left it here as if it had not; it was taken back, and its order stayed.) What was owed before may be out.

ALTER TABLE outbox ADD COLUMN not_sent boolean NOT NULL DEFAULT false;  -- no relay has begun to send it
ALTER TABLE outbox ADD COLUMN begun_by uuid;  -- the pass of a relay that has, and has told nothing of it yet

-- Answers come in the order of requests: those of one correlation id go out one after the other.
CREATE INDEX outbox_correlation ON outbox (tenant, correlation_id, id) WHERE lane = 'orders';
