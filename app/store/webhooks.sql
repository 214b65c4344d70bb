-- fragment: is_next
-- Whether an owed event is due, and none of its delivery is to go before it: an earlier one that has
-- failed :order_tries times holds up no other any more.
e.dead_at IS NULL AND e.due_at <= now() AND NOT EXISTS (
    SELECT 1 FROM webhook_event earlier
    WHERE earlier.tenant = e.tenant AND earlier.webhook = e.webhook
      AND earlier.delivery_id = e.delivery_id AND earlier.id < e.id
      AND earlier.dead_at IS NULL AND earlier.tries < :order_tries)

-- fragment: with_events
-- The webhooks that have events, one after the other by an index: there are many events, and few webhooks.
with_events AS (
    (SELECT tenant, webhook AS name FROM webhook_event ORDER BY tenant, webhook LIMIT 1)
    UNION ALL
    SELECT following.tenant, following.webhook
    FROM with_events CROSS JOIN LATERAL (
        SELECT e.tenant, e.webhook FROM webhook_event e
        WHERE (e.tenant, e.webhook) > (with_events.tenant, with_events.name)
        ORDER BY e.tenant, e.webhook LIMIT 1) AS following
)

-- fragment: is_unnamed
-- Whether no setting names a webhook any more.
NOT EXISTS (
    SELECT 1 FROM tenant_setting s
    WHERE s.tenant = w.tenant AND s.name = 'webhooks' AND s.value -> w.name IS NOT NULL)

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
-- :steady, none that fails. What is known of another URL is forgotten, and all that waits is due.
WITH chosen AS (
    SELECT known.tenant, known.name, known.url, coalesce(w.url <> known.url, false) AS moved
    FROM unnest(:tenants::text[], :names::text[], :urls::text[]) AS known (tenant, name, url)
    LEFT JOIN webhook w ON w.tenant = known.tenant AND w.name = known.name
    WHERE (w.claimed_until IS NULL OR w.claimed_until <= now())
      AND (w.gone_url IS NULL OR w.gone_url <> known.url)
      AND (w.url <> known.url
           OR ((w.resume_at IS NULL OR w.resume_at <= now())
               AND (NOT :steady OR w.failures IS NULL OR w.failures = 0)))
      AND (EXISTS (
              SELECT 1 FROM webhook_event e
              WHERE e.tenant = known.tenant AND e.webhook = known.name AND {is_next})
           OR (w.url <> known.url AND EXISTS (
              SELECT 1 FROM webhook_event e
              WHERE e.tenant = known.tenant AND e.webhook = known.name AND e.dead_at IS NULL)))
    ORDER BY w.served_at NULLS FIRST, known.tenant, known.name
    LIMIT 1
), taken AS (
    INSERT INTO webhook (tenant, name, url, claim, claimed_until, served_at)
    SELECT tenant, name, url, :claim, now() + :ttl::interval, clock_timestamp() FROM chosen
    ON CONFLICT (tenant, name) DO UPDATE
    SET claim = excluded.claim, claimed_until = excluded.claimed_until, served_at = excluded.served_at,
        url = excluded.url,
        resume_at = CASE WHEN webhook.url <> excluded.url THEN NULL ELSE webhook.resume_at END,
        failures = CASE WHEN webhook.url <> excluded.url THEN 0 ELSE webhook.failures END,
        throttled = CASE WHEN webhook.url <> excluded.url THEN 0 ELSE webhook.throttled END,
        failing_since = CASE WHEN webhook.url <> excluded.url THEN NULL ELSE webhook.failing_since END,
        last_success_at = CASE WHEN webhook.url <> excluded.url THEN NULL ELSE webhook.last_success_at END,
        last_error = CASE WHEN webhook.url <> excluded.url THEN NULL ELSE webhook.last_error END
    WHERE webhook.claimed_until IS NULL OR webhook.claimed_until <= now()
    RETURNING tenant, name, failures
), hurried AS (
    UPDATE webhook_event e SET due_at = now()
    FROM taken JOIN chosen USING (tenant, name)
    WHERE chosen.moved AND e.tenant = taken.tenant AND e.webhook = taken.name
      AND e.dead_at IS NULL AND e.due_at > now()
)
SELECT tenant, name, failures FROM taken;

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
-- Give a webhook back that this worker had, with what it was like at this :url. One that took nothing
-- is paused, for twice as long each time, and so is one that wants fewer events at a time; or for as
-- long as it :asked.
UPDATE webhook SET claim = NULL, claimed_until = NULL, url = :url,
    resume_at = CASE
        WHEN :failure::text IS NULL THEN NULL
        WHEN :sent::integer > 0 AND NOT :throttles THEN now() + :asked::interval
        ELSE now() + greatest(:asked::interval, least(:longest::interval,
            :first::interval * 2 ^ least(CASE WHEN :sent > 0 THEN throttled ELSE failures END, 20)))
    END,
    failures = CASE WHEN :sent > 0 THEN 0 WHEN :failure IS NULL THEN failures ELSE failures + 1 END,
    throttled = CASE
        WHEN :throttles THEN throttled + 1
        WHEN :sent > 0 AND :failure IS NULL THEN 0
        ELSE throttled
    END,
    failing_since = CASE
        WHEN :sent > 0 THEN NULL
        WHEN :failure IS NULL THEN failing_since
        ELSE coalesce(failing_since, now())
    END,
    last_success_at = CASE WHEN :sent > 0 THEN now() ELSE last_success_at END,
    last_error = CASE WHEN :failure IS NOT NULL THEN :failure WHEN :sent > 0 THEN NULL ELSE last_error END,
    gone_url = CASE WHEN :gone THEN :url WHEN :sent > 0 THEN NULL ELSE gone_url END
