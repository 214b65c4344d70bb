-- What came of an attempt has the code of its cause, too.

CREATE OR REPLACE FUNCTION note_attempt_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE delivery_attempt SET
        ended = clock_timestamp(),
        outcome = CASE WHEN NEW.state = 'DONE' THEN 'done'
                       WHEN NEW.state = 'ERROR' THEN 'error'
                       WHEN NEW.parked THEN 'parked'
                       WHEN NEW.tries > OLD.tries THEN 'postponed'
                       ELSE 'handed_over' END,
        code = CASE WHEN NEW.state = 'ERROR' THEN NEW.error_code
                    WHEN NEW.state = 'TRANSFERRING' THEN NEW.last_code END,
        cause = CASE WHEN NEW.state = 'ERROR' THEN NEW.error_message
                     WHEN NEW.state = 'TRANSFERRING' THEN NEW.last_cause END,
        bytes = CASE WHEN NEW.state = 'DONE' THEN NEW.total_bytes ELSE bytes END
    WHERE delivery_id = NEW.id AND attempt = NEW.attempt AND ended IS NULL;
    RETURN NULL;
END $$;
