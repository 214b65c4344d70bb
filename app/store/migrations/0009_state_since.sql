-- Since when a delivery is in its state, however often it is tried there; and an attempt that is
-- given up is a step of the history, so that whoever watches hears of it. Both by triggers: no path
-- can forget, nor can a worker of the version before.

ALTER TABLE delivery ADD state_since timestamptz NOT NULL DEFAULT now();

-- The first step of the run of steps in the state that it is in. (Of those that have ended,
-- `finished_at` tells; there may be millions.)
UPDATE delivery d SET state_since = coalesce((
    SELECT min(h.at) FROM delivery_history h
    WHERE h.delivery_id = d.id AND h.id > (
        SELECT coalesce(max(other.id), 0) FROM delivery_history other
        WHERE other.delivery_id = d.id AND other.state <> d.state)
), d.updated_at)
WHERE state NOT IN ('DONE', 'ERROR');

CREATE FUNCTION note_age() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.state_since := now();
    RETURN NEW;
END $$;
CREATE TRIGGER delivery_aged BEFORE UPDATE OF state ON delivery
    FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION note_age();

ALTER TABLE delivery_history ADD cause text;    -- why the attempt was given up; null: it came into the state

-- The last of them in a state and attempt: what waits for a neighbour for hours is tried each minute.
CREATE FUNCTION note_given_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM delivery_history
    WHERE delivery_id = NEW.id AND state = NEW.state AND attempt = NEW.attempt AND cause IS NOT NULL;
    INSERT INTO delivery_history (delivery_id, state, attempt, cause)
    VALUES (NEW.id, NEW.state, NEW.attempt, coalesce(NEW.last_cause, ''));
    RETURN NULL;
END $$;
CREATE TRIGGER delivery_given_up AFTER UPDATE OF lease_owner ON delivery
    FOR EACH ROW WHEN (OLD.lease_owner IS NOT NULL AND NEW.lease_owner IS NULL
                       AND OLD.state = NEW.state)
    EXECUTE FUNCTION note_given_up();
