-- Deliveries whose requests were let in, and have not ended: quotas count them at each look, which is not to read all that waits.
CREATE INDEX delivery_let_in ON delivery (tenant, user_email)
    WHERE state NOT IN ('DONE', 'ERROR') AND (NOT held OR state <> 'RECEIVED');
