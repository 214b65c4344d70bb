-- What a client wants its files delivered as; decided when its request is taken in, as its archive's name has the format's
-- suffix. All there were until now are ZIP.

ALTER TABLE delivery ADD format text NOT NULL DEFAULT 'zip';
