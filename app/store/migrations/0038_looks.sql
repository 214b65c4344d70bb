-- A segment of what a whole order has available may come more than once before the order is done: where rs-order does
-- not tell of suborders, and what it announced was lost. One that was announced at the end, or after it, is the last.

ALTER TABLE segment ADD at_end boolean NOT NULL DEFAULT true;  -- the order was done by then; so it is of those before

DROP INDEX segment_once;
CREATE UNIQUE INDEX segment_once_each ON segment (delivery_id, suborder_id) WHERE suborder_id IS NOT NULL;
CREATE UNIQUE INDEX segment_once_at_end ON segment (delivery_id) WHERE suborder_id IS NULL AND at_end;
