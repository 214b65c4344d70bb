-- Every statement of the service, by name. Read by app/store/sql.py, which puts the states that end a
-- delivery where {ended} stands: as literals, so that indexes on a part of the deliveries are used.

-- name: lock_digests
-- Two redeliveries of one message may be handled at once: the second waits for the first.
SELECT pg_advisory_xact_lock(digest) FROM unnest($1::bigint[]) AS digest;

-- name: note_receipts
-- Note events in the inbox; none of them needs further care. No row for one that is there already
-- (Kafka gave it again, or it was appended again). Refused, that is not `counted`, are copies of a
-- message that counted: one that may be a repeat ($4, or RabbitMQ did not get its acknowledgement),
-- if its digest is known; one that may not, if a repeat of it has overtaken it, which arrived no
-- earlier; and one, whatever it says, that comes within an hour after the acknowledgement of another
-- was lost. (The same message sent anew by a client arrives later, and counts.) Times are those at
-- which this database saved the arrivals; an event without one was handled, which the inbox knows,
-- or put back by an operator: then the worker's clock ($5) is all there is, but it is never in the
-- future.
WITH handled AS (
    DELETE FROM arrival WHERE id = ANY ($1::uuid[]) RETURNING id, received_at, returned_at
), arrived AS (
    SELECT event.id, event.kind, event.digest, handled.returned_at,
           event.flagged OR handled.returned_at IS NOT NULL AS flagged,
           coalesce(handled.received_at, least(event.received_at, clock_timestamp())) AS at
    FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::boolean[], $5::timestamptz[])
         AS event (id, kind, digest, flagged, received_at)
    LEFT JOIN handled ON handled.id = event.id
    WHERE NOT EXISTS (SELECT 1 FROM inbox known WHERE known.ingress_id = event.id)
), judged AS (
    SELECT *, EXISTS (
        SELECT 1 FROM inbox known
        WHERE known.digest = arrived.digest AND known.kind = arrived.kind AND known.counted
          AND (arrived.flagged
               OR (known.flagged AND known.arrived_at >= arrived.at)
               OR known.returned_at > arrived.at - interval '1 hour')) AS copy
    FROM arrived
), met AS (
    UPDATE inbox known SET returned_at = NULL
    FROM arrived
    WHERE known.digest = arrived.digest AND known.kind = arrived.kind
      AND known.returned_at IS NOT NULL
)
INSERT INTO inbox (ingress_id, kind, digest, flagged, arrived_at, counted, returned_at)
SELECT id, kind, digest, flagged, at, NOT copy, CASE WHEN NOT copy THEN returned_at END
FROM judged
ON CONFLICT (ingress_id) DO NOTHING
RETURNING ingress_id, arrived_at, counted;

-- name: note_returned_arrival
-- RabbitMQ did not get the acknowledgement of this one: it is about to give it again.
UPDATE arrival SET returned_at = clock_timestamp() WHERE id = $1 RETURNING id;

-- name: note_returned_receipt
-- The same of one that was handled, unless its copy was there already.
UPDATE inbox SET returned_at = clock_timestamp()
WHERE ingress_id = $1 AND counted AND NOT EXISTS (
    SELECT 1 FROM inbox copy
    WHERE copy.digest = inbox.digest AND copy.kind = inbox.kind
      AND copy.ingress_id <> inbox.ingress_id AND copy.arrived_at >= inbox.arrived_at);

-- name: open_deliveries
-- Save new deliveries, requested at $10 (null is now), each with its time to live. No row for one
-- whose correlation id is in use.
INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, order_request,
                      origin_app, priority, requested_at, expires_at, trace, rank)
SELECT id, tenant, correlation_id, state, user_email, target, order_request,
       origin_app, priority, at, at + ttl, trace, at - priority * interval '1 minute'
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::json[],
            $8::text[], $9::smallint[], $10::timestamptz[], $11::interval[], $12::text[])
     AS opening (id, tenant, correlation_id, state, user_email, target, order_request,
                 origin_app, priority, requested_at, ttl, trace),
     LATERAL (SELECT coalesce(requested_at, clock_timestamp()) AS at) AS request
ON CONFLICT (tenant, correlation_id) WHERE state NOT IN ({ended}) DO NOTHING
RETURNING *;

-- name: asked_before
-- What was asked for over HTTP with a key ($2), whatever it was; else, if $3, by the same request ($1),
-- as long as its delivery is active.
SELECT request, delivery_id FROM (
    SELECT request, delivery_id, 1 AS rank FROM asked WHERE key = $2
    UNION ALL
    SELECT asked.request, asked.delivery_id, 2
    FROM asked JOIN delivery ON delivery.id = asked.delivery_id
    WHERE $3::boolean AND asked.request = $1 AND delivery.state NOT IN ({ended})
) known
ORDER BY rank
LIMIT 1;

