-- What was sent of a large file that is delivered as it is, so that another worker need not send it again: a row for some
-- of the parts, as they were stored. They go once the file is there, with the delivery, and when it ends.

CREATE TABLE file_checkpoint (
    delivery_id uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    position    integer NOT NULL,   -- of the file
    step        integer NOT NULL,   -- the first is 1
    upload_id   text NOT NULL,      -- of the file's own upload,
    bucket      text NOT NULL,
    key         text NOT NULL,
    target      text NOT NULL,      -- and where that is open, sealed: as delivery.upload_target was then
    file_id     bigint NOT NULL,    -- what the file was when it was read: another one is sent from its beginning
    size        bigint NOT NULL,
    md5         text,               -- null: rs-order tells none
    part_size   bigint NOT NULL,    -- bytes
    numbers     integer[] NOT NULL, -- of parts since the row before
    part_etags  text[] NOT NULL,
    part_md5s   bytea[] NOT NULL,   -- of what was sent
    part_shown  boolean[] NOT NULL, -- whether the store has shown that it has the same
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (delivery_id, position, step)
);