WHERE tenant = :tenant AND name = :name AND claim = :claim
RETURNING name;

-- name: send_at_once
-- All that waits for a later try is tried now: the webhook takes events again.
UPDATE webhook_event SET due_at = now()
WHERE tenant = :tenant AND webhook = :name AND dead_at IS NULL AND due_at > now();

-- name: bury_events
-- What is owed to a webhook for so long is given up, unless it is to be sent to another URL by now.
UPDATE webhook_event SET dead_at = now(), last_error = coalesce(last_error, :error)
WHERE tenant = :tenant AND webhook = :name AND dead_at IS NULL
  AND owed_since <= now() - :after::interval
  AND EXISTS (
      SELECT 1 FROM tenant_setting s
      WHERE s.tenant = :tenant AND s.name = 'webhooks' AND s.value -> :name ->> 'url' = :url);

-- name: resend_events
-- Dead events are owed again, as if they had just happened.
UPDATE webhook_event SET dead_at = NULL, tries = 0, owed_since = now(), due_at = now()
WHERE tenant = :tenant AND webhook = :name AND dead_at IS NOT NULL
  AND (:events::uuid[] IS NULL OR message_id = ANY (:events));

-- name: try_webhook
-- A webhook is tried at once, whatever it answered.
UPDATE webhook SET resume_at = NULL, gone_url = NULL WHERE tenant = :tenant AND name = :name;

-- name: webhook_took
-- A webhook has taken an event just now, at this URL.
UPDATE webhook SET url = :url, throttled = 0, resume_at = NULL, gone_url = NULL, failures = 0, failing_since = NULL,
    last_error = NULL, last_success_at = now()
WHERE tenant = :tenant AND name = :name;

-- name: webhooks_seen
-- What is known of the webhooks of tenants. Of one that is disabled, or is at another URL by now, nothing
-- is told of how the old one took events.
WITH RECURSIVE {with_events},
known AS (SELECT tenant, name FROM with_events UNION SELECT tenant, name FROM webhook)
SELECT known.tenant, known.name, w.url, setting.enabled, owed.count AS owed, dead.count AS dead,
       oldest_owed_at, w.last_success_at, w.failing_since,
       CASE WHEN w.resume_at > now() THEN w.resume_at END AS tried_again_at,
       w.last_error, w.gone_url, coalesce(counted.dropped, 0) AS dropped
