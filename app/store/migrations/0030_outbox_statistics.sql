-- What PostgreSQL has to expect of the outbox, whatever it last found there: it is nearly empty most of the time, and
-- what was counted then (two messages: two lanes, one tenant, one delivery) says nothing of a burst, which was read as a
-- whole for each of its messages. Valid from the next ANALYZE on.

ALTER TABLE outbox
    ALTER COLUMN lane SET (n_distinct = 3),
    ALTER COLUMN tenant SET (n_distinct = 10),
    ALTER COLUMN delivery_id SET (n_distinct = -0.5),
    ALTER COLUMN correlation_id SET (n_distinct = -0.5);
