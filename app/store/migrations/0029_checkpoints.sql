-- How far a half-made archive is, so that another worker can go on with it: a row from each boundary (the end of a
-- part that the store has, with all before it) to the next. Of the upload that is recorded at the delivery alone; they
-- go with it, and when the delivery ends.

CREATE TABLE checkpoint (
    delivery_id    uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    upload_id      text NOT NULL,
    parts          integer NOT NULL,   -- that end at this boundary, or before
    follows        integer NOT NULL,   -- the same of the row before; 0: it is the first
    part_size      bigint NOT NULL,    -- bytes
    md5_state      bytea NOT NULL,     -- of the archive's MD5 after so many bytes
    members        integer NOT NULL,   -- that end before it
    crc            bigint NOT NULL,    -- CRC-32 of what is between them and the boundary
    part_etags     text[] NOT NULL,    -- of the parts since the row before
    part_md5s      bytea[] NOT NULL,   -- of each, or null
    member_sizes   bigint[] NOT NULL,  -- of the members since the row before: bytes in the archive
    member_records bytea[] NOT NULL,   -- what the archive's format keeps of each
    at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (delivery_id, parts)
);