-- name: note_asked
-- This delivery ($3) is the answer to a request ($1) that came with a key ($2), or with none.
INSERT INTO asked (request, key, delivery_id)
SELECT $1::bytea, $2::bytea, $3::uuid
WHERE NOT EXISTS (
    SELECT 1 FROM asked
    WHERE request = $1 AND delivery_id = $3 AND ($2::bytea IS NULL OR key = $2));

-- name: withdraw
-- Forget a delivery that was never granted.
DELETE FROM delivery WHERE id = $1 AND state = 'RECEIVED' RETURNING id;

-- name: lock_active
-- The active delivery of a correlation id, held until the transaction ends. Not its key: files that
-- are being written refer to that, for as long as a large manifest takes.
SELECT * FROM delivery
WHERE tenant = $1 AND correlation_id = $2 AND state NOT IN ({ended})
FOR NO KEY UPDATE;

-- name: expired
-- Active deliveries whose time is over, the longest overdue first.
SELECT * FROM delivery
WHERE state NOT IN ({ended}) AND expires_at <= now()
  -- What waits for the end of a maintenance has not begun yet.
  AND NOT (state = 'RECEIVED' AND EXISTS (
      SELECT 1 FROM tenant_maintenance m WHERE m.tenant = delivery.tenant AND m.active))
ORDER BY expires_at
LIMIT $1;

-- name: had_order
-- Whether an order belonged to an earlier delivery of the same correlation id.
SELECT EXISTS (
    SELECT 1 FROM delivery
    WHERE tenant = $1 AND correlation_id = $2 AND order_id = $3 AND state IN ({ended}));

-- name: withdraw_order
-- Take a delivery's order request back. No row when it is out: sent, or being sent, that is locked
-- by a relay, which must not be waited for (it may wait for the broker).
DELETE FROM outbox
WHERE id IN (
    SELECT id FROM outbox
    WHERE lane = 'orders' AND delivery_id = $1 AND kind = 'order'
    FOR UPDATE SKIP LOCKED
)
RETURNING id;

-- name: await_order
-- This one has ended, and the answer to its order request may still come.
UPDATE delivery SET order_awaited = true WHERE id = $1;

-- name: awaited_orders
-- Ended deliveries of a correlation id whose order request has no answer yet, the oldest first; of
-- those that were requested before $3, where that is given.
SELECT * FROM delivery
WHERE tenant = $1 AND correlation_id = $2 AND order_awaited
  AND order_id IS NULL AND requested_at <= coalesce($3::timestamptz, 'infinity')
ORDER BY requested_at, id
FOR UPDATE;

-- name: note_answer
-- rs-order has answered, and named its order ($2) or none.
UPDATE delivery SET order_id = $2, order_awaited = false WHERE id = $1;

-- name: note_arrivals
-- Keep events until they are handled; from then on that $5 is over, they count as lost. Each has
-- waited here for $6 since RabbitMQ gave it, by a clock that nobody sets.
INSERT INTO arrival (id, kind, key, value, due_at, received_at)
SELECT id, kind, key, value, now() + $5::interval, clock_timestamp() - waited
FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $6::interval[])
     AS came (id, kind, key, value, waited)
ON CONFLICT (id) DO NOTHING;

-- name: forget_arrivals
-- These were handled, or put where an operator finds them.
DELETE FROM arrival WHERE id = ANY ($1::uuid[]);

