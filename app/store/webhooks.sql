-- fragment: is_next
-- Whether an owed event is due, and none of its delivery is to go before it: an earlier one that has
-- failed :order_tries times holds up no other any more.
e.dead_at IS NULL AND e.due_at <= now() AND NOT EXISTS (
    SELECT 1 FROM webhook_event earlier
    WHERE earlier.tenant = e.tenant AND earlier.webhook = e.webhook
      AND earlier.delivery_id = e.delivery_id AND earlier.id < e.id
      AND earlier.dead_at IS NULL AND earlier.tries < :order_tries)

-- name: owe_events
-- Events are owed to each webhook of their tenant that asks for them, by what its settings say in this
-- moment; twice to none. (A later version may write them otherwise: no delivery fails for that.)
INSERT INTO webhook_event (tenant, webhook, message_id, type, delivery_id, correlation_id, data, trace)
SELECT event.tenant, webhook.key, event.message_id, event.type, event.delivery_id,
       event.correlation_id, event.data::json, event.trace
FROM unnest(:tenants::text[], :message_ids::uuid[], :types::text[], :deliveries::uuid[],
            :correlation_ids::text[], :data::text[], :traces::text[]) WITH ORDINALITY
     AS event (tenant, message_id, type, delivery_id, correlation_id, data, trace, number)
JOIN tenant_setting setting ON setting.tenant = event.tenant AND setting.name = 'webhooks'
CROSS JOIN LATERAL json_each(
    CASE WHEN json_typeof(setting.value) = 'object' THEN setting.value ELSE '{}' END) AS webhook
WHERE webhook.value ->> 'enabled' IS DISTINCT FROM 'false'
  AND (json_typeof(webhook.value -> 'events') IS DISTINCT FROM 'array' OR event.type IN (
      SELECT json_array_elements_text(
          CASE WHEN json_typeof(webhook.value -> 'events') = 'array'
               THEN webhook.value -> 'events' ELSE '[]' END)))
ORDER BY event.number, webhook.key
ON CONFLICT DO NOTHING;

-- name: claim_webhook
-- Take the webhook, of those that are known, which has something due and was served longest ago: for
-- :ttl, no other worker does. None that is paused, nor one that is gone from this URL; and with
-- :steady, none that fails.
WITH chosen AS (
    SELECT known.tenant, known.name
    FROM unnest(:tenants::text[], :names::text[], :urls::text[]) AS known (tenant, name, url)
    LEFT JOIN webhook w ON w.tenant = known.tenant AND w.name = known.name
    WHERE (w.claimed_until IS NULL OR w.claimed_until <= now())
      AND (w.resume_at IS NULL OR w.resume_at <= now())
      AND (w.gone_url IS NULL OR w.gone_url <> known.url)
      AND (NOT :steady OR w.failures IS NULL OR w.failures = 0)
      AND EXISTS (
          SELECT 1 FROM webhook_event e
          WHERE e.tenant = known.tenant AND e.webhook = known.name AND {is_next})
    ORDER BY w.served_at NULLS FIRST, known.tenant, known.name
    LIMIT 1
)
INSERT INTO webhook (tenant, name, claim, claimed_until, served_at)
SELECT tenant, name, :claim, now() + :ttl::interval, clock_timestamp() FROM chosen
ON CONFLICT (tenant, name) DO UPDATE
SET claim = excluded.claim, claimed_until = excluded.claimed_until, served_at = excluded.served_at
WHERE webhook.claimed_until IS NULL OR webhook.claimed_until <= now()
RETURNING tenant, name, failures;

-- name: due_events
-- What is due to a webhook, the longest overdue first.
SELECT * FROM webhook_event e
WHERE e.tenant = :tenant AND e.webhook = :name AND {is_next}
ORDER BY e.due_at, e.id
LIMIT :limit;

-- name: event_taken
-- A webhook has taken this one.
DELETE FROM webhook_event WHERE id = :id;

-- name: event_failed
-- A webhook has not taken this one: it is tried again, the last time when it is given up.
UPDATE webhook_event SET tries = tries + 1, last_error = :error,
    due_at = least(now() + :pause::interval, owed_since + :given_up_after::interval),
    dead_at = CASE WHEN owed_since + :given_up_after::interval <= now() THEN now() END
WHERE id = :id AND dead_at IS NULL
RETURNING dead_at IS NOT NULL AS dead;

-- name: release_webhook
-- Give a webhook back that this worker had. One that took nothing is paused, for twice as long each
-- time, and for as long as it :asked.
UPDATE webhook SET claim = NULL, claimed_until = NULL,
    resume_at = CASE
        WHEN :failure::text IS NULL THEN NULL
        WHEN :sent::integer > 0 THEN now() + :asked::interval
        ELSE now() + greatest(:asked::interval, least(:longest::interval,
                                                     :first::interval * 2 ^ least(failures, 20)))
    END,
    failures = CASE WHEN :sent > 0 THEN 0 WHEN :failure IS NULL THEN failures ELSE failures + 1 END,
    failing_since = CASE
        WHEN :sent > 0 THEN NULL
        WHEN :failure IS NULL THEN failing_since
        ELSE coalesce(failing_since, now())
    END,
    last_success_at = CASE WHEN :sent > 0 THEN now() ELSE last_success_at END,
    last_error = CASE WHEN :failure IS NOT NULL THEN :failure WHEN :sent > 0 THEN NULL ELSE last_error END,
    gone_url = CASE WHEN :gone::text IS NOT NULL THEN :gone WHEN :sent > 0 THEN NULL ELSE gone_url END
