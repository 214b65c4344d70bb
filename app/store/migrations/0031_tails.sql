-- An archive that pauses: what lies beyond its last part boundary, less than a part, is an object of its own beside the
-- archive, so that no file is fetched twice. A step may thus end behind the same boundary as the one before, with more
-- members; of the tails of an upload's steps the last one counts.

ALTER TABLE checkpoint
    ADD COLUMN tail_key  text,    -- the object that holds what is between the boundary and the end of the last member;
    ADD COLUMN tail_size bigint,  -- null: there is nothing
    ADD COLUMN tail_md5  bytea,
    DROP CONSTRAINT checkpoint_pkey,
    ADD PRIMARY KEY (delivery_id, parts, members);

-- Each such object, noted before it is put, until it is surely gone: also once its delivery has ended.
CREATE TABLE tail (
    delivery_id uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    key         text NOT NULL,
    attempt     integer NOT NULL,      -- that puts it
    target      text NOT NULL,         -- where, sealed: as delivery.upload_target was then
    until       timestamptz NOT NULL,  -- when it surely is there, or never will be
    dropped     boolean NOT NULL DEFAULT false,  -- removed; put late, it may be there again
    PRIMARY KEY (delivery_id, key)
);