-- name: overdue_arrivals
-- Events that count as lost, for one process to append again. Each time they have twice as long:
-- where agents are only slow, repeats must not pile up before them.
UPDATE arrival SET appends = appends + 1, due_at = now() + $1::interval * 2 ^ least(appends + 1, 4)
WHERE id IN (
    SELECT id FROM arrival WHERE due_at <= now()
    ORDER BY due_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
RETURNING id, kind, key, value;

-- name: arrivals_not_appended
-- Kafka did not take these: nothing was repeated, so they need not have longer the next time.
UPDATE arrival SET appends = greatest(appends - 1, 0), due_at = now() WHERE id = ANY ($1::uuid[]);

-- name: all_arrivals_lost
-- The topics were gone, and whatever was in them.
UPDATE arrival SET appends = 0, due_at = now();

-- name: unswept
-- Deliveries that ended at least $1 ago and may have left an upload open: those without an archive,
-- and those that took more than one attempt. Not while the same key may be in use again.
SELECT * FROM delivery ended
WHERE state IN ({ended}) AND attempt > 0 AND NOT swept
  AND (state = 'ERROR' OR attempt > 1)
  AND not_before < now() - $1::interval
  AND NOT EXISTS (
      SELECT 1 FROM delivery active
      WHERE active.tenant = ended.tenant AND active.correlation_id = ended.correlation_id
        AND active.state NOT IN ({ended}))
ORDER BY not_before
LIMIT $2;

-- name: swept
-- Nothing of this one is open any more, and the place where it was is of no use: no row while a
-- completion may still be under way.
UPDATE delivery SET swept = true, upload_target = NULL
WHERE id = $1 AND coalesce(completing_until < now(), true)
RETURNING id;

-- name: lock_object
-- Completions and removals of one object ($1 at server $2) happen one after the other, of whatever
-- delivery. Those of its name at another server don't wait: a removal asks the store under this lock, and
-- a tenant's own server may be silent.
SELECT pg_advisory_xact_lock(hashtextextended('object ' || $1 || ' at ' || $2, 0));

-- name: relied_on
-- Whether an object was told to somebody, or another delivery, or a later attempt of this one ($1,
-- as it was in attempt $4), is just making one of that name at its server ($5; where an older worker
-- noted none, it may be there).
SELECT EXISTS (
    SELECT 1 FROM delivery
    WHERE url = $2 AND state = 'DONE' AND (etag = $3 OR etag IS NULL))
OR EXISTS (
    SELECT 1 FROM delivery
    WHERE completing_until > now() AND completing ->> 'url' = $2 AND id <> $1
      AND coalesce(completing ->> 'server', $5) = $5)
OR EXISTS (
    SELECT 1 FROM delivery
    WHERE id = $1 AND attempt <> $4 AND state NOT IN ({ended}));

-- name: done_by
-- Whether a delivery was brought to its end by this attempt.
SELECT EXISTS (SELECT 1 FROM delivery WHERE id = $1 AND attempt = $2 AND state = 'DONE');

-- name: postpone_sweeps
-- The place where these may have left an upload open does not answer: `unswept`, asked with $2,
-- gives them again after $3.
UPDATE delivery SET not_before = now() - $2::interval + $3::interval
WHERE id = ANY ($1::uuid[]) AND state IN ({ended});

-- name: uploads_of_others
-- Of a delivery ($1, of $2 and $3) and a key ($5 in bucket $4): which of its uploads other
-- deliveries under way have recorded; whether one of them has the same correlation id; and the ids of
-- those, of any tenant, that are being transferred to an archive of the same name ($6): what they
-- have opened may not be recorded yet.
SELECT coalesce(array_agg(upload_id) FILTER (
           WHERE upload_bucket = $4 AND upload_key = $5), '{}') AS uploads,
       coalesce(bool_or(tenant = $2 AND correlation_id = $3), false) AS again,
       coalesce(array_agg(correlation_id) FILTER (
           WHERE work = 'transfer' AND lease_until IS NOT NULL AND archive_name = $6), '{}') AS near
FROM delivery
WHERE state NOT IN ({ended}) AND id <> $1
  AND (upload_key = $5 OR tenant = $2 AND correlation_id = $3
       OR work = 'transfer' AND lease_until IS NOT NULL AND archive_name = $6);

-- name: forgettable
-- Deliveries that ended before $1, the oldest first: at most $2 of them, with at most $3 files
-- together; at least one.
SELECT id FROM (
    SELECT id, number, sum(file_count) OVER (ORDER BY number) AS files FROM (
        SELECT id, file_count, row_number() OVER (ORDER BY finished_at, id) AS number
        FROM delivery
        WHERE state IN ({ended}) AND finished_at < now() - $1::interval
        ORDER BY finished_at, id
        LIMIT $2
    ) oldest
) counted
WHERE files <= $3 OR number = 1
ORDER BY number;

-- name: forget_files
-- Remove up to $3 files of a delivery after position $2; tells how many, and the last position.
WITH gone AS (
    DELETE FROM delivery_file
    WHERE delivery_id = $1 AND position IN (
        SELECT position FROM delivery_file
        WHERE delivery_id = $1 AND position > $2 ORDER BY position LIMIT $3)
    RETURNING position
)
SELECT count(*) AS files, max(position) AS position FROM gone;

-- name: forget_deliveries
-- Remove deliveries, with their history and what is left of their files.
DELETE FROM delivery WHERE id = ANY ($1::uuid[]) AND state IN ({ended});

-- name: forget_receipts
-- Remove up to $2 receipts of what arrived before $1, unless its delivery is still kept.
DELETE FROM inbox
WHERE ingress_id IN (
    SELECT ingress_id FROM inbox
    WHERE received_at < now() - $1::interval
      AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.id = inbox.ingress_id)
    LIMIT $2
)
RETURNING ingress_id;

