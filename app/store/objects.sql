-- name: lock_object
-- Completions and removals of one object happen one after the other, of whatever delivery. Those of its
-- name in another namespace (at another server) don't wait: a removal asks the store under this lock,
-- and a tenant's own server may be silent.
SELECT pg_advisory_xact_lock(hashtextextended('object ' || :url || ' at ' || :namespace, 0));

-- name: try_lock_object
-- As `lock_object`, but without a wait: whether it is locked now.
SELECT pg_try_advisory_xact_lock(hashtextextended('object ' || :url || ' at ' || :namespace, 0));

-- name: lock_patience
-- How long this transaction waits for a lock, as PostgreSQL writes it.
SELECT current_setting('lock_timeout');

-- name: wait_for_locks
-- A lock is waited for as long as this, until the (sub)transaction is rolled back or the whole one ends.
SELECT set_config('lock_timeout', :longest, true);
