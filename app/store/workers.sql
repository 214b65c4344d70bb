-- name: worker_seen
-- A worker tells that it is there. One of another version has just begun: it was killed, and started again.
INSERT INTO worker AS w (id, version, slots) VALUES (:id, :version, :slots)
ON CONFLICT (id) DO UPDATE SET
    started_at = CASE WHEN w.version = :version THEN w.started_at ELSE now() END,
    version = :version, slots = :slots, seen_at = now();

-- name: worker_left
-- A worker has stopped; if it is drained, it stays so for a week from now.
WITH gone AS (DELETE FROM worker WHERE id = :id RETURNING id)
UPDATE pause SET last_seen = now() FROM gone WHERE pause.scope = 'worker' AND pause.name = gone.id;

-- name: forget_workers
-- Workers that died long ago; those of them that are drained stay so for a week from when they were seen.
WITH gone AS (DELETE FROM worker WHERE seen_at < now() - interval '1 day' RETURNING id, seen_at)
UPDATE pause SET last_seen = gone.seen_at FROM gone WHERE pause.scope = 'worker' AND pause.name = gone.id;