-- name: forget_asked
-- Remove up to $2 requests over HTTP that came before $1, unless their delivery is still kept.
DELETE FROM asked
WHERE ctid IN (
    SELECT ctid FROM asked
    WHERE at < now() - $1::interval
      AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.id = asked.delivery_id)
    LIMIT $2
)
RETURNING delivery_id;

-- name: forget_changes
-- Remove up to $2 entries of the audit trail that are older than $1.
DELETE FROM audit
WHERE id IN (SELECT id FROM audit WHERE at < now() - $1::interval LIMIT $2)
RETURNING id;

-- name: advance
-- Compare and set: leave the state and attempt that the caller saw. Frees the lease.
UPDATE delivery SET
    state = $4,
    order_id = coalesce($5, order_id),
    total_suborders = coalesce($6, total_suborders),
    archive_name = coalesce($7, archive_name),
    file_count = coalesce($8, file_count),
    total_bytes = coalesce($9, total_bytes),
    url = $10, md5 = $11, archive_size = $12, etag = $15,
    error_type = $13, error_message = $14,
    -- What an attempt that failed has completed all the same is still to be removed.
    completing = CASE WHEN $4 <> 'DONE' THEN completing END,
    completing_until = CASE WHEN $4 <> 'DONE' THEN completing_until END,
    lease_owner = NULL, lease_until = NULL,
    -- Of no use once the upload is completed, and it holds a secret.
    upload_target = CASE WHEN $4 <> 'DONE' THEN upload_target END,
    not_before = now(), updated_at = now(), tries = 0, last_cause = NULL,
    finished_at = CASE WHEN $4 IN ({ended}) THEN now() END
WHERE id = $1 AND state = $2 AND attempt = $3
RETURNING id;

-- name: files
-- The next files of a manifest, after position $2.
SELECT position, file_id, member, size, md5 FROM delivery_file
WHERE delivery_id = $1 AND position > $2
ORDER BY position
LIMIT $3;

-- name: sizes_known
-- Whether the listing told the size of each file.
SELECT NOT EXISTS (SELECT 1 FROM delivery_file WHERE delivery_id = $1 AND size IS NULL);

-- name: claim
-- Lease the next delivery that this kind of work is due for: tenants with less of it under way
-- first, then who waited longest for a turn; within a tenant by rank: priority and age in one. Not
-- more than $4 of it under way for a tenant, if that is given. A transfer is a new attempt. A lease
-- that ran out belongs to a worker that is dead. Nothing of the tenants $5, but for what goes to
-- their targets $6 and $7 (tenant, name): to look past what waits for a target that does not answer
-- would take as long as there is of it.
WITH RECURSIVE tenants AS (
    (SELECT tenant FROM delivery WHERE work = $3 ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT d.tenant FROM delivery d WHERE d.work = $3 AND d.tenant > t.tenant
            ORDER BY d.tenant LIMIT 1)
    FROM tenants t WHERE t.tenant IS NOT NULL
), lanes AS (
    SELECT tenant, NULL AS target FROM tenants WHERE tenant <> ALL ($5::text[])
    UNION ALL
    SELECT * FROM unnest($6::text[], $7::text[])
), busy AS (
    SELECT tenant, count(*) AS running FROM delivery
    WHERE work = $3 AND lease_until >= now()
    GROUP BY tenant
), next AS (
    SELECT due.id, t.tenant, due.lease_owner AS predecessor
    FROM lanes t
    LEFT JOIN busy ON busy.tenant = t.tenant
    LEFT JOIN turn ON turn.work = $3 AND turn.tenant = t.tenant
    CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT id, rank, lease_owner FROM delivery d
            WHERE t.target IS NULL
              AND d.work = $3 AND d.tenant = t.tenant AND d.not_before <= now()
              AND (d.lease_until IS NULL OR d.lease_until < now())
            ORDER BY d.rank
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) to_any
        UNION ALL
        SELECT * FROM (
            SELECT id, rank, lease_owner FROM delivery d
            WHERE d.work = $3 AND d.tenant = t.tenant AND d.target = t.target
              AND d.not_before <= now() AND (d.lease_until IS NULL OR d.lease_until < now())
            ORDER BY d.rank
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) to_one
    ) due
    -- While a tenant is in maintenance, its requests wait; what has begun goes on.
    WHERE ($3 <> 'check' OR NOT EXISTS (
        SELECT 1 FROM tenant_maintenance m WHERE m.tenant = t.tenant AND m.active))
      AND ($4::integer IS NULL OR coalesce(busy.running, 0) < $4)
    ORDER BY coalesce(busy.running, 0), turn.at NULLS FIRST, due.rank
    LIMIT 1
), taken AS (
    INSERT INTO turn (work, tenant, at) SELECT $3, tenant, clock_timestamp() FROM next
    ON CONFLICT (work, tenant) DO UPDATE SET at = excluded.at
)
UPDATE delivery SET
    state = CASE WHEN $3 = 'transfer' THEN 'TRANSFERRING' ELSE state END,
    attempt = attempt + CASE WHEN $3 = 'transfer' THEN 1 ELSE 0 END,
    lease_owner = $1, lease_until = now() + $2, updated_at = now()
