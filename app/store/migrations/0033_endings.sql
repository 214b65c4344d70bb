-- A delivery that is to end (its time is over, it is cancelled, it fails) while an attempt may be completing its
-- archive: how, until it is known whether that appears. Cleared at its end.

ALTER TABLE delivery
    ADD ending_type text,
    ADD ending_message text,
    ADD completing_attempt integer;     -- the attempt that noted `completing` last, unless it has begun again since

CREATE INDEX delivery_ending ON delivery (completing_until) WHERE ending_type IS NOT NULL;

-- Whether an answer of rs-order is overtaken by a later one: asked for each, however much has arrived and waits.
CREATE INDEX arrival_answers ON arrival (key, received_at) WHERE kind = 'order-event';
