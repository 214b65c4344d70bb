-- fragment: listed
-- What lists and feeds show of a delivery: all but what it ordered, which may have half a megabyte.
d.id, d.tenant, d.correlation_id, d.state, d.user_email, d.target, d.origin_app, d.priority,
d.requested_at, d.expires_at, d.updated_at, d.state_since, d.not_before, d.finished_at, d.order_id,
d.total_suborders, d.order_done, d.announced, d.listed, d.parked, d.held, d.format, d.partial, d.labels, d.deadline, d.archive_name,
d.file_count, d.total_bytes, d.attempt, d.tries, d.last_cause, d.last_code, d.lease_owner, d.url, d.md5, d.archive_size, d.etag, d.told, d.error_type,
d.error_message, d.error_code, d.ending_type, d.ending_message, d.ending_code, d.prefix

-- fragment: content
-- What is known of a delivery's content.
c.delivery_id AS content_of, c.removed_at AS content_removed_at, c.last_cause AS content_cause,
c.asked_at IS NOT NULL OR coalesce(c.until <= now(), false) AS content_is_over

-- fragment: code
-- The code of why a delivery failed, or waits: as `Tracked.code` tells it.
CASE WHEN d.error_type IS NOT NULL THEN coalesce(d.error_code,
         CASE WHEN d.error_type IN ('EMPTY_ORDER', 'EXPIRED', 'TOO_MANY_SUBORDERS') THEN d.error_type END)
     WHEN d.state IN ({ended}) THEN NULL
     WHEN d.parked THEN 'SUBORDER_AWAITED'
     WHEN d.ending_type IS NOT NULL THEN d.ending_code
     WHEN d.held THEN 'QUOTA_AWAITED'
     ELSE d.last_code END

-- fragment: activity
-- What goes on with a delivery that has not ended: as `Tracked.activity` tells it.
CASE WHEN d.state IN ({ended}) THEN NULL
     WHEN d.lease_owner IS NOT NULL AND d.finished_at IS NULL THEN 'moving'
     WHEN {code} = 'PAUSED' THEN 'paused'
     WHEN d.tries > 0 AND NOT d.parked AND NOT d.held THEN 'retrying'
     ELSE 'waiting' END

-- fragment: step
-- A step, beside the delivery as it is now.
h.id AS change_id, h.state AS change_state, h.attempt AS change_attempt, h.at AS change_at,
h.cause AS change_cause, h.code AS change_code, h.news AS change_news

-- fragment: is_missed
-- Of the steps after :last - 1000, which the index finds (all that follows OR would be read without).
h.id <> :last AND (h.id > :last OR h.at > (SELECT at FROM delivery_history WHERE id = :last) - interval '5 seconds')

-- fragment: wanted
-- Deliveries of one tenant, of those before a time of request and an id. The rest is the fields of `Filter`
-- (app/views/deliveries.py), by their names; null is any.
SELECT {listed}, {content}
FROM delivery d LEFT JOIN content c ON c.delivery_id = d.id
WHERE d.tenant = asked.tenant
  AND (:before_at::timestamptz IS NULL
       OR (d.requested_at, d.id) < (:before_at, :before_id::uuid))
  AND (:states::text[] IS NULL OR d.state = ANY (:states))
  AND (:activities::text[] IS NULL OR {activity} = ANY (:activities))
  AND (:codes::text[] IS NULL OR {code} = ANY (:codes))
  AND (:target::text IS NULL OR d.target = :target)
  AND (:worker::text IS NULL OR (d.lease_owner = :worker AND d.finished_at IS NULL))
  AND (:user::text IS NULL OR d.user_email = :user)
  AND (:labels::text[] IS NULL OR d.labels @> :labels)
  AND (:since::timestamptz IS NULL OR d.requested_at >= :since)
  AND (:until::timestamptz IS NULL OR d.requested_at < :until)
  AND (:text::text IS NULL OR position(lower(:text) IN lower(concat_ws(
      ' ', d.correlation_id, d.archive_name, d.error_type, d.error_message, d.last_cause))) > 0)

-- fragment: newest
-- The newest first.
ORDER BY requested_at DESC, id DESC LIMIT :limit

-- name: browse
-- Deliveries of some tenants, the newest first; each tenant's by its index. The next three are the same, each by the
-- indexes of what alone its filter can find: by that of all, all would be read for what is rare.
SELECT found.* FROM unnest(:tenants::text[]) AS asked (tenant) CROSS JOIN LATERAL ({wanted} {newest}) found
{newest};

-- name: browse_open
-- Of those that have not ended.
SELECT found.* FROM unnest(:tenants::text[]) AS asked (tenant) CROSS JOIN LATERAL (
    {wanted} AND d.state NOT IN ({ended}) {newest}
) found
{newest};

