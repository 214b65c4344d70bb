-- Each attempt of a transfer: who made it, and what came of it. Written by a trigger, with what begins and ends it: no
-- statement more, and a worker of the version before writes it, too.

CREATE TABLE delivery_attempt (
    delivery_id uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    attempt     integer NOT NULL,
    tenant      text NOT NULL,
    target      text NOT NULL,              -- its name
    worker      text NOT NULL,
    began       timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended       timestamptz,                -- null: it is under way; of one that was lost, when its lease ran out
    outcome     text,                       -- done, error, postponed, parked, handed_over, lost
    code        text,                       -- of the cause; null: none is known
    cause       text,
    bytes       bigint,                     -- of its files that were archived by then; null: its worker did not tell
    PRIMARY KEY (delivery_id, attempt)
);
-- Which targets attempts have failed at lately, when one was written to last, and what has failed since.
CREATE INDEX delivery_attempt_failed ON delivery_attempt (ended) WHERE outcome IN ('postponed', 'error');
CREATE INDEX delivery_attempt_at_target ON delivery_attempt (tenant, target, outcome, ended);

-- An attempt that no worker has ended was lost. Of a delivery, the first ten are kept and the last ninety.
CREATE FUNCTION note_attempt_begun() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE delivery_attempt SET ended = coalesce(OLD.lease_until, clock_timestamp()), outcome = 'lost'
    WHERE delivery_id = NEW.id AND attempt = OLD.attempt AND ended IS NULL;
    DELETE FROM delivery_attempt
    WHERE delivery_id = NEW.id AND attempt > 10 AND attempt <= NEW.attempt - 90;
    INSERT INTO delivery_attempt (delivery_id, attempt, tenant, target, worker)
    VALUES (NEW.id, NEW.attempt, NEW.tenant, NEW.target, NEW.lease_owner);
    RETURN NULL;
END $$;
CREATE TRIGGER delivery_attempt_begun AFTER UPDATE OF attempt ON delivery
    FOR EACH ROW WHEN (OLD.attempt <> NEW.attempt AND NEW.lease_owner IS NOT NULL)
    EXECUTE FUNCTION note_attempt_begun();

-- What is tried again counts its tries; what another worker may go on with at once does not.
CREATE FUNCTION note_attempt_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE delivery_attempt SET
        ended = clock_timestamp(),
        outcome = CASE WHEN NEW.state = 'DONE' THEN 'done'
                       WHEN NEW.state = 'ERROR' THEN 'error'
                       WHEN NEW.parked THEN 'parked'
                       WHEN NEW.tries > OLD.tries THEN 'postponed'
                       ELSE 'handed_over' END,
        cause = CASE WHEN NEW.state = 'ERROR' THEN NEW.error_message
                     WHEN NEW.state = 'TRANSFERRING' THEN NEW.last_cause END,
        bytes = CASE WHEN NEW.state = 'DONE' THEN NEW.total_bytes ELSE bytes END
    WHERE delivery_id = NEW.id AND attempt = NEW.attempt AND ended IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER delivery_attempt_ended AFTER UPDATE OF lease_owner ON delivery
    FOR EACH ROW WHEN (OLD.state = 'TRANSFERRING' AND OLD.lease_owner IS NOT NULL AND NEW.lease_owner IS NULL
                       AND OLD.attempt = NEW.attempt)
    EXECUTE FUNCTION note_attempt_ended();
