-- RabbitMQ forgets what it has given when it restarts: a message whose acknowledgement it has not got
-- comes again, and nothing tells that it is a copy. The worker that had it knows.

ALTER TABLE arrival ADD returned_at timestamptz;    -- its acknowledgement was lost
ALTER TABLE inbox ADD returned_at timestamptz;      -- so it was, and its copy has not come yet
