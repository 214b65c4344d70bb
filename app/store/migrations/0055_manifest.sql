-- A manifest beside each archive, where a tenant asks for it: what was digested of the files is kept until it is written, a
-- record a file (app/delivery/contents.py). And the state of the archive's SHA-256 at a boundary.

ALTER TABLE checkpoint
    ADD contents     bytea,  -- of the members of the step; null: it is not asked for
    ADD sha256_state bytea;

-- What is behind the last step, kept before the archive may appear; gone at the end of the delivery.
CREATE TABLE file_contents (
    delivery_id uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    md5         text NOT NULL,     -- of the archive that these files are in
    first       integer NOT NULL,  -- the number of the first one in it, from 0
    records     bytea NOT NULL,
    PRIMARY KEY (delivery_id, md5, first)
);
