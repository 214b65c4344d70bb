-- name: note_arrivals
-- Keep events until they are handled; from then on that :allowance is over, they count as lost. Each
-- has :waited here since RabbitMQ gave it, by a clock that is never set.
INSERT INTO arrival (id, kind, key, value, due_at, received_at)
SELECT id, kind, key, value, now() + :allowance::interval, clock_timestamp() - waited
FROM unnest(:ids::uuid[], :kinds::text[], :keys::bytea[], :values::bytea[], :waited::interval[])
     AS came (id, kind, key, value, waited)
ON CONFLICT (id) DO NOTHING;

-- name: forget_arrivals
-- These were handled, or put where an operator finds them.
DELETE FROM arrival WHERE id = ANY (:ids::uuid[]);

-- name: note_returned_arrivals
-- RabbitMQ may not have read that these were acknowledged: it is about to give them again.
UPDATE arrival SET returned_at = clock_timestamp()
WHERE id IN (SELECT id FROM arrival WHERE id = ANY (:ids::uuid[]) ORDER BY id FOR UPDATE);

-- name: note_returned_receipts
-- The same of those that were handled, be they copies themselves, unless their copy was there already.
UPDATE inbox SET returned_at = clock_timestamp()
WHERE ingress_id IN (
    SELECT ingress_id FROM inbox WHERE ingress_id = ANY (:ids::uuid[]) ORDER BY ingress_id FOR UPDATE
) AND NOT EXISTS (
    SELECT 1 FROM inbox copy
    WHERE copy.digest = inbox.digest AND copy.kind = inbox.kind
      AND copy.ingress_id <> inbox.ingress_id AND copy.arrived_at >= inbox.arrived_at);

-- name: arrivals_not_appended
-- Kafka did not take these: nothing was repeated, so they need not have longer the next time.
UPDATE arrival SET appends = greatest(appends - 1, 0), due_at = now() WHERE id = ANY (:ids::uuid[]);

-- name: all_arrivals_lost
-- The topics were gone, and whatever was in them.
UPDATE arrival SET appends = 0, due_at = now();

-- name: overdue_arrivals
-- Events that count as lost, of the :kinds that this version knows, for one process to append again.
-- Each time they have twice as long: where agents are only slow, repeats must not pile up before them.
UPDATE arrival SET
    appends = appends + 1, due_at = now() + :allowance::interval * 2 ^ least(appends + 1, 4)
WHERE id IN (
    SELECT id FROM arrival WHERE due_at <= now() AND kind = ANY (:kinds::text[])
    ORDER BY due_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
RETURNING id, kind, key, value, received_at;

-- name: later_arrivals
-- Other kinds than those :known here, of which an event counts as lost.
SELECT DISTINCT kind FROM arrival WHERE due_at <= now() AND kind <> ALL (:known::text[]);
