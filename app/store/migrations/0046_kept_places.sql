-- Of its user's places at rs-order, how many a parked delivery's order was seen to keep for suborders that were downloaded,
-- while it waits for another one. Several orders of a user may have all of them together, and then none goes on.

ALTER TABLE delivery ADD kept_places integer NOT NULL DEFAULT 0;
CREATE INDEX delivery_keeping_places ON delivery (tenant, user_email) WHERE parked AND kept_places > 0;
