-- Once means once: every kind of arrival is noted, with the time at which it was saved by this
-- database's clock; and it is known which deliveries ended while an answer of rs-order was due.

ALTER TABLE arrival ADD received_at timestamptz NOT NULL DEFAULT clock_timestamp();

-- Every event that was handled, so that none counts twice. (`received_at` is when it was handled.)
ALTER TABLE inbox
    ADD kind text NOT NULL DEFAULT 'request',
    ADD flagged boolean NOT NULL DEFAULT false,     -- it said that it may be a repeat
    ADD counted boolean NOT NULL DEFAULT true,      -- false: it was one
    ADD arrived_at timestamptz;                     -- null: noted by the version before

-- It ended before rs-order answered its order request, which is out: the answer may still come.
ALTER TABLE delivery ADD order_awaited boolean NOT NULL DEFAULT false;

-- What arrives is compared with when its delivery was requested. No request comes from the future,
-- although the clock of the worker that took it may: the version before asks that one.
CREATE FUNCTION not_from_the_future() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.requested_at := least(NEW.requested_at, clock_timestamp());
    RETURN NEW;
END $$;
CREATE TRIGGER delivery_requested BEFORE INSERT ON delivery
    FOR EACH ROW EXECUTE FUNCTION not_from_the_future();
UPDATE delivery SET requested_at = now()
WHERE requested_at > now() AND state NOT IN ('DONE', 'ERROR');
