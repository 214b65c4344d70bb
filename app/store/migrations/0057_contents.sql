-- What deliveries that are done have left at their targets, where it does not stay for ever. It has no reference: what is
-- to be removed is known as long as it is there, whatever becomes of its delivery's row.

CREATE TABLE content (
    delivery_id    uuid PRIMARY KEY,
    tenant         text NOT NULL,
    correlation_id text NOT NULL,
    user_email     text NOT NULL,
    target         text NOT NULL,     -- its name: credentials are those that are set under it when it is removed
    archive_name   text NOT NULL,
    attempt        integer NOT NULL,
    file_count     integer NOT NULL,
    url            text NOT NULL,     -- of the object, as it was told
    namespace      text,              -- that the URL is in; null: not known
    key            text NOT NULL,
    etag           text,
    size           bigint NOT NULL,
    until          timestamptz,       -- as it was told; null: until its removal is asked for
    asked_at       timestamptz,       -- when that was
    warned         boolean NOT NULL,  -- its client, a day before
    due_at         timestamptz,       -- the next look at it; null: it is removed, or that was given up
    tries          integer NOT NULL DEFAULT 0,
    last_cause     text,              -- why it is still there
    position       integer NOT NULL DEFAULT -1,  -- its files up to this one are removed
    removed_at     timestamptz
);
CREATE INDEX content_due ON content (tenant, target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX content_over ON content (delivery_id) WHERE due_at IS NULL;

-- A delivery is kept as long as its content is to be removed. (The janitor of the version before does not know that: what
-- it forgets is removed all the same, but for files beside a manifest.)
ALTER TABLE delivery ADD keeps_content boolean NOT NULL DEFAULT false;
CREATE INDEX delivery_forgettable ON delivery (finished_at, id) WHERE state IN ('DONE', 'ERROR') AND NOT keeps_content;

-- What happened to the content after the end; null: a step of the delivery.
ALTER TABLE delivery_history ADD news text;
