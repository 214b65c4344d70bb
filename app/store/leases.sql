-- name: claim
-- Lease the next delivery that this kind of work is due for: tenants with less of it under way
-- first, then who waited longest for a turn; within a tenant by rank: priority and age in one. Not
-- more than :most of it under way for a tenant, if that is given. A transfer is a new attempt. A lease
-- that ran out belongs to a worker that is dead. Nothing of the :blocked tenants, but for what goes to
-- :spared_targets (each of the tenant of the same place): to look past what waits for a target that
-- does not answer would take as long as there is of it. Rows have the work by one of its :words. Nothing that
-- is paused, and nothing for a worker that is: a process may have heard of a pause too late to block it.
-- And whether there is more that is due, be it blocked, paused, over a limit, or just being claimed by another.
WITH RECURSIVE tenants AS (
    SELECT word, (SELECT tenant FROM delivery WHERE work = word ORDER BY tenant LIMIT 1) AS tenant
    FROM unnest(:words::text[]) AS word
    UNION ALL
    SELECT t.word, (SELECT d.tenant FROM delivery d WHERE d.work = t.word AND d.tenant > t.tenant
                    ORDER BY d.tenant LIMIT 1)
    FROM tenants t WHERE t.tenant IS NOT NULL
), lanes AS (
    SELECT word, tenant, NULL AS target FROM tenants WHERE tenant <> ALL (:blocked::text[])
    UNION ALL
    SELECT word, spared.* FROM unnest(:words::text[]) AS word
    CROSS JOIN unnest(:spared_tenants::text[], :spared_targets::text[]) AS spared
), busy AS (
    SELECT tenant, count(*) AS running FROM delivery
    WHERE work = ANY (:words::text[]) AND lease_until >= now()
    GROUP BY tenant
), next AS (
    SELECT due.id, t.tenant, due.lease_owner AS predecessor
    FROM lanes t
    LEFT JOIN busy ON busy.tenant = t.tenant
    LEFT JOIN turn ON turn.work = :work AND turn.tenant = t.tenant
    CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT id, rank, lease_owner, target FROM delivery d
            WHERE t.target IS NULL
              AND d.work = t.word AND d.tenant = t.tenant AND d.not_before <= now()
              AND (d.lease_until IS NULL OR d.lease_until < now())
            ORDER BY d.rank
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) to_any
        UNION ALL
        SELECT * FROM (
            SELECT id, rank, lease_owner, target FROM delivery d
            WHERE d.work = t.word AND d.tenant = t.tenant AND d.target = t.target
              AND d.not_before <= now() AND (d.lease_until IS NULL OR d.lease_until < now())
            ORDER BY d.rank
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) to_one
    ) due
    -- While a tenant is in maintenance, its requests wait; what has begun goes on.
    WHERE (:work <> 'check' OR NOT EXISTS (
        SELECT 1 FROM tenant_maintenance m WHERE m.tenant = t.tenant AND m.active))
      AND (:most::integer IS NULL OR coalesce(busy.running, 0) < :most)
      AND NOT EXISTS (
        SELECT 1 FROM pause p
        WHERE (p.until IS NULL OR p.until > now())
          AND (p.scope = 'worker' AND p.name = :owner
               OR :work = 'transfer' AND (p.scope = 'instance' OR p.tenant = t.tenant
                                          AND (p.scope = 'tenant' OR p.scope = 'target' AND p.name = due.target))))
    ORDER BY coalesce(busy.running, 0), turn.at NULLS FIRST, due.rank
    LIMIT 1
), taken AS (
    INSERT INTO turn (work, tenant, at) SELECT :work, tenant, clock_timestamp() FROM next
    ON CONFLICT (work, tenant) DO UPDATE SET at = excluded.at
)
UPDATE delivery SET
    state = CASE WHEN :work = 'transfer' THEN 'TRANSFERRING' ELSE state END,
    attempt = attempt + CASE WHEN :work = 'transfer' THEN 1 ELSE 0 END,
    lease_owner = :owner, lease_until = now() + :ttl, updated_at = now()
