-- Looks at what waits for rs-order find the delivery that waits for longest, one after the other, and the last ones of a
-- user that are done, without reading all that are under way, or that were done lately.

CREATE INDEX delivery_quiet ON delivery (not_before)
    WHERE order_id IS NOT NULL
      AND (state = 'ORDERED' OR parked OR state = 'TRANSFERRING' AND plan IS NOT NULL AND NOT order_done);
CREATE INDEX delivery_done ON delivery (tenant, user_email, finished_at DESC) WHERE state = 'DONE';
