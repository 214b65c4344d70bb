-- What RabbitMQ was told to forget, until an agent has handled it: topics can be lost, too.

CREATE TABLE arrival (
    id          uuid PRIMARY KEY,
    kind        text NOT NULL,
    key         bytea NOT NULL,
    value       bytea NOT NULL,                 -- the event, as it was appended to its topic
    appends     integer NOT NULL DEFAULT 0,     -- times that it was appended once more
    due_at      timestamptz NOT NULL            -- when it counts as lost
);
CREATE INDEX arrival_due ON arrival (due_at);

-- Whether an ended delivery left an upload open, where it may have; looked at from `not_before` on.
ALTER TABLE delivery ADD swept boolean NOT NULL DEFAULT false;
CREATE INDEX delivery_unswept ON delivery (not_before)
    WHERE state IN ('DONE', 'ERROR') AND attempt > 0 AND NOT swept AND (state = 'ERROR' OR attempt > 1);