WHERE id = (SELECT id FROM next)
RETURNING *, (SELECT predecessor FROM next) AS predecessor, EXISTS (
    SELECT 1 FROM tenants t CROSS JOIN LATERAL (
        SELECT 1 FROM delivery d
        WHERE d.work = t.word AND d.tenant = t.tenant AND d.not_before <= now()
          AND (d.lease_until IS NULL OR d.lease_until < now()) AND d.id <> (SELECT id FROM next)
        ORDER BY d.rank -- by the index
        LIMIT 1
    ) other
) AS more;

-- name: lock_claims
-- Claims of a kind happen one after the other, so that a limit is not passed by two at once.
SELECT pg_advisory_xact_lock(hashtextextended('claim ' || :work, 0));

-- name: renew
-- Hold on to a lease; and note how many :bytes the attempt has archived, where that is known.
WITH renewed AS (
    UPDATE delivery SET lease_until = now() + :ttl
    WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND work IS NOT NULL
    RETURNING id, attempt
), told AS (
    UPDATE delivery_attempt a SET bytes = :bytes::bigint FROM renewed
    WHERE a.delivery_id = renewed.id AND a.attempt = renewed.attempt AND :bytes::bigint IS NOT NULL
)
SELECT id FROM renewed;

-- name: holds
-- Whether a lease is still the worker's.
SELECT EXISTS (
    SELECT 1 FROM delivery
    WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND work IS NOT NULL);

-- name: record_completion
-- Hold on to a lease, and note what is about to appear in a namespace, and by when. Not while a delivery
-- of another tenant or user may be making one of that name there: stores that ignore conditions would
-- let both appear. (Where an older worker noted none, it may be there.) Asked under
-- `lock_object`, by a statement of its own, so that what was noted before is seen; it waits while
-- that object is being removed. Nor of one that is to end: what was asked for before decides how; unless it has
-- :appeared. And whether a manifest may be beside the object that is there, which is replaced: also where no client was told of
-- one, as the answer to it may have been lost; and whether there may be a report of a delivery of this id.
WITH others AS (
    SELECT EXISTS (
        SELECT 1 FROM delivery other JOIN delivery own ON own.id = :id
        WHERE other.completing_until > now() AND other.completing ->> 'url' = :url
          AND coalesce(other.completing ->> 'server', :namespace) = :namespace
          AND (other.tenant, other.user_email) <> (own.tenant, own.user_email)) AS busy
), noted AS (
    UPDATE delivery SET
        lease_until = now() + :ttl, completing = :completing, completing_until = now() + :within,
        completing_attempt = attempt
    WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND work IS NOT NULL
      AND (ending_type IS NULL OR :appeared::boolean) AND NOT (SELECT busy FROM others)
    RETURNING id
)
SELECT busy, EXISTS (SELECT 1 FROM noted) AS noted,
       EXISTS (SELECT 1 FROM delivery
               WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND work IS NOT NULL
                 AND ending_type IS NOT NULL AND NOT :appeared::boolean) AS ending,
       EXISTS (SELECT 1 FROM delivery before JOIN delivery own ON own.id = :id
               WHERE before.url = :url AND before.state = 'DONE' AND before.tenant = own.tenant
                 AND before.id <> own.id AND coalesce(before.told ->> 'manifest_url', '') <> :url) AS replaces_archive,
       EXISTS (SELECT 1 FROM delivery before JOIN delivery own ON own.id = :id
               WHERE before.tenant = own.tenant AND before.correlation_id = own.correlation_id
                 AND before.report IS NOT NULL) AS replaces_report
FROM others;

-- name: discard_completion
-- What was noted last can't appear any more.
UPDATE delivery SET completing = NULL, completing_until = NULL
WHERE id = :id AND attempt = :attempt AND lease_owner = :owner;

