-- name: troubles
-- What is wrong now, of some :tenants (null: of all), by the words of `app/views/attention.py`: since when, by the oldest row
-- that it is about; of what, and how many. What is of no tenant concerns all; what is of '' none that is served.
WITH paused AS (
    SELECT * FROM pause WHERE until IS NULL OR until > now()
), seen AS (
    SELECT w.id, w.seen_at, w.seen_at < now() - :worker_silent::interval AS silent FROM worker w
), failing AS (
    SELECT DISTINCT tenant, target FROM delivery_attempt
    WHERE outcome IN ('postponed', 'error') AND ended > now() - :failed_within::interval
), webhook_now AS (
    SELECT s.tenant, named.key AS name, named.value ->> 'url' AS url
    FROM tenant_setting s CROSS JOIN LATERAL json_each(
        CASE WHEN json_typeof(s.value) = 'object' THEN s.value ELSE '{}' END) AS named
    WHERE s.name = 'webhooks' AND named.value ->> 'enabled' IS DISTINCT FROM 'false'
), found AS (
    SELECT 'NO_WORKER' AS code, NULL AS tenant, NULL AS subject, max(seen_at) AS since, count(*) AS count, NULL AS cause
    FROM seen HAVING coalesce(bool_and(silent), true)
    UNION ALL
    SELECT 'WORKER_SILENT', NULL, seen.id, seen.seen_at, count(*), NULL
    FROM seen JOIN delivery d ON d.lease_owner = seen.id AND d.lease_until IS NOT NULL
    WHERE seen.silent AND d.work IS NOT NULL AND NOT {is_paused} -- that no worker takes over
    GROUP BY seen.id, seen.seen_at
    UNION ALL
    SELECT 'TRANSFERS_FAIL', failing.tenant, failing.target, failed.since, failed.count, failed.cause
    FROM failing
    CROSS JOIN LATERAL (
        SELECT max(good.ended) AS at FROM delivery_attempt good
        WHERE good.tenant = failing.tenant AND good.target = failing.target AND good.outcome = 'done') last
    CROSS JOIN LATERAL ( -- one row each: else all failures that are kept are read, and joined
        SELECT min(a.ended) AS since, max(a.ended) AS newest, count(*) AS count,
               (array_agg(a.cause ORDER BY a.ended DESC, a.attempt DESC))[1] AS cause
        FROM delivery_attempt a
        WHERE a.tenant = failing.tenant AND a.target = failing.target
          AND {failed} AND a.ended > coalesce(last.at, '-infinity')) failed
    WHERE failed.count >= :failed_times AND failed.newest > now() - :failed_within::interval
    UNION ALL
    SELECT 'STATE_STUCK', d.tenant, d.state, min(d.state_since), count(*), NULL
    FROM delivery d JOIN unnest(:states::text[], :ages::interval[]) AS most (state, age) ON most.state = d.state
    WHERE d.state NOT IN ({ended}) AND NOT d.held AND d.state_since < now() - most.age
      AND NOT {is_paused} AND NOT {awaits_maintenance}
    GROUP BY d.tenant, d.state
    UNION ALL
    SELECT 'QUOTA_AWAITED', d.tenant, d.state, min(d.state_since), count(*),
           (array_agg(d.last_cause ORDER BY d.state_since))[1]
    FROM delivery d WHERE d.state NOT IN ({ended}) AND {waits_late}
    GROUP BY d.tenant, d.state
    UNION ALL
    SELECT 'SUBORDER_AWAITED', tenant, NULL, min(updated_at), count(*), NULL
    FROM delivery WHERE parked AND state NOT IN ({ended}) AND updated_at < now() - :parked::interval
    GROUP BY tenant
    UNION ALL
    SELECT 'PLACE_HELD', d.tenant, NULL, min(p.since), count(*), NULL
    FROM place p JOIN delivery d ON d.id = p.delivery_id
    WHERE p.answered_at IS NULL AND p.since < now() - :place::interval
    GROUP BY d.tenant
    UNION ALL
    SELECT 'CONTENT_OVERDUE', tenant, NULL, min(least(asked_at, until)), count(*),
           (array_agg(last_cause ORDER BY least(asked_at, until)))[1]
    FROM content
    WHERE due_at IS NOT NULL AND least(asked_at, until) < now() - :content::interval
    GROUP BY tenant
    UNION ALL
    SELECT 'MESSAGE_OWED', tenant, lane, min(since), count(*), (array_agg(last_error ORDER BY since))[1]
    FROM {messages_owed} message WHERE since < now() - :owed::interval
    GROUP BY tenant, lane
    UNION ALL
    SELECT 'DEAD_LETTER', waiting.tenant, NULL, waiting.since, waiting.count, newest.reason
    FROM (SELECT coalesce(tenant, '') AS tenant,
                 min(buried_at) AS since, count(*) AS count, max(number) AS number
          FROM dead_letter WHERE handled_at IS NULL AND ours -- others' are for others
          GROUP BY 1) waiting
    JOIN dead_letter newest ON newest.number = waiting.number
    UNION ALL
    SELECT 'WEBHOOK_FAILS', w.tenant, w.name, coalesce(w.failing_since, w.last_success_at),
           (SELECT count(*) FROM webhook_event e
            WHERE e.tenant = w.tenant AND e.webhook = w.name AND e.dead_at IS NULL),
           w.last_error
    FROM webhook w JOIN webhook_now USING (tenant, name, url) -- of another URL nothing is known
    WHERE w.gone_url = w.url OR w.failing_since < now() - :webhook::interval
    UNION ALL
    SELECT 'EVENT_GIVEN_UP', e.tenant, e.webhook, min(e.dead_at), count(*), (array_agg(e.last_error ORDER BY e.id DESC))[1]
    FROM webhook_event e JOIN webhook_now n ON n.tenant = e.tenant AND n.name = e.webhook
    WHERE e.dead_at IS NOT NULL
    GROUP BY e.tenant, e.webhook
    UNION ALL
    SELECT CASE WHEN due.at > now() THEN 'MAINTENANCE' ELSE 'MAINTENANCE_FORGOTTEN' END, m.tenant, NULL,
           CASE WHEN due.at > now() THEN m.updated_at ELSE due.at END,
           (SELECT count(*) FROM delivery d WHERE d.tenant = m.tenant AND d.state = 'RECEIVED'),
           nullif(concat_ws(': ', nullif(concat_ws(' ', 'by ' || m.enabled_by,
               'until ' || to_char(m.until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')), ''), m.reason), '')
    FROM tenant_maintenance m CROSS JOIN LATERAL (SELECT coalesce(m.until, m.updated_at + :forgotten::interval)) due (at)
    WHERE m.active
    UNION ALL
    SELECT 'PAUSED', nullif(p.tenant, ''), concat_ws(' ', p.scope, nullif(p.name, '')), p.since, 1,
           concat(p.reason, ' (', p.paused_by, ')')
    FROM paused p
)
SELECT * FROM found
WHERE :tenants::text[] IS NULL OR tenant IS NULL OR tenant = ANY (:tenants);