WHERE id = (SELECT id FROM next)
RETURNING *, (SELECT predecessor FROM next) AS predecessor;

-- name: lock_claims
-- Claims of a kind happen one after the other, so that a limit is not passed by two at once.
SELECT pg_advisory_xact_lock(hashtextextended('claim ' || $1, 0));

-- name: renew
-- Hold on to a lease.
UPDATE delivery SET lease_until = now() + $4
WHERE id = $1 AND attempt = $2 AND lease_owner = $3 AND work IS NOT NULL
RETURNING id;

-- name: note_completion
-- Hold on to a lease, and note what is about to appear ($7 at server $8), and by when. Not while a
-- delivery of another tenant or user may be making one of that name there: stores that ignore
-- conditions would let both appear. (Where an older worker noted no server, it may be there.) Asked
-- under `lock_object`, by a statement of its own, so that what was noted before is seen; it waits
-- while that object is being removed.
WITH others AS (
    SELECT EXISTS (
        SELECT 1 FROM delivery other JOIN delivery own ON own.id = $1
        WHERE other.completing_until > now() AND other.completing ->> 'url' = $7
          AND coalesce(other.completing ->> 'server', $8) = $8
          AND (other.tenant, other.user_email) <> (own.tenant, own.user_email)) AS busy
), noted AS (
    UPDATE delivery SET lease_until = now() + $4, completing = $5, completing_until = now() + $6
    WHERE id = $1 AND attempt = $2 AND lease_owner = $3 AND work IS NOT NULL
      AND NOT (SELECT busy FROM others)
    RETURNING id
)
SELECT busy, EXISTS (SELECT 1 FROM noted) AS noted FROM others;

-- name: forget_completion
-- What was noted last can't appear any more.
UPDATE delivery SET completing = NULL, completing_until = NULL
WHERE id = $1 AND attempt = $2 AND lease_owner = $3;

-- name: holds
-- Whether a lease is still the worker's.
SELECT EXISTS (
    SELECT 1 FROM delivery
    WHERE id = $1 AND attempt = $2 AND lease_owner = $3 AND work IS NOT NULL);

-- name: release
-- Let go of a lease, for a later attempt.
UPDATE delivery SET
    lease_owner = NULL, lease_until = NULL, not_before = now() + $4,
    failures = failures + $5, tries = tries + 1, last_cause = $6, updated_at = now()
WHERE id = $1 AND attempt = $2 AND lease_owner = $3;

-- name: tell_waiting
-- Note at transfers of a tenant that wait, to one target ($2) or to any, why they do. (Of several
-- workers that tell the same none waits for another.)
UPDATE delivery SET last_cause = $3
WHERE id IN (
    SELECT id FROM delivery
    WHERE work = 'transfer' AND tenant = $1 AND ($2::text IS NULL OR target = $2)
      AND (lease_until IS NULL OR lease_until < now()) AND last_cause IS DISTINCT FROM $3
    LIMIT $4
    FOR UPDATE SKIP LOCKED
)
RETURNING id;

