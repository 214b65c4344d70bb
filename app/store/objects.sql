-- name: lock_object
-- Completions and removals of one object happen one after the other, of whatever delivery. Those of its
-- name in another namespace (at another server) don't wait: a removal asks the store under this lock,
-- and a tenant's own server may be silent.
SELECT pg_advisory_xact_lock(hashtextextended('object ' || :url || ' at ' || :namespace, 0));
