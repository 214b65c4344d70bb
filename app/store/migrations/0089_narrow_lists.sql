-- 0091 and 0092 change these tables: what reads them for long (a backup) is waited for before these indexes are built, not after,
-- when they would have to be built again. The lock is let go of at once, with the block that fails: all that is behind it would
-- hold it until the last index is there, and workers and the HTTP server read the tables all the time. (Where a backup begins
-- meanwhile, they are built once more.)
DO $$
BEGIN
    LOCK TABLE tenant_maintenance, delivery_history IN ACCESS EXCLUSIVE MODE;
    RAISE EXCEPTION USING errcode = 'ZZ089';
EXCEPTION
    WHEN SQLSTATE 'ZZ089' THEN NULL;
END $$;

-- Lists of what has not ended, and of what a worker has in hand or has tried before, by indexes of their own: to find those few,
-- all that a tenant ever had were read, every five seconds for each console that shows what is stuck.
-- They cost one entry beside some nine others for each version of a row that has not ended, and another while it is in hand or
-- tried again; none once it has ended. An update that leaves all indexes alone (HOT) still does: leases and due times are in some
-- already, and neither a lease's owner nor the tries change without them.
CREATE INDEX delivery_open ON delivery (tenant, requested_at DESC, id DESC) WHERE state NOT IN ('DONE', 'ERROR');
CREATE INDEX delivery_begun ON delivery (tenant, requested_at DESC, id DESC)
    WHERE state NOT IN ('DONE', 'ERROR') AND (lease_owner IS NOT NULL OR tries > 0);

-- The audit trail by who did it and what was done, together: by the index of either, all of one were read to find a few of both.
CREATE INDEX audit_of_both ON audit (tenant, actor, action, (-id));
