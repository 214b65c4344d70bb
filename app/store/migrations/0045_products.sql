-- The product that a file belongs to, as rs-order names it: a manifest tells it. Of deliveries planned before, it is not known.

ALTER TABLE delivery_file
    ADD product_id text,
    ADD product_version bigint;
