-- What could not be handled, beside its copy in RabbitMQ's dead-letter queue or on Kafka's dead-letter topic: looked for,
-- mended, put back and removed here. A row stays until one of that is done, whatever its age: nothing is lost by itself.

CREATE TABLE dead_letter (
    id             text PRIMARY KEY,        -- kind, place, and a digest of all that it is: copies share it
    number         bigint GENERATED ALWAYS AS IDENTITY UNIQUE,  -- pages go by it
    kind           text NOT NULL,           -- AMQP or EVENT
    place          text NOT NULL,           -- the dead-letter queue, or the topic it was in
    origin         text,                    -- the queue or topic it goes back to
    tenant         text,                    -- as it says, known here or not
    ours           boolean NOT NULL,        -- else another service's
    correlation_id text,
    reason         text NOT NULL,
    at             timestamptz,             -- as the message says
    size           integer NOT NULL,        -- bytes of the body
    body           bytea NOT NULL,          -- as it came; of a very large one, or one of too many, the beginning
    kept           integer NOT NULL GENERATED ALWAYS AS (octet_length(body)) STORED,    -- bytes of that
    key            bytea,                   -- of an event
    properties     bytea,                   -- of a message, as AMQP writes them
    copies         text[] NOT NULL DEFAULT '{}',    -- of an event: partition:offset on the dead-letter topic
    buried_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    mended_body    bytea,
    mended_tenant  text,
    mended_by      text,
    mended_at      timestamptz,
    handled_at     timestamptz,             -- put back or removed; its copies may still be there
    held           integer NOT NULL DEFAULT 0       -- copies in the queue that were handled with it
);
CREATE INDEX dead_letter_of_tenant ON dead_letter (tenant, number) WHERE handled_at IS NULL;
CREATE INDEX dead_letter_of_place ON dead_letter (place);
CREATE INDEX dead_letter_long ON dead_letter (place, tenant) INCLUDE (kept) WHERE kept > 8000;  -- all that count for a limit
CREATE INDEX dead_letter_handled ON dead_letter (handled_at) WHERE handled_at IS NOT NULL;

-- What is known of copies since they were looked through last, for all processes.
CREATE TABLE dead_letter_look (
    place text PRIMARY KEY,                 -- a partition of the dead-letter topic (also with " at"), or a dead-letter queue
    -- The offset up to which it is read; " at": when the last record before that was written, in milliseconds, which
    -- tells a topic that was made again; or messages more than rows.
    seen  bigint NOT NULL
);
