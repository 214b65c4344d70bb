-- What PostgreSQL has to expect, whatever it last counted: the outbox is nearly empty most of the time, as all tables
-- are at first, and a few rows (two messages: two lanes, one tenant, one delivery) say nothing of a burst, of which all
-- was read for each message and answer. Valid from the next ANALYZE on.

ALTER TABLE outbox
    ALTER COLUMN lane SET (n_distinct = 3),
    ALTER COLUMN tenant SET (n_distinct = 10),
    ALTER COLUMN delivery_id SET (n_distinct = -0.5),
    ALTER COLUMN correlation_id SET (n_distinct = -0.5);
ALTER TABLE delivery
    ALTER COLUMN tenant SET (n_distinct = 10),
    ALTER COLUMN correlation_id SET (n_distinct = -0.5);
