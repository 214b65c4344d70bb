-- Files that left rs-order's cache are made available again by a retry of their order. Such retries are counted by
-- themselves, and from the first again whenever the archive has got further: many files may have expired together.

ALTER TABLE delivery
    ADD retries integer NOT NULL DEFAULT 0,         -- of its order, since one was for a file further on
    ADD retried_for integer NOT NULL DEFAULT -1;    -- the furthest position of a file that one was for