WHERE tenant = :tenant AND name = :name AND claim = :claim
RETURNING name;

-- name: send_at_once
-- All that waits for a later try is tried now: the webhook takes events again.
UPDATE webhook_event SET due_at = now()
WHERE tenant = :tenant AND webhook = :name AND dead_at IS NULL AND due_at > now();

-- name: bury_events
-- What is owed to a webhook for so long is given up.
UPDATE webhook_event SET dead_at = now(), last_error = coalesce(last_error, :error)
WHERE tenant = :tenant AND webhook = :name AND dead_at IS NULL
  AND owed_since <= now() - :after::interval;

-- name: resend_events
-- Dead events are owed again, as if they had just happened.
UPDATE webhook_event SET dead_at = NULL, tries = 0, owed_since = now(), due_at = now()
WHERE tenant = :tenant AND webhook = :name AND dead_at IS NOT NULL
  AND (:events::uuid[] IS NULL OR message_id = ANY (:events));

-- name: try_webhook
-- A webhook is tried at once, whatever it answered.
UPDATE webhook SET resume_at = NULL, gone_url = NULL WHERE tenant = :tenant AND name = :name;

-- name: webhook_took
-- A webhook has taken an event just now.
UPDATE webhook SET resume_at = NULL, gone_url = NULL, failures = 0, failing_since = NULL,
    last_error = NULL, last_success_at = now()
WHERE tenant = :tenant AND name = :name;

-- name: webhooks_seen
-- What is known of the webhooks of tenants.
SELECT tenant, name, coalesce(owed, 0) AS owed, coalesce(dead, 0) AS dead, oldest_owed_at,
       last_success_at, failing_since, CASE WHEN resume_at > now() THEN resume_at END AS tried_again_at,
       last_error, gone_url, coalesce(dropped, 0) AS dropped
FROM (SELECT * FROM webhook WHERE tenant = ANY (:tenants::text[])) AS known
FULL JOIN (
    SELECT tenant, webhook AS name, count(*) FILTER (WHERE dead_at IS NULL) AS owed,
           count(dead_at) AS dead, min(happened_at) FILTER (WHERE dead_at IS NULL) AS oldest_owed_at
    FROM webhook_event WHERE tenant = ANY (:tenants) GROUP BY tenant, webhook
) AS events USING (tenant, name)
ORDER BY tenant, name;

-- name: dead_events
-- Events of a webhook that are dead, the newest first.
SELECT id AS number, message_id AS id, type, correlation_id, delivery_id, happened_at, dead_at AS died_at, tries,
       last_error
FROM webhook_event
WHERE tenant = :tenant AND webhook = :name AND dead_at IS NOT NULL
  AND webhook_event.id < :before
ORDER BY webhook_event.id DESC
LIMIT :limit;

-- name: give_up_events
-- What is owed for so long to webhooks that nothing is sent to is given up: they are disabled, gone, or
-- their secret can't be read.
UPDATE webhook_event SET dead_at = now(), last_error = coalesce(last_error, :error)
WHERE id IN (
    SELECT id FROM webhook_event
    WHERE dead_at IS NULL AND owed_since < now() - :after::interval LIMIT :limit)
RETURNING id;

-- name: forget_dead_events
-- Remove events that are dead for so long.
DELETE FROM webhook_event
WHERE id IN (SELECT id FROM webhook_event WHERE dead_at < now() - :age::interval LIMIT :limit)
RETURNING id;

-- name: forget_unnamed_events
-- Remove events of webhooks that no setting names any more.
DELETE FROM webhook_event
WHERE id IN (
    SELECT e.id FROM webhook_event e
    WHERE NOT EXISTS (
        SELECT 1 FROM tenant_setting s
        WHERE s.tenant = e.tenant AND s.name = 'webhooks' AND s.value -> e.webhook IS NOT NULL)
    LIMIT :limit)
RETURNING id;

-- name: forget_webhooks
-- Remove what is known of webhooks that no setting names any more.
DELETE FROM webhook w
WHERE NOT EXISTS (
    SELECT 1 FROM tenant_setting s
    WHERE s.tenant = w.tenant AND s.name = 'webhooks' AND s.value -> w.name IS NOT NULL);

-- name: drop_oldest_events
-- Of webhooks with more than :most events, remove the oldest beyond, dead ones first; and count them.
WITH beyond AS (
    SELECT id FROM (
        SELECT id, row_number() OVER (
            PARTITION BY tenant, webhook ORDER BY dead_at IS NOT NULL, id DESC) AS number
        FROM webhook_event
    ) numbered WHERE number > :most LIMIT :limit
), gone AS (
    DELETE FROM webhook_event WHERE id IN (SELECT id FROM beyond) RETURNING tenant, webhook
), counted AS (
    INSERT INTO webhook (tenant, name, dropped)
    SELECT tenant, webhook, count(*) FROM gone GROUP BY tenant, webhook
    ON CONFLICT (tenant, name) DO UPDATE SET dropped = webhook.dropped + excluded.dropped
)
SELECT tenant, webhook AS name, count(*) AS events FROM gone GROUP BY tenant, webhook;