-- name: browse_begun
-- Of those that a worker has in hand, or that were given up before.
SELECT found.* FROM unnest(:tenants::text[]) AS asked (tenant) CROSS JOIN LATERAL (
    {wanted} AND d.state NOT IN ({ended}) AND (d.lease_owner IS NOT NULL OR d.tries > 0) {newest}
) found
{newest};

-- name: browse_with_causes
-- Of those that may have a cause: they have not ended, or failed.
SELECT found.* FROM unnest(:tenants::text[]) AS asked (tenant) CROSS JOIN LATERAL (
    ({wanted} AND d.state NOT IN ({ended}) {newest})
    UNION ALL
    ({wanted} AND d.state = 'ERROR' {newest})
) found
{newest};

-- name: deliveries_of
-- Every delivery of a correlation id, the newest first.
SELECT d.*, {content}
FROM delivery d LEFT JOIN content c ON c.delivery_id = d.id
WHERE d.tenant = :tenant AND d.correlation_id = :correlation_id
ORDER BY d.requested_at DESC, d.id DESC;

-- name: delivery_of
-- One delivery of a tenant, by its id.
SELECT d.*, {content}
FROM delivery d LEFT JOIN content c ON c.delivery_id = d.id
WHERE d.tenant = :tenant AND d.id = :id;

-- name: some
-- Some of a tenant's deliveries, by their ids.
SELECT {listed}, {content}
FROM delivery d LEFT JOIN content c ON c.delivery_id = d.id
WHERE d.tenant = :tenant AND d.id = ANY (:ids::uuid[]);

-- name: newest_of
-- Of some correlation ids, the delivery that was requested last.
SELECT found.id FROM unnest(:correlation_ids::text[]) AS asked (correlation_id) CROSS JOIN LATERAL (
    SELECT id FROM delivery WHERE tenant = :tenant AND correlation_id = asked.correlation_id
    ORDER BY requested_at DESC, id DESC LIMIT 1
) found;

-- name: history_of
-- When a delivery came into each of its states, when an attempt there was given up, and what became of its content.
SELECT id, state, attempt, at, cause, code, news FROM delivery_history WHERE delivery_id = :delivery ORDER BY id;

-- name: attempts_of
-- The attempts of a delivery's transfer that are kept, the newest first.
SELECT attempt, worker, target, began, ended, outcome, code, cause, bytes
FROM delivery_attempt WHERE delivery_id = :delivery ORDER BY attempt DESC;

-- name: segments_of
-- The suborders of a delivery that were announced, in that order.
SELECT number, suborder_id AS suborder, announced_at, listed_at, file_count
FROM segment WHERE delivery_id = :delivery ORDER BY number;

-- name: underway
-- Of some deliveries, those that have not ended and are at the attempt that was asked about; with the segments that
-- are in the manifest, in order. (It takes the place of no lock: one may end in the next moment.)
SELECT {listed}, coalesce((d.plan ->> 'told')::boolean, true) AS told, s.suborders, s.file_counts
FROM unnest(:ids::uuid[], :attempts::integer[]) AS asked (id, attempt)
JOIN delivery d ON d.id = asked.id AND d.attempt = asked.attempt AND d.state NOT IN ({ended})
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(suborder_id ORDER BY number), '{}') AS suborders,
           coalesce(array_agg(file_count ORDER BY number), '{}') AS file_counts
    FROM segment WHERE delivery_id = d.id AND listed_at IS NOT NULL
) s
ORDER BY d.id;

-- name: last_change
-- The newest change of any delivery; 0 before the first.
SELECT coalesce(max(id), 0) FROM delivery_history;

-- name: last_change_of_user
-- The newest change of one user's deliveries, of those up to :until; 0 before the first.
SELECT coalesce((
    SELECT id FROM delivery_history
    WHERE tenant = :tenant AND user_email = :user AND -id >= -:until::bigint
    ORDER BY -id LIMIT 1
), 0);

-- name: changes
-- Steps after :last, and the :missing ones: numbers are given before a transaction commits, so that
-- smaller ones may appear later.
SELECT {step}, {listed}, {content}
FROM (
    -- Two looks, each by the index: for one with OR, PostgreSQL may read the whole history.
    (SELECT * FROM delivery_history WHERE id > :last ORDER BY id LIMIT :limit)
    UNION ALL
    SELECT * FROM delivery_history WHERE id = ANY (:missing::bigint[]) AND id <= :last
) h JOIN delivery d ON d.id = h.delivery_id LEFT JOIN content c ON c.delivery_id = d.id
ORDER BY h.id
LIMIT :limit;

