-- name: worker_seen
-- A worker tells that it is there.
INSERT INTO worker (id, version, slots) VALUES (:id, :version, :slots)
ON CONFLICT (id) DO UPDATE SET version = :version, slots = :slots, seen_at = now();

-- name: worker_left
-- A worker has stopped.
DELETE FROM worker WHERE id = :id;

-- name: forget_workers
-- Workers that died long ago.
DELETE FROM worker WHERE seen_at < now() - interval '1 day';
