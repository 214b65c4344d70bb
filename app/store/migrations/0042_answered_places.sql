-- An order that was asked about stays known as that: it is not asked about again when another one gets no further.

ALTER TABLE place ADD COLUMN answered_at timestamptz;  -- when rs-order told, or refused to; null: it has not
DROP INDEX place_due;
CREATE INDEX place_due ON place (due_at) WHERE answered_at IS NULL;
