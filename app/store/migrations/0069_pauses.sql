-- Pauses: no transfer of a tenant, to one of its targets, or of any tenant begins, and no work of a worker, until
-- they are ended, or their end has come.

CREATE TABLE pause (
    scope     text NOT NULL,                     -- instance, tenant, target, worker
    tenant    text NOT NULL,                     -- '' for those of no tenant
    name      text NOT NULL,                     -- of the target, or the worker; else ''
    reason    text NOT NULL,
    running   text NOT NULL,                     -- what becomes of what runs: finish, stop
    paused_by text NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(),
    until     timestamptz,                       -- null: until it is ended
    PRIMARY KEY (scope, tenant, name)
);

-- Every process listens for what tenants set, and reads this with it.
CREATE TRIGGER pause_changed AFTER INSERT OR UPDATE OR DELETE ON pause
    FOR EACH STATEMENT EXECUTE FUNCTION tell_configuration();
