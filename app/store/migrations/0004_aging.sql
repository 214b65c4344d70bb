-- Nothing starves: a priority step is worth a minute of waiting, so the least urgent request (1) is
-- overtaken by the most urgent ones (255) for a little over four hours, and by none after.

ALTER TABLE delivery ADD rank timestamptz;      -- smaller comes first; never changes
UPDATE delivery SET rank = requested_at - priority * interval '1 minute';
ALTER TABLE delivery ALTER rank SET NOT NULL;

DROP INDEX delivery_claimable;
CREATE INDEX delivery_claimable ON delivery (work, tenant, rank) WHERE work IS NOT NULL;