FROM known
LEFT JOIN tenant_setting s ON s.tenant = known.tenant AND s.name = 'webhooks'
CROSS JOIN LATERAL (
    SELECT s.value -> known.name ->> 'url' AS url,
           s.value -> known.name IS NOT NULL
           AND s.value -> known.name ->> 'enabled' IS DISTINCT FROM 'false' AS enabled) AS setting
LEFT JOIN webhook counted ON counted.tenant = known.tenant AND counted.name = known.name
LEFT JOIN webhook w ON w.tenant = known.tenant AND w.name = known.name
    AND setting.enabled AND w.url = setting.url
CROSS JOIN LATERAL (
    SELECT count(*) FROM webhook_event e
    WHERE e.tenant = known.tenant AND e.webhook = known.name AND e.dead_at IS NULL) AS owed
CROSS JOIN LATERAL (
    SELECT count(*) FROM webhook_event e
    WHERE e.tenant = known.tenant AND e.webhook = known.name AND e.dead_at IS NOT NULL) AS dead
CROSS JOIN LATERAL (
    SELECT min(happened_at) AS oldest_owed_at FROM webhook_event e
    WHERE e.tenant = known.tenant AND e.webhook = known.name AND e.dead_at IS NULL) AS oldest
WHERE known.tenant = ANY (:tenants::text[])
ORDER BY known.tenant, known.name;

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
WHERE id = ANY (ARRAY(
    SELECT id FROM webhook_event
    WHERE dead_at IS NULL AND owed_since < now() - :after::interval LIMIT :limit))
RETURNING id;

-- name: forget_dead_events
-- Remove events that are dead for so long.
DELETE FROM webhook_event
WHERE id = ANY (ARRAY(SELECT id FROM webhook_event WHERE dead_at < now() - :age::interval LIMIT :limit))
RETURNING id;

-- name: forget_unnamed_events
-- Remove events of webhooks that no setting names any more.
WITH RECURSIVE {with_events},
unnamed AS MATERIALIZED (SELECT tenant, name FROM with_events w WHERE {is_unnamed})
DELETE FROM webhook_event
WHERE id = ANY (ARRAY(
    SELECT e.id FROM unnamed w CROSS JOIN LATERAL (
        SELECT id FROM webhook_event WHERE tenant = w.tenant AND webhook = w.name LIMIT :limit) AS e
    LIMIT :limit))
RETURNING id;

-- name: forget_webhooks
-- Remove what is known of webhooks that no setting names any more.
DELETE FROM webhook w WHERE {is_unnamed};

-- name: drop_oldest_events
-- Of webhooks with more than :most events, remove the oldest beyond, dead ones first; and count them.
WITH RECURSIVE {with_events},
beyond AS (
    SELECT e.id FROM with_events w CROSS JOIN LATERAL (
        SELECT id FROM webhook_event e
        WHERE e.tenant = w.tenant AND e.webhook = w.name
        ORDER BY dead_at IS NOT NULL, id DESC OFFSET :most) AS e
    WHERE :most < (SELECT count(*) FROM webhook_event e WHERE e.tenant = w.tenant AND e.webhook = w.name)
    LIMIT :limit
), gone AS (
    DELETE FROM webhook_event WHERE id = ANY (ARRAY(SELECT id FROM beyond)) RETURNING tenant, webhook
), counted AS (
    INSERT INTO webhook (tenant, name, dropped)
    SELECT tenant, webhook, count(*) FROM gone GROUP BY tenant, webhook
    ON CONFLICT (tenant, name) DO UPDATE SET dropped = webhook.dropped + excluded.dropped
)
SELECT tenant, webhook AS name, count(*) AS events FROM gone GROUP BY tenant, webhook;
