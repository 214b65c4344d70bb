-- fragment: day
-- When this day began, in UTC.
date_trunc('day', statement_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'

-- fragment: since_day
-- The day, in UTC, since which a delivery is in its state. As in the index delivery_held_days.
(state_since AT TIME ZONE 'UTC')::date

-- fragment: gives_back
-- Whether a delivery has ended before anything of it was sent: its bytes don't count.
(state = 'ERROR' AND attempt = 0)

-- fragment: let_in
-- Whether a delivery's request was let in: also of one that waits for bytes, whose order was made. As in the index delivery_let_in.
(NOT held OR state <> 'RECEIVED')

-- fragment: users_held
-- The users that have something held in a state, each by the index.
users AS (
    (SELECT user_email FROM delivery WHERE tenant = :tenant AND held AND state = :state
     ORDER BY user_email LIMIT 1)
    UNION ALL
    SELECT (SELECT d.user_email FROM delivery d
            WHERE d.tenant = :tenant AND d.held AND d.state = :state AND d.user_email > u.user_email
            ORDER BY d.user_email LIMIT 1)
    FROM users u WHERE u.user_email IS NOT NULL
)

-- name: lock_quota
-- What a tenant's quotas let through is decided one after the other. (By a statement of its own, so that the next one
-- sees what was decided before.)
SELECT pg_advisory_xact_lock(hashtextextended('quota ' || :tenant, 0));

