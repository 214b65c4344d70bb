-- A step knows whose delivery it is of: who follows their own alone reads what is new by an index, however many of theirs are kept. By
-- the deliveries' own index, all steps of all of them were read each time a page of theirs was opened.

ALTER TABLE delivery_history
    ADD tenant text,
    ADD user_email text;

-- Of what is older no reader is told any more: one that comes back asks for what it has missed. All else stays as it is, as
-- none could take in a delivery for as long as all of it were written again.
UPDATE delivery_history h SET tenant = d.tenant, user_email = d.user_email FROM delivery d
WHERE d.id = h.delivery_id AND h.id > (SELECT max(id) FROM delivery_history) - 100000 AND h.at > now() - interval '1 day';

-- By -id, an order that no other index has, so that none other is taken for it: by the key alone, the steps of all would be read to
-- find those of a user who has long had none.
CREATE INDEX delivery_history_of_user ON delivery_history (tenant, user_email, (-id)) WHERE user_email IS NOT NULL;

CREATE OR REPLACE FUNCTION note_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO delivery_history (delivery_id, state, attempt, tenant, user_email)
    VALUES (NEW.id, NEW.state, NEW.attempt, NEW.tenant, NEW.user_email);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION note_given_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM delivery_history
    WHERE delivery_id = NEW.id AND state = NEW.state AND attempt = NEW.attempt AND cause IS NOT NULL;
    INSERT INTO delivery_history (delivery_id, state, attempt, cause, code, tenant, user_email)
    VALUES (NEW.id, NEW.state, NEW.attempt, coalesce(NEW.last_cause, ''), NEW.last_code, NEW.tenant, NEW.user_email);
    RETURN NULL;
END $$;

-- Of what is written without it (news of a content, also by a worker of the version before): no path can forget.
CREATE FUNCTION note_whose() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT tenant, user_email INTO NEW.tenant, NEW.user_email FROM delivery WHERE id = NEW.delivery_id;
    RETURN NEW;
END $$;
CREATE TRIGGER step_of_user BEFORE INSERT ON delivery_history
    FOR EACH ROW WHEN (NEW.user_email IS NULL)
    EXECUTE FUNCTION note_whose();
