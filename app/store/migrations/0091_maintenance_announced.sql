-- A maintenance says why it is, when it should be over, and who says so. It does not end by itself: one that lasts
-- beyond that time needs an operator.

ALTER TABLE tenant_maintenance
    ADD COLUMN reason     text,        -- null: none was given
    ADD COLUMN until      timestamptz, -- null: none was given
    ADD COLUMN enabled_by text;        -- null: not in maintenance, or since before this was kept
