-- name: targets
-- Each target of some :tenants that was sent to, or that something waits for: what its attempts came to, at last and
-- :lately. (Names are found one after the other by the index: attempts may be many, targets are few.)
WITH RECURSIVE tried AS (
    SELECT asked.tenant, (SELECT min(a.target) FROM delivery_attempt a WHERE a.tenant = asked.tenant) AS name
    FROM unnest(:tenants::text[]) AS asked (tenant)
    UNION ALL
    SELECT tried.tenant,
           (SELECT min(a.target) FROM delivery_attempt a WHERE a.tenant = tried.tenant AND a.target > tried.name)
    FROM tried WHERE tried.name IS NOT NULL
), active AS (
    SELECT tenant, target AS name,
           count(*) FILTER (WHERE lease_until >= now()) AS running,
           count(*) FILTER (WHERE lease_until IS NULL OR lease_until < now()) AS waiting
    FROM delivery WHERE work IN ('transfer', 'transfer-part') AND tenant = ANY (:tenants)
    GROUP BY tenant, target
), named AS (
    SELECT tenant, name FROM tried WHERE name IS NOT NULL
    UNION SELECT tenant, name FROM active
)
SELECT named.tenant, named.name, coalesce(active.running, 0) AS running, coalesce(active.waiting, 0) AS waiting,
       good.at AS last_good, bad.ended AS last_bad, bad.code, bad.cause,
       failing.since AS failing_since, failing.failures, hour.good, hour.bad
FROM named LEFT JOIN active ON active.tenant = named.tenant AND active.name = named.name
CROSS JOIN LATERAL (
    SELECT max(a.ended) AS at FROM delivery_attempt a
    WHERE a.tenant = named.tenant AND a.target = named.name AND a.outcome = 'done') good
LEFT JOIN LATERAL (
    SELECT a.ended, a.code, a.cause FROM delivery_attempt a
    WHERE a.tenant = named.tenant AND a.target = named.name AND {failed}
    ORDER BY a.ended DESC, a.attempt DESC LIMIT 1) bad ON true
CROSS JOIN LATERAL (
    SELECT min(a.ended) AS since, count(*) AS failures FROM delivery_attempt a
    WHERE a.tenant = named.tenant AND a.target = named.name AND {failed}
      AND (good.at IS NULL OR a.ended > good.at)) failing
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE a.outcome = 'done') AS good, count(*) FILTER (WHERE {failed}) AS bad
    FROM delivery_attempt a
    WHERE a.tenant = named.tenant AND a.target = named.name AND a.outcome IN ('done', 'postponed', 'error')
      AND a.ended > now() - :lately::interval) hour
ORDER BY named.tenant, named.name;