-- name: changes_of_tenant
-- A tenant's steps after :last, for a reader who was away; and those of the moments before, which may have appeared
-- later although their numbers are smaller.
SELECT {step}, {listed}, {content}
FROM delivery_history h JOIN delivery d ON d.id = h.delivery_id LEFT JOIN content c ON c.delivery_id = d.id
WHERE d.tenant = :tenant AND h.id > :last::bigint - 1000 AND {is_missed}
ORDER BY h.id
LIMIT :limit;

-- name: changes_of_user
-- The same of one user's deliveries: by an index of those steps, however much happened to others, and however many deliveries
-- the user has.
SELECT {step}, {listed}, {content}
FROM (
    SELECT * FROM delivery_history h
    WHERE h.tenant = :tenant AND h.user_email = :user AND -h.id < 1000 - :last::bigint AND {is_missed}
    ORDER BY -h.id DESC
    LIMIT :limit
) h
-- (OFFSET: else PostgreSQL, which may not know how few steps there are, may read all deliveries to find theirs.)
CROSS JOIN LATERAL (SELECT * FROM delivery WHERE id = h.delivery_id OFFSET 0) d
LEFT JOIN LATERAL (SELECT * FROM content WHERE delivery_id = h.delivery_id OFFSET 0) c ON true
ORDER BY h.id;

-- name: workers
-- Which workers there are, and how many transfers each has under way.
SELECT w.*, extract(epoch FROM now() - w.seen_at)::float8 AS silent_for,
       (SELECT count(*) FROM delivery d
        WHERE d.work IN ('transfer', 'transfer-part') AND d.lease_owner = w.id AND d.lease_until >= now()) AS running
FROM worker w ORDER BY w.id;

-- name: depth
-- For each tenant and state before the end: how many deliveries, and how long the oldest has been in it,
-- however often it was tried there; how many of them wait for the next suborder of their order, and the
-- longest of those waits; how many wait for their quota, and of those how many have less than half of their time left. The oldest is none of those, nor of what waits for a pause or a maintenance,
-- or did until a while ago (:worked_off): they are not stuck. (Parking is the last change of what is parked.) And with how
-- many of them what goes on.
SELECT tenant, state, count(*) AS deliveries,
       greatest(0, extract(epoch FROM now() - min(state_since)
           FILTER (WHERE NOT held AND NOT {is_paused} AND NOT {awaits_maintenance})))::float8 AS oldest,
       count(*) FILTER (WHERE parked) AS parked,
       coalesce(greatest(0, extract(
           epoch FROM now() - min(updated_at) FILTER (WHERE parked))), 0)::float8 AS oldest_parked,
       count(*) FILTER (WHERE held) AS held, count(*) FILTER (WHERE {waits_late}) AS held_late,
       count(*) FILTER (WHERE {activity} = 'moving') AS moving, count(*) FILTER (WHERE {activity} = 'retrying') AS retrying,
       count(*) FILTER (WHERE {activity} = 'paused') AS paused
FROM delivery d WHERE state NOT IN ({ended})
GROUP BY tenant, state;

-- name: places_held
-- For each tenant: how many deliveries are done whose order may keep its user's place at rs-order, and for how
-- long the first of them has been done.
SELECT d.tenant, count(*) AS places,
       greatest(0, extract(epoch FROM now() - min(p.since)))::float8 AS oldest
FROM place p JOIN delivery d ON d.id = p.delivery_id
WHERE p.answered_at IS NULL
GROUP BY d.tenant;

-- name: contents_overdue
-- For each tenant: how much content is to be removed by now, for how long the first has been, and why that one is still there.
-- (What is given up is not tried any more, and not counted.)
SELECT DISTINCT ON (tenant) tenant, count(*) OVER of_tenant AS contents,
       greatest(0, extract(epoch FROM now() - least(asked_at, until)))::float8 AS oldest, last_cause AS cause
FROM content
WHERE due_at IS NOT NULL AND (asked_at IS NOT NULL OR until <= now())
WINDOW of_tenant AS (PARTITION BY tenant)
ORDER BY tenant, least(asked_at, until);

-- name: outcomes
-- What some tenants' deliveries that ended after :since came to.
SELECT state, error_type, count(*) AS deliveries, coalesce(sum(total_bytes), 0)::bigint AS bytes,
       percentile_cont(0.5) WITHIN GROUP (
           ORDER BY extract(epoch FROM finished_at - requested_at))::float8 AS median_seconds
FROM delivery
WHERE tenant = ANY (:tenants::text[]) AND state IN ({ended}) AND finished_at > :since
GROUP BY state, error_type ORDER BY state, error_type;