-- name: tell_no_longer
-- That cause holds no longer.
UPDATE delivery SET last_cause = NULL
WHERE id IN (
    SELECT id FROM delivery WHERE work = 'transfer' AND tenant = $1 AND last_cause = $2 LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING id;

-- name: record_upload
-- Note the multipart upload of an attempt, before its first part.
UPDATE delivery SET upload_bucket = $4, upload_key = $5, upload_id = $6, upload_target = $7
WHERE id = $1 AND attempt = $2 AND lease_owner = $3 AND state = 'TRANSFERRING'
RETURNING id;

-- name: owe
-- Put a message into the outbox.
INSERT INTO outbox (lane, delivery_id, kind, message_id, tenant, correlation_id, priority,
                    origin_app, body, trace)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: due
-- Messages of a lane to publish now, the same number for each tenant that has any; of each
-- delivery only the first, so that order is kept however many relays there are. Locked for as long
-- as their publishing takes. An order request whose delivery has ended meanwhile is withdrawn.
WITH RECURSIVE tenants AS (
    (SELECT tenant FROM outbox WHERE lane = $1 ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT o.tenant FROM outbox o WHERE o.lane = $1 AND o.tenant > t.tenant
            ORDER BY o.tenant LIMIT 1)
    FROM tenants t WHERE t.tenant IS NOT NULL
)
SELECT message.*, message.kind = 'order' AND EXISTS (
    SELECT 1 FROM delivery d WHERE d.id = message.delivery_id AND d.state = 'ERROR') AS withdrawn
FROM tenants t CROSS JOIN LATERAL (
    SELECT * FROM outbox o
    WHERE o.lane = $1 AND o.tenant = t.tenant AND o.due_at <= now()
      AND NOT EXISTS (
          SELECT 1 FROM outbox earlier
          WHERE earlier.lane = o.lane AND earlier.delivery_id = o.delivery_id
            AND earlier.id < o.id)
    ORDER BY o.id
    LIMIT greatest(1, $2 / (SELECT count(tenant) FROM tenants))
    FOR UPDATE SKIP LOCKED
) message;

-- name: sent
-- The broker has confirmed these.
DELETE FROM outbox WHERE id = ANY ($1);

-- name: withdraw_orders
-- These are not sent: nothing is out that could be answered.
WITH withdrawn AS (
    DELETE FROM outbox WHERE id = ANY ($1) RETURNING delivery_id
)
UPDATE delivery SET order_awaited = false
WHERE id IN (SELECT delivery_id FROM withdrawn) AND order_awaited;

-- name: postpone
-- The broker has not confirmed this one: it stays owed.
UPDATE outbox SET tries = tries + 1, last_error = $2,
    due_at = now() + least(interval '1 second' * 2 ^ least(tries, 10), $3)
WHERE id = $1;

-- name: alive
-- Whether the database answers.
SELECT 1;

-- name: lock_job
-- Wait until no other connection does this job.
SELECT pg_advisory_lock(hashtextextended('job ' || $1, 0));

-- name: try_lock_job
-- Whether no other connection does this job; then this one does.
SELECT pg_try_advisory_lock(hashtextextended('job ' || $1, 0));

-- name: unlock_job
-- This connection does the job no longer.
SELECT pg_advisory_unlock(hashtextextended('job ' || $1, 0));

-- name: settings
-- What every tenant has set.
SELECT tenant, name, value, version FROM tenant_setting;

-- name: paused
-- Tenants in maintenance.
SELECT tenant FROM tenant_maintenance WHERE active;

-- name: lock_configuration
-- Changes to one tenant's settings happen one after the other.
SELECT pg_advisory_xact_lock(hashtextextended('configuration ' || $1, 0));

-- name: settings_of
-- What one tenant has set.
SELECT name, value, version FROM tenant_setting WHERE tenant = $1;

-- name: set_setting
-- Set a value; its version is a new one.
INSERT INTO tenant_setting (tenant, name, value) VALUES ($1, $2, $3)
ON CONFLICT (tenant, name) DO UPDATE SET
    value = excluded.value, version = nextval('setting_version'), updated_at = now()
RETURNING version;

-- name: reset_setting
-- Back to the default.
DELETE FROM tenant_setting WHERE tenant = $1 AND name = $2;

-- name: maintenance
-- Whether a tenant is in maintenance, if that was ever set.
SELECT active, updated_at FROM tenant_maintenance WHERE tenant = $1;

-- name: maintain
-- Put a tenant into maintenance, or take it out.
INSERT INTO tenant_maintenance (tenant, active) VALUES ($1, $2)
ON CONFLICT (tenant) DO UPDATE SET active = excluded.active, updated_at = now()
RETURNING active, updated_at;

-- name: restart_waiting
-- Requests that waited for the end of a maintenance have their whole time before them.
UPDATE delivery SET expires_at = now() + (expires_at - requested_at), not_before = now()
WHERE tenant = $1 AND state = 'RECEIVED';

-- name: note_change
-- Who changed what, and how.
INSERT INTO audit (tenant, actor, role, action, subject, before, after)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: audit
-- A tenant's changes, the newest first, those before $1, from $3 on and before $4.
SELECT * FROM audit
WHERE tenant = $5 AND id < $1
  AND at >= coalesce($3::timestamptz, '-infinity') AND at < coalesce($4::timestamptz, 'infinity')
ORDER BY id DESC LIMIT $2;

-- name: audit_of_all
-- The same, of all tenants.
SELECT * FROM audit
WHERE id < $1
  AND at >= coalesce($3::timestamptz, '-infinity') AND at < coalesce($4::timestamptz, 'infinity')
ORDER BY id DESC LIMIT $2;

-- name: sealed_settings
-- Values that may hold secrets, held until the transaction ends.
SELECT tenant, name, value FROM tenant_setting ORDER BY tenant, name FOR UPDATE;

-- name: resealed_setting
-- The same value, sealed with another key: no new version.
UPDATE tenant_setting SET value = $3 WHERE tenant = $1 AND name = $2;

-- name: sealed_uploads
-- Deliveries that remember where their upload is, or was, open.
SELECT id, upload_target FROM delivery WHERE upload_target IS NOT NULL FOR UPDATE;

-- name: resealed_upload
-- The same place, sealed with another key.
UPDATE delivery SET upload_target = $2 WHERE id = $1;

-- name: browse
-- Deliveries of some tenants ($1), the newest first, of those before ($2, $3) by time and id; each
-- tenant's by its index. $4 states, $5 user, $6 and $7 when they were requested, $8 a text that the
-- correlation id, the archive's name or the cause holds; null is any. What they ordered (half a
-- megabyte, perhaps) is not shown, hence not read.
SELECT found.* FROM unnest($1::text[]) AS asked (tenant) CROSS JOIN LATERAL (
    SELECT d.id, d.tenant, d.correlation_id, d.state, d.user_email, d.target, d.origin_app, d.priority,
           d.requested_at, d.expires_at, d.updated_at, d.state_since, d.not_before, d.finished_at, d.order_id,
           d.total_suborders, d.archive_name, d.file_count, d.total_bytes, d.attempt, d.last_cause,
           d.lease_owner, d.url, d.md5, d.archive_size, d.error_type, d.error_message
    FROM delivery d
    WHERE d.tenant = asked.tenant
      AND ($2::timestamptz IS NULL OR (d.requested_at, d.id) < ($2, $3::uuid))
      AND ($4::text[] IS NULL OR d.state = ANY ($4))
      AND ($5::text IS NULL OR d.user_email = $5)
      AND ($6::timestamptz IS NULL OR d.requested_at >= $6)
      AND ($7::timestamptz IS NULL OR d.requested_at < $7)
      AND ($8::text IS NULL OR position(lower($8) IN lower(concat_ws(
          ' ', d.correlation_id, d.archive_name, d.error_type, d.error_message, d.last_cause))) > 0)
    ORDER BY d.requested_at DESC, d.id DESC
    LIMIT $9
) found
ORDER BY found.requested_at DESC, found.id DESC
LIMIT $9;

