-- How a webhook takes events is known of a URL: at another one, it begins with no pause. And figures of what is owed
-- and dead are read from indexes, as the janitor's statements are: neither reads all events.

ALTER TABLE webhook
    ADD url       text,                         -- that the rest is of; null: a version before has written it
    ADD throttled integer NOT NULL DEFAULT 0;   -- rounds in a row that it has answered with 429 or 503, and no Retry-After

CREATE INDEX webhook_event_oldest ON webhook_event (tenant, webhook, happened_at) WHERE dead_at IS NULL;
CREATE INDEX webhook_event_owed_since ON webhook_event (owed_since) WHERE dead_at IS NULL;
CREATE INDEX webhook_event_dead_since ON webhook_event (dead_at) WHERE dead_at IS NOT NULL;
