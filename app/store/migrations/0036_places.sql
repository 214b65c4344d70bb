-- Whose order may keep its user's place at rs-order although all of it is delivered: asked about until rs-order tells.

CREATE TABLE place (
    delivery_id uuid PRIMARY KEY REFERENCES delivery ON DELETE CASCADE,
    since  timestamptz NOT NULL DEFAULT now(),  -- when all was delivered
    due_at timestamptz NOT NULL,                -- when rs-order is to be asked, by any worker
    tries  integer NOT NULL DEFAULT 0           -- times that it was
);
CREATE INDEX place_due ON place (due_at);