-- name: deliveries_of
-- Every delivery of a correlation id, the newest first.
SELECT * FROM delivery WHERE tenant = $1 AND correlation_id = $2 ORDER BY requested_at DESC, id DESC;

-- name: delivery_of
-- One delivery of a tenant, by its id.
SELECT * FROM delivery WHERE tenant = $1 AND id = $2;

-- name: history_of
-- When a delivery came into each of its states, and when an attempt there was given up.
SELECT id, state, attempt, at, cause FROM delivery_history WHERE delivery_id = $1 ORDER BY id;

-- name: last_change
-- The newest change of any delivery; 0 before the first.
SELECT coalesce(max(id), 0) FROM delivery_history;

-- name: changes
-- Steps after $1, and those of $2: numbers are given before a transaction commits, so
-- that smaller ones may appear later.
SELECT h.id AS change_id, h.state AS change_state, h.attempt AS change_attempt, h.at AS change_at,
       h.cause AS change_cause,
       d.id, d.tenant, d.correlation_id, d.state, d.user_email, d.target, d.origin_app, d.priority,
       d.requested_at, d.expires_at, d.updated_at, d.state_since, d.not_before, d.finished_at, d.order_id,
       d.total_suborders, d.archive_name, d.file_count, d.total_bytes, d.attempt, d.last_cause,
       d.lease_owner, d.url, d.md5, d.archive_size, d.error_type, d.error_message
FROM delivery_history h JOIN delivery d ON d.id = h.delivery_id
WHERE h.id > $1 OR h.id = ANY ($2::bigint[])
ORDER BY h.id
LIMIT $3;

-- name: changes_of_tenant
-- A tenant's steps after $2, for a reader who was away; and those of the moments before, which may
-- have appeared later although their numbers are smaller.
SELECT h.id AS change_id, h.state AS change_state, h.attempt AS change_attempt, h.at AS change_at,
       h.cause AS change_cause,
       d.id, d.tenant, d.correlation_id, d.state, d.user_email, d.target, d.origin_app, d.priority,
       d.requested_at, d.expires_at, d.updated_at, d.state_since, d.not_before, d.finished_at, d.order_id,
       d.total_suborders, d.archive_name, d.file_count, d.total_bytes, d.attempt, d.last_cause,
       d.lease_owner, d.url, d.md5, d.archive_size, d.error_type, d.error_message
