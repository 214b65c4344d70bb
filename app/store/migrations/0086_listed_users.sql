-- Lists of one user's deliveries, and of those that failed, by indexes of their own: of a tenant that has a hundred thousand, all were
-- read to find a user's few.
CREATE INDEX delivery_listed_of_user ON delivery (tenant, user_email, requested_at DESC, id DESC);
CREATE INDEX delivery_failed ON delivery (tenant, requested_at DESC, id DESC) WHERE state = 'ERROR';
