-- What was asked for over HTTP, so that the same asked again (its answer was lost) is answered with the
-- same delivery. Kept as long as the delivery, or what the inbox keeps of one that was denied.

CREATE TABLE asked (
    request     bytea NOT NULL,     -- SHA-256 of tenant, caller, body and priority
    key         bytea UNIQUE,       -- SHA-256 of tenant, caller and Idempotency-Key, where one came
    delivery_id uuid NOT NULL,      -- may be gone: its request was denied
    at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX asked_request ON asked (request);
CREATE INDEX asked_at ON asked (at);
