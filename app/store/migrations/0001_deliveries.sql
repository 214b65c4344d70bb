-- Deliveries, their files, what arrived (inbox), what is owed (outbox).
-- Bodies are `json`, not `jsonb`: they are passed on, never searched, and keep their order.

CREATE TABLE delivery (
    id              uuid PRIMARY KEY,           -- ingress id of the request that opened it
    tenant          text NOT NULL,
    correlation_id  text NOT NULL,
    state           text NOT NULL CHECK (state IN
        ('GRANTED', 'ORDERED', 'AVAILABLE', 'READY', 'TRANSFERRING', 'DONE', 'ERROR')),
    user_email      text NOT NULL,              -- the ordering user
    target          text NOT NULL,              -- targetDelivery
    order_request   json NOT NULL,              -- user, queries, filters as received
    origin_app      text,
    priority        smallint NOT NULL,
    requested_at    timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    order_id        bigint,
    total_suborders bigint,
    archive_name    text,
    file_count      integer NOT NULL DEFAULT 0,
    total_bytes     bigint NOT NULL DEFAULT 0,
    attempt         integer NOT NULL DEFAULT 0, -- transfers begun: the fence of compare-and-set
    failures        integer NOT NULL DEFAULT 0, -- attempts that ended by a wrong file or object
    lease_owner     text,
    lease_until     timestamptz,
    not_before      timestamptz NOT NULL DEFAULT now(),
    upload_bucket   text,                       -- multipart upload of the last attempt
    upload_key      text,
    upload_id       text,
    url             text,
    md5             text,
    archive_size    bigint,
    error_type      text,
    error_message   text,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz
);

-- A correlation id may be used again, but only after its delivery has ended.
CREATE UNIQUE INDEX delivery_one_active ON delivery (tenant, correlation_id)
    WHERE state NOT IN ('DONE', 'ERROR');
CREATE INDEX delivery_of_client ON delivery (tenant, correlation_id, finished_at);
CREATE INDEX delivery_finished ON delivery (finished_at) WHERE state IN ('DONE', 'ERROR');
CREATE INDEX delivery_expiring ON delivery (expires_at) WHERE state NOT IN ('DONE', 'ERROR');
CREATE INDEX delivery_claimable ON delivery (priority DESC, requested_at)
    WHERE state IN ('AVAILABLE', 'READY', 'TRANSFERRING');

CREATE TABLE delivery_file (
    delivery_id uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    position    integer NOT NULL,
    file_id     bigint NOT NULL,
    member      text NOT NULL,
    size        bigint,
    md5         text,
    PRIMARY KEY (delivery_id, position)
);

-- When a delivery came into each of its states; written by a trigger, so that no path can forget.
CREATE TABLE delivery_history (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    state       text NOT NULL,
    attempt     integer NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX delivery_history_of ON delivery_history (delivery_id);

CREATE FUNCTION note_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO delivery_history (delivery_id, state, attempt)
    VALUES (NEW.id, NEW.state, NEW.attempt);
    RETURN NULL;
END $$;
CREATE TRIGGER delivery_opened AFTER INSERT ON delivery
    FOR EACH ROW EXECUTE FUNCTION note_state();
CREATE TRIGGER delivery_moved AFTER UPDATE OF state, attempt ON delivery
    FOR EACH ROW WHEN (OLD.state <> NEW.state OR OLD.attempt <> NEW.attempt)
    EXECUTE FUNCTION note_state();

-- Every request that was granted, denied or ignored, so that none counts twice.
CREATE TABLE inbox (
    ingress_id  uuid PRIMARY KEY,
    digest      bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inbox_digest ON inbox (digest);
CREATE INDEX inbox_received ON inbox (received_at);

CREATE TABLE outbox (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane           text NOT NULL,
    delivery_id    uuid NOT NULL,
    kind           text NOT NULL,
    message_id     uuid NOT NULL,
    tenant         text NOT NULL,
    correlation_id text NOT NULL,
    priority       smallint NOT NULL,
    origin_app     text,
    body           json NOT NULL,
    tries          integer NOT NULL DEFAULT 0,
    due_at         timestamptz NOT NULL DEFAULT now(),
    last_error     text
);
CREATE INDEX outbox_lane ON outbox (lane, delivery_id, id);
CREATE INDEX outbox_due ON outbox (lane, id);
