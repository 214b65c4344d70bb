-- Where the files of a delivery are put as they are, so that another client's delivery does not put its own there: null for a
-- tail, and for what an older worker has noted.

ALTER TABLE tail
    ADD url       text,  -- of the manifest beside them
    ADD namespace text;  -- that the URL is in
CREATE INDEX tail_url ON tail (url) WHERE url IS NOT NULL;

-- The media type of a file, as rs-order tells it; null: its name tells.
ALTER TABLE delivery_file ADD media_type text;
