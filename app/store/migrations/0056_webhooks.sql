-- What is owed to webhooks, and how they take it. An event stands here once for each webhook that asked for it, from the
-- transaction that made it true until it is taken; a dead one until it is old, or an operator has it sent again.

CREATE TABLE webhook_event (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant         text NOT NULL,
    webhook        text NOT NULL,           -- its name in the tenant's settings
    message_id     uuid NOT NULL,           -- the same each time it is sent
    type           text NOT NULL,
    delivery_id    uuid NOT NULL,           -- kept or not: a denied request has none
    correlation_id text NOT NULL,
    data           json NOT NULL,
    trace          text,
    happened_at    timestamptz NOT NULL DEFAULT now(),
    owed_since     timestamptz NOT NULL DEFAULT now(),  -- or since it was to be sent again
    due_at         timestamptz NOT NULL DEFAULT now(),
    tries          integer NOT NULL DEFAULT 0,
    last_error     text,
    dead_at        timestamptz,
    UNIQUE (tenant, webhook, message_id)
);
CREATE INDEX webhook_event_due ON webhook_event (tenant, webhook, due_at, id) WHERE dead_at IS NULL;
CREATE INDEX webhook_event_order ON webhook_event (tenant, webhook, delivery_id, id) WHERE dead_at IS NULL;
CREATE INDEX webhook_event_dead ON webhook_event (tenant, webhook, id) WHERE dead_at IS NOT NULL;

CREATE TABLE webhook (
    tenant          text NOT NULL,
    name            text NOT NULL,
    claim           uuid,                   -- of the worker that sends to it now
    claimed_until   timestamptz,
    served_at       timestamptz,            -- the last time that it was claimed
    resume_at       timestamptz,            -- nothing is sent before
    failures        integer NOT NULL DEFAULT 0,         -- rounds without an event that was taken
    failing_since   timestamptz,
    last_success_at timestamptz,
    last_error      text,
    gone_url        text,                   -- answered 410: nothing is sent there
    dropped         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, name)
);
