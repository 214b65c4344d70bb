-- What waits for bytes goes by the day since which it does, then by rank: a user's foremost are found, however many there are.
CREATE INDEX delivery_held_days ON delivery
    (tenant, user_email, ((state_since AT TIME ZONE 'UTC')::date), rank, id) WHERE held AND state = 'READY';
