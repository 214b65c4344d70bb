-- The code of a cause, beside its text: of the last attempt that was given up, of how a delivery ends, and of how it
-- has ended. Null: it has none, it is of a time before, or a worker of the version before has written it.

ALTER TABLE delivery
    ADD last_code text,                     -- of last_cause
    ADD error_code text,                    -- of error_message
    ADD ending_code text;                   -- of ending_message
ALTER TABLE delivery_history ADD code text; -- of cause

-- A cause that is written without a code has none: a worker of the version before knows of none, and leaves that of
-- the cause before. So a code is written with a plus before it, which is taken away here.
CREATE FUNCTION keep_code() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.last_code := CASE WHEN NEW.last_code LIKE '+%' THEN substr(NEW.last_code, 2) END;
    RETURN NEW;
END $$;
CREATE TRIGGER delivery_coded BEFORE UPDATE OF last_cause ON delivery
    FOR EACH ROW WHEN (NEW.last_code LIKE '+%' OR
                       NEW.last_code IS NOT NULL AND NEW.last_cause IS DISTINCT FROM OLD.last_cause)
    EXECUTE FUNCTION keep_code();

CREATE OR REPLACE FUNCTION note_given_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM delivery_history
    WHERE delivery_id = NEW.id AND state = NEW.state AND attempt = NEW.attempt AND cause IS NOT NULL;
    INSERT INTO delivery_history (delivery_id, state, attempt, cause, code)
    VALUES (NEW.id, NEW.state, NEW.attempt, coalesce(NEW.last_cause, ''), NEW.last_code);
    RETURN NULL;
END $$;
