-- Whether an order request is surely not at RabbitMQ: only then may it be taken back. False until a
-- relay has tried and knows; again before the next try. (Without it, one that was sent by a relay
-- that could not note it, for it died or PostgreSQL was away, was taken back, and its order stayed.)

ALTER TABLE outbox ADD COLUMN not_sent boolean NOT NULL DEFAULT false;
