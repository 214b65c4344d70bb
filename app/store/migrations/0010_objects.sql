-- What an attempt was about to make appear, so that it is found again, or removed.

ALTER TABLE delivery
    ADD etag text,                      -- of the object that was told with DONE
    ADD completing json,                -- url, md5, size and ETag of the object whose completion was last asked for
    ADD completing_until timestamptz;   -- by then the store has answered, or given up

-- Whether an object was told to somebody, or is about to be: asked before one is removed.
CREATE INDEX delivery_told ON delivery (url) WHERE state = 'DONE';
CREATE INDEX delivery_completing ON delivery (completing_until) WHERE completing_until IS NOT NULL;