-- name: admit
-- Let requests through that a tenant's quotas have places for (0: any number), under the lock: of a user those of the
-- smallest rank, of users those with less of it first. Of a user that has no place, none is looked at.
WITH RECURSIVE {users_held}, active AS (
    SELECT user_email, count(*) AS deliveries FROM delivery
    WHERE tenant = :tenant AND state NOT IN ({ended}) AND {let_in}
    GROUP BY user_email
), lately AS (
    SELECT user_email, count(*) AS requests FROM delivery
    WHERE tenant = :tenant AND admitted_at > statement_timestamp() - interval '1 minute'
    GROUP BY user_email
), free AS (
    -- least() passes over what is null: no limit.
    SELECT greatest(0, least(
        CASE WHEN :active::bigint > 0
             THEN :active - (SELECT coalesce(sum(deliveries), 0) FROM active) END,
        CASE WHEN :requests::bigint > 0
             THEN :requests - (SELECT coalesce(sum(requests), 0) FROM lately) END,
        2147483647))::bigint AS places
), fitting AS (
    SELECT d.id, d.rank, coalesce(active.deliveries, 0) + d.place AS share
    FROM users u
    LEFT JOIN active USING (user_email)
    LEFT JOIN lately USING (user_email)
    CROSS JOIN free
    CROSS JOIN LATERAL (
        SELECT id, rank, row_number() OVER (ORDER BY rank, id) AS place FROM (
            SELECT id, rank FROM delivery
            WHERE tenant = :tenant AND held AND state = :state AND user_email = u.user_email
            ORDER BY rank, id
            LIMIT greatest(0, least(
                CASE WHEN :user_active::bigint > 0
                     THEN :user_active - coalesce(active.deliveries, 0) END,
                CASE WHEN :user_requests::bigint > 0
                     THEN :user_requests - coalesce(lately.requests, 0) END,
                free.places, :limit::bigint))
        ) foremost
    ) d
), chosen AS (
    -- What is about to end is locked while its report is written: none waits for that with the quota's lock. By an array, so
    -- that each is found by its id: how many there are is not known beforehand, and all that wait would be read.
    SELECT d.id FROM fitting JOIN delivery d USING (id)
    WHERE d.id = ANY (ARRAY(SELECT id FROM fitting)) AND d.held AND d.state = :state
    ORDER BY fitting.share, fitting.rank, d.id
    LIMIT least((SELECT places FROM free), :limit::bigint)
    FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE delivery SET
    held = false, admitted_at = statement_timestamp(), not_before = now(), last_cause = NULL,
    updated_at = now()
WHERE id IN (SELECT id FROM chosen)
RETURNING *;

-- name: chargeable
-- What waits, laid out, of which a tenant's bytes of the day (0: any number) have room for a user's up to there, in the order in
-- which it may go: what waited before this day began by rank, so that no user's larger one waits for ever behind others' smaller
-- ones; then of users those with less of the day first. Of a user whose day is used up, none is looked at.
WITH RECURSIVE days AS (
    (SELECT user_email, {since_day} AS day FROM delivery WHERE tenant = :tenant AND held AND state = 'READY'
     ORDER BY user_email, {since_day} LIMIT 1)
    UNION ALL
    SELECT d.* FROM days CROSS JOIN LATERAL (
        SELECT user_email, {since_day} FROM delivery
        WHERE tenant = :tenant AND held AND state = 'READY' AND (user_email, {since_day}) > (days.user_email, days.day)
        ORDER BY user_email, {since_day} LIMIT 1) d
), spent AS (
    SELECT user_email, sum(total_bytes) AS bytes FROM delivery
    WHERE tenant = :tenant AND charged_at >= {day} AND NOT {gives_back}
    GROUP BY user_email
), of_all AS (
    SELECT coalesce(sum(bytes), 0)::bigint AS bytes FROM spent
), foremost AS (
    -- Of each user and day, by the index: of a user that has thousands, few are read.
    SELECT days.user_email, d.*, coalesce(spent.bytes, 0)::bigint AS of_user,
           days.day >= (statement_timestamp() AT TIME ZONE 'UTC')::date AS new
    FROM days
    LEFT JOIN spent USING (user_email)
    CROSS JOIN of_all
    CROSS JOIN LATERAL (
        SELECT id, rank, total_bytes FROM delivery
        WHERE tenant = :tenant AND held AND state = 'READY'
          AND user_email = days.user_email AND {since_day} = days.day
        ORDER BY rank, id
        LIMIT CASE WHEN :bytes::bigint > 0 AND of_all.bytes >= :bytes
                     OR :user_bytes::bigint > 0 AND coalesce(spent.bytes, 0) >= :user_bytes
                   THEN 0 ELSE :limit::bigint END
    ) d
), waiting AS (
    SELECT *, of_user + sum(total_bytes) OVER in_order AS share, sum(total_bytes) OVER in_order AS so_far,
           row_number() OVER in_order AS place
    FROM foremost
    WINDOW in_order AS (PARTITION BY user_email ORDER BY new, rank, id)
)
SELECT id, user_email, total_bytes, of_user, of_all.bytes AS of_tenant
FROM waiting CROSS JOIN of_all
WHERE place <= :limit::bigint
  AND (:user_bytes::bigint = 0 OR share <= :user_bytes)
  AND (:bytes::bigint = 0 OR of_all.bytes + so_far <= :bytes)
ORDER BY new, CASE WHEN new THEN share END, rank, id
LIMIT :limit::bigint;

-- name: charge
-- Let deliveries through that wait, laid out; but those that are about to end, as `admit`.
UPDATE delivery SET
    held = false, charged_at = statement_timestamp(), not_before = now(), last_cause = NULL,
    updated_at = now()
WHERE id IN (
    SELECT id FROM delivery WHERE id = ANY(:ids::uuid[]) AND held AND state = :state
    FOR NO KEY UPDATE SKIP LOCKED)
RETURNING *;

-- name: over_day
-- What waits, laid out, and is larger than a day has bytes those of the smallest rank first.
SELECT * FROM delivery
WHERE tenant = :tenant AND held AND state = :state AND total_bytes > :most::bigint
ORDER BY rank, id
LIMIT :limit::bigint;

-- name: hold
-- A delivery that is laid out waits for its quota of bytes.
UPDATE delivery SET held = true WHERE id = :id AND state = 'READY';

-- name: note_held
-- Why deliveries are held, each.
UPDATE delivery SET last_cause = noted.cause, last_code = '+' || :code::text
FROM unnest(:ids::uuid[], :causes::text[]) AS noted (id, cause)
WHERE delivery.id = noted.id AND held;

-- name: usage
-- What a tenant has, and each of some users; and when the request was admitted, of so many a minute, since which there is no place.
WITH active AS (
    SELECT user_email, count(*) AS active FROM delivery
    WHERE tenant = :tenant AND state NOT IN ({ended}) AND {let_in}
    GROUP BY user_email
), waits AS (
    SELECT user_email,
           count(*) FILTER (WHERE state = 'RECEIVED') AS waiting,
           count(*) FILTER (WHERE state = 'READY') AS waiting_bytes
    FROM delivery WHERE tenant = :tenant AND held AND state IN ('RECEIVED', 'READY')
    GROUP BY user_email
), lately AS (
    SELECT user_email, admitted_at,
           row_number() OVER (ORDER BY admitted_at DESC) AS nth,
           row_number() OVER (PARTITION BY user_email ORDER BY admitted_at DESC) AS nth_of_user
    FROM delivery
    WHERE tenant = :tenant AND admitted_at > statement_timestamp() - interval '1 minute'
), requests AS (
    SELECT user_email, count(*) AS requests,
           min(admitted_at) FILTER (WHERE nth_of_user = greatest(:of_user::bigint, 1)) AS filled_at
    FROM lately
    GROUP BY user_email
), spent AS (
    SELECT user_email, sum(total_bytes)::bigint AS bytes FROM delivery
    WHERE tenant = :tenant AND charged_at >= {day} AND NOT {gives_back}
    GROUP BY user_email
)
SELECT statement_timestamp() AS at, asked.user_email,
       (SELECT coalesce(sum(a.active), 0)::bigint FROM active a) AS active,
       (SELECT coalesce(sum(w.waiting), 0)::bigint FROM waits w) AS waiting,
       (SELECT coalesce(sum(w.waiting_bytes), 0)::bigint FROM waits w) AS waiting_bytes,
       (SELECT count(*) FROM lately) AS requests,
       (SELECT admitted_at FROM lately WHERE nth = greatest(:of_tenant::bigint, 1)) AS filled_at,
       (SELECT coalesce(sum(s.bytes), 0)::bigint FROM spent s) AS bytes,
       coalesce(active.active, 0) AS user_active,
       coalesce(waits.waiting, 0) AS user_waiting,
       coalesce(waits.waiting_bytes, 0) AS user_waiting_bytes,
       coalesce(requests.requests, 0) AS user_requests,
       requests.filled_at AS user_filled_at,
       coalesce(spent.bytes, 0) AS user_bytes
FROM unnest(:users::text[]) AS asked (user_email)
LEFT JOIN active USING (user_email)
LEFT JOIN waits USING (user_email)
LEFT JOIN requests USING (user_email)
LEFT JOIN spent USING (user_email);

-- name: held_tenants
-- Which tenants have deliveries that wait for a quota.
SELECT DISTINCT tenant FROM delivery WHERE held AND state NOT IN ({ended}) ORDER BY tenant;
