-- name: forgettable
-- Deliveries that ended longer ago than :age, the oldest first: at most :deliveries of them, with at
-- most :files together; at least one.
SELECT id FROM (
    SELECT id, number, sum(file_count) OVER (ORDER BY number) AS files FROM (
        SELECT id, file_count, row_number() OVER (ORDER BY finished_at, id) AS number
        FROM delivery
        WHERE state IN ({ended}) AND NOT keeps_content AND finished_at < now() - :age::interval
          -- What counts in a quota of today, or of this minute, is kept for it.
          AND coalesce(charged_at < now() - interval '1 day', true)
          AND coalesce(admitted_at < now() - interval '1 minute', true)
          -- A report of it may be there that no client was told of: that is removed first.
          AND report_until IS NULL
        ORDER BY finished_at, id
        LIMIT :deliveries
    ) oldest
) counted
WHERE files <= :files OR number = 1
ORDER BY number;

-- name: forget_files
-- Remove up to :limit files of a delivery after a position; tells how many, and the last position.
WITH gone AS (
    DELETE FROM delivery_file
    WHERE delivery_id = :delivery AND position IN (
        SELECT position FROM delivery_file
        WHERE delivery_id = :delivery AND position > :after ORDER BY position LIMIT :limit)
    RETURNING position
)
SELECT count(*) AS files, max(position) AS position FROM gone;

-- name: forget_crc32s
-- Remove up to :limit CRC-32s that were told of files of a delivery that never came; tells how many.
WITH gone AS (
    DELETE FROM told_crc32
    WHERE delivery_id = :delivery AND file_id IN (
        SELECT file_id FROM told_crc32 WHERE delivery_id = :delivery ORDER BY file_id LIMIT :limit)
    RETURNING file_id
)
SELECT count(*) FROM gone;

-- name: forget_missing
-- Remove up to :limit files that a delivery was without; tells how many.
WITH gone AS (
    DELETE FROM missing_file
    WHERE delivery_id = :delivery AND number IN (
        SELECT number FROM missing_file WHERE delivery_id = :delivery ORDER BY number LIMIT :limit)
    RETURNING number
)
SELECT count(*) FROM gone;

-- name: forget_deliveries
-- Remove deliveries, with their history, what is left of their files, and contents that nothing is due for; what they came to is counted by day, for :days.
WITH gone AS (
    DELETE FROM delivery WHERE id = ANY (:ids::uuid[]) AND state IN ({ended}) AND NOT keeps_content
    RETURNING id, tenant, target, (finished_at AT TIME ZONE 'UTC')::date AS day, state, error_code, total_bytes
), contents AS (
    DELETE FROM content
    WHERE delivery_id = ANY (:ids) AND due_at IS NULL AND delivery_id IN (SELECT id FROM gone)
), old AS (
    DELETE FROM figure WHERE day < (now() AT TIME ZONE 'UTC')::date - :days::integer
)
INSERT INTO figure (tenant, target, day, done, failed, cancelled, bytes)
SELECT tenant, target, day,
       count(*) FILTER (WHERE state = 'DONE'),
       count(*) FILTER (WHERE state = 'ERROR' AND error_code IS DISTINCT FROM 'CANCELLED'),
       count(*) FILTER (WHERE state = 'ERROR' AND error_code = 'CANCELLED'),
       coalesce(sum(total_bytes) FILTER (WHERE state = 'DONE'), 0)
FROM gone WHERE day >= (now() AT TIME ZONE 'UTC')::date - :days
GROUP BY tenant, target, day
ORDER BY tenant, target, day
ON CONFLICT (tenant, target, day) DO UPDATE SET
    done = figure.done + excluded.done,
    failed = figure.failed + excluded.failed,
    cancelled = figure.cancelled + excluded.cancelled,
    bytes = figure.bytes + excluded.bytes;

-- name: forget_contents
-- Of the next :limit contents behind :after that nothing is due for, remove those whose delivery was forgotten before they were
-- removed; tells the last of them, no row at the end. (As a rule they go with their delivery: looking at all would take as long as
-- there is of them.)
WITH looked_at AS MATERIALIZED (
    SELECT delivery_id FROM content WHERE due_at IS NULL AND delivery_id > :after::uuid ORDER BY delivery_id LIMIT :limit
), gone AS (
    -- Neither EXISTS nor a join, here and below: PostgreSQL may read all deliveries that are kept, or all receipts.
    DELETE FROM content WHERE delivery_id = ANY (ARRAY(
        SELECT delivery_id FROM looked_at WHERE (SELECT count(*) FROM delivery WHERE id = looked_at.delivery_id) = 0))
)
SELECT delivery_id FROM looked_at ORDER BY delivery_id DESC LIMIT 1;

-- name: forget_receipts
-- Remove up to :limit receipts of what arrived longer ago than :age, unless its delivery is still kept.
DELETE FROM inbox
WHERE ingress_id = ANY (ARRAY(
    SELECT ingress_id FROM inbox
    WHERE received_at < now() - :age::interval
      AND (SELECT count(*) FROM delivery WHERE delivery.id = inbox.ingress_id) = 0
    ORDER BY received_at
    LIMIT :limit
))
RETURNING ingress_id;

-- name: forget_asked
-- Remove up to :limit requests over HTTP that came longer ago than :age, unless their delivery is
-- still kept.
DELETE FROM asked
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM asked
    WHERE at < now() - :age::interval
      AND (SELECT count(*) FROM delivery WHERE delivery.id = asked.delivery_id) = 0
    ORDER BY at
    LIMIT :limit
))
RETURNING delivery_id;

-- fragment: pause_is_over
until <= now() - :worked_off::interval
OR scope = 'worker' AND greatest(since, last_seen) < now() - interval '7 days'
   AND NOT EXISTS (SELECT 1 FROM worker WHERE worker.id = pause.name)

-- name: any_pause_is_over
-- Whether there is one to remove: a statement that removes none, too, has every process read the configuration.
SELECT EXISTS (SELECT 1 FROM pause WHERE {pause_is_over});

-- name: forget_pauses
-- Remove pauses that are long over, and those of workers that have not been there for a week.
DELETE FROM pause WHERE {pause_is_over};

-- name: forget_changes
-- Remove up to :limit entries of the audit trail that are older than :age.
DELETE FROM audit
WHERE id IN (SELECT id FROM audit WHERE at < now() - :age::interval LIMIT :limit)
RETURNING id;