-- name: release
-- Let go of a lease, for a later attempt. :tried counts one that was given up, as pauses grow by them. A trigger notes
-- how the attempt ended; how many :bytes it has archived, is told here, where that is known.
WITH released AS (
    UPDATE delivery SET
        lease_owner = NULL, lease_until = NULL,
        -- What it waited for may have come since it was claimed.
        not_before = now() + CASE WHEN (announced, order_done) = (:announced, :order_done) THEN :after
                                  ELSE interval '0' END,
        failures = failures + :failed, tries = tries + :tried, last_cause = :cause,
        last_code = '+' || :code::text, updated_at = now(),
        retries = coalesce(:retries, retries), retried_for = coalesce(:retried_for, retried_for)
    WHERE id = :id AND attempt = :attempt AND lease_owner = :owner
    RETURNING id, attempt
)
UPDATE delivery_attempt a SET bytes = :bytes::bigint FROM released
WHERE a.delivery_id = released.id AND a.attempt = released.attempt AND :bytes::bigint IS NOT NULL;

-- name: park
-- Let go of a half-made archive until the next segment is announced, or at once if one is by now. From then
-- on it counts as six hours older: its client's next suborder waits for the place that this one has.
WITH let_go AS (
    UPDATE delivery SET
        lease_owner = NULL, lease_until = NULL, not_before = now(), tries = 0, last_cause = :cause,
        parked = announced = listed AND NOT order_done, kept_places = 0,
        last_code = '+' || :code::text,
        rank = least(rank, requested_at - priority * interval '1 minute' - interval '6 hours'),
        updated_at = now()
    WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND state = 'TRANSFERRING'
    RETURNING id, attempt, parked
), told AS (
    UPDATE delivery_attempt a SET bytes = :bytes::bigint FROM let_go
    WHERE a.delivery_id = let_go.id AND a.attempt = let_go.attempt AND :bytes::bigint IS NOT NULL
)
SELECT parked FROM let_go;

-- name: go_on
-- The next segment came as the archive was parked: it waits for nothing.
UPDATE delivery SET last_cause = NULL
WHERE id = :id AND attempt = :attempt AND state = 'TRANSFERRING' AND lease_owner IS NULL AND NOT parked;

-- name: record_upload
-- Note the multipart upload of an attempt, before its first part.
UPDATE delivery SET
    upload_bucket = :bucket, upload_key = :key, upload_id = :upload_id, upload_target = :target,
    completing_attempt = NULL
WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND state = 'TRANSFERRING'
RETURNING id;

-- name: leave_out
-- A file leaves the manifest, and is noted as missing; again changes nothing. No row when the lease is gone.
WITH held AS (
    SELECT id FROM delivery
    WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND state = 'TRANSFERRING'
    FOR NO KEY UPDATE
), gone AS (
    DELETE FROM delivery_file file USING held
    WHERE file.delivery_id = held.id AND file.position = :position
    RETURNING file.*
), noted AS (
    INSERT INTO missing_file (delivery_id, number, file_id, member, size, product_id, product_version, files, cause)
    SELECT delivery_id, position, file_id, member, size, product_id, product_version, 1, :cause FROM gone
)
SELECT id FROM held;

-- name: failures_of
-- How many times a file was refused, or its bytes were not those that were listed. No row: it is not in the manifest.
SELECT wrong FROM delivery_file WHERE delivery_id = :id AND position = :position;

-- name: record_failures
-- A file was refused, or its bytes were not those that were listed, so many times, by an attempt that holds its lease. (Said
-- again, as when the answer was lost, it counts once.) No row when the lease is gone.
WITH held AS (
    SELECT id FROM delivery
    WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND state = 'TRANSFERRING'
    FOR NO KEY UPDATE
), counted AS (
    UPDATE delivery_file file SET wrong = :times FROM held
    WHERE file.delivery_id = held.id AND file.position = :position
)
SELECT id FROM held;
