-- When a drained worker was there last: its row goes as soon as it stops, and its pause stays for a week from then.

ALTER TABLE pause ADD last_seen timestamptz;  -- of a worker that is gone; null: not since it was drained

-- That a worker stops changes no pause: no process reads the configuration again for it.
DROP TRIGGER pause_changed ON pause;
CREATE TRIGGER pause_changed
    AFTER INSERT OR DELETE OR UPDATE OF reason, running, paused_by, since, until ON pause
    FOR EACH STATEMENT EXECUTE FUNCTION tell_configuration();