FROM delivery_history h JOIN delivery d ON d.id = h.delivery_id
WHERE d.tenant = $1
  AND (h.id > $2 OR h.id > $2 - 1000
       AND h.at > (SELECT at FROM delivery_history WHERE id = $2) - interval '5 seconds'
       AND h.id <> $2)
ORDER BY h.id
LIMIT $3;

-- name: hasten
-- What waits for a later attempt may be claimed now.
UPDATE delivery SET not_before = now()
WHERE id = $1 AND work IS NOT NULL AND (lease_until IS NULL OR lease_until < now())
RETURNING id;

-- name: worker_seen
-- A worker tells that it is there.
INSERT INTO worker (id, version, slots) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET version = $2, slots = $3, seen_at = now();

-- name: worker_left
-- A worker has stopped.
DELETE FROM worker WHERE id = $1;

-- name: forget_workers
-- Workers that died long ago.
DELETE FROM worker WHERE seen_at < now() - interval '1 day';

-- name: workers
-- Which workers there are, and how many transfers each has under way.
SELECT w.*, extract(epoch FROM now() - w.seen_at)::float8 AS silent_for,
       (SELECT count(*) FROM delivery d
        WHERE d.work = 'transfer' AND d.lease_owner = w.id AND d.lease_until >= now()) AS running
FROM worker w ORDER BY w.id;

-- name: depth
-- For each tenant and state before the end: how many deliveries, and how long the oldest has been in it,
-- however often it was tried there.
SELECT tenant, state, count(*) AS deliveries,
       greatest(0, extract(epoch FROM now() - min(state_since)))::float8 AS oldest
FROM delivery WHERE state NOT IN ({ended})
GROUP BY tenant, state;

-- name: encryption
-- Whether others can read along on this connection. The client is NULL on a socket of the machine.
SELECT coalesce(ssl, false) AS ssl, version, cipher, inet_client_addr() AS client
FROM (SELECT) AS one LEFT JOIN pg_stat_ssl ON pid = pg_backend_pid();

-- name: owed
-- Messages that are owed, by lane, and how long the oldest is overdue.
SELECT lane, count(*) AS messages,
       greatest(0, extract(epoch FROM now() - min(due_at)))::float8 AS oldest
FROM outbox GROUP BY lane;

-- name: outcomes
-- What some tenants' deliveries that ended after $2 came to.
SELECT state, error_type, count(*) AS deliveries, coalesce(sum(total_bytes), 0)::bigint AS bytes,
       percentile_cont(0.5) WITHIN GROUP (
           ORDER BY extract(epoch FROM finished_at - requested_at))::float8 AS median_seconds
FROM delivery
WHERE tenant = ANY ($1::text[]) AND state IN ({ended}) AND finished_at > $2
GROUP BY state, error_type ORDER BY state, error_type;

-- name: last_error
-- Why the message that is owed longest was not confirmed.
SELECT last_error FROM outbox WHERE last_error IS NOT NULL ORDER BY due_at LIMIT 1;

-- name: migrations
-- Which migrations are applied.
SELECT number FROM schema_migration;

-- name: hidden_schema
-- Where the tables are, and who asks, when this role may not see into that schema. Of the search
-- path alone: others of the database are of others. (`current_schemas` leaves out what is hidden.)
SELECT n.nspname AS schema, current_user AS role
FROM regexp_split_to_table(current_setting('search_path'), '\s*,\s*') WITH ORDINALITY
    AS path (written, place)
CROSS JOIN LATERAL (
    SELECT CASE written
        WHEN '"$user"' THEN current_user::text
        ELSE replace(regexp_replace(written, '^"(.*)"$', '\1'), '""', '"')
    END AS name
) AS named
JOIN pg_namespace n ON n.nspname = named.name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'schema_migration'
WHERE NOT has_schema_privilege(n.oid, 'USAGE')
ORDER BY path.place
LIMIT 1;

-- name: missing_rights
-- Which of some rights ($2) on tables and sequences ($1) this role has not.
SELECT name, right_to
FROM unnest($1::text[], $2::text[]) AS needed (name, right_to)
WHERE CASE right_to
    WHEN 'USAGE' THEN has_sequence_privilege(to_regclass(name), right_to)
    ELSE has_table_privilege(to_regclass(name), right_to)
END IS NOT TRUE
ORDER BY name, right_to;

-- name: grants
-- The statements that give a role ($3) rights ($2) on tables and sequences ($1).
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), $3::text) AS statement
UNION ALL
SELECT format('GRANT %s ON %s %I TO %I', string_agg(right_to, ', '),
              CASE WHEN 'USAGE' = ANY (array_agg(right_to)) THEN 'SEQUENCE' ELSE 'TABLE' END,
              name, $3)
FROM unnest($1::text[], $2::text[]) AS needed (name, right_to)
GROUP BY name;
