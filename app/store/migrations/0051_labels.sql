-- What a client calls its deliveries, and when it needs one: its time may end before the tenant's would. Lists are read by
-- a tenant's index, and labels are looked at in what that gives.

ALTER TABLE delivery ADD labels text[] NOT NULL DEFAULT '{}', ADD deadline timestamptz;
