-- name: due
-- Messages of a lane to publish now, the same number for each tenant that has any; of each
-- delivery only the first, so that order is kept however many relays there are. Of the :kinds alone
-- that this version knows: what is behind another one waits with it. Locked for as long as their
-- publishing takes. An order request that is surely not sent, and whose delivery has ended
-- meanwhile, is withdrawn.
WITH RECURSIVE tenants AS (
    (SELECT tenant FROM outbox WHERE lane = :lane ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT o.tenant FROM outbox o WHERE o.lane = :lane AND o.tenant > t.tenant
            ORDER BY o.tenant LIMIT 1)
    FROM tenants t WHERE t.tenant IS NOT NULL
)
SELECT message.*, message.kind = 'order' AND message.not_sent AND EXISTS (
    SELECT 1 FROM delivery d WHERE d.id = message.delivery_id AND d.state = 'ERROR') AS withdrawn
FROM tenants t CROSS JOIN LATERAL (
    SELECT * FROM outbox o
    WHERE o.lane = :lane AND o.tenant = t.tenant AND o.due_at <= now()
      AND o.kind = ANY (:kinds::text[])
      AND NOT EXISTS (
          SELECT 1 FROM outbox earlier
          WHERE earlier.lane = o.lane AND earlier.delivery_id = o.delivery_id
            AND earlier.id < o.id)
    ORDER BY o.id
    LIMIT greatest(1, :limit / (SELECT count(tenant) FROM tenants))
    FOR UPDATE SKIP LOCKED
) message;

-- name: later_messages
-- Other kinds than those :known here, of which a message of a lane is to be published now.
SELECT DISTINCT kind FROM outbox
WHERE lane = :lane AND due_at <= now() AND kind <> ALL (:known::text[]);

-- name: sent
-- The broker has confirmed these.
DELETE FROM outbox WHERE id = ANY (:ids);

-- name: withdraw_orders
-- These are not sent: nothing is out that could be answered.
WITH withdrawn AS (
    DELETE FROM outbox WHERE id = ANY (:ids) RETURNING delivery_id
)
UPDATE delivery SET order_awaited = false
WHERE id IN (SELECT delivery_id FROM withdrawn) AND order_awaited;

-- name: about_to_send
-- These will be out from now on, whatever becomes of this process.
UPDATE outbox SET not_sent = false WHERE id = ANY (:ids);

-- name: postpone
-- The broker has not confirmed this one: it stays owed. Where it surely never had it, that is known.
UPDATE outbox SET tries = tries + 1, last_error = :error, not_sent = :not_sent AND kind = 'order',
    due_at = now() + least(interval '1 second' * 2 ^ least(tries, 10), :longest)
WHERE id = :id;

-- name: owed
-- Messages that are owed, by lane, and how long the oldest is overdue.
SELECT lane, count(*) AS messages,
       greatest(0, extract(epoch FROM now() - min(due_at)))::float8 AS oldest
FROM outbox GROUP BY lane;

-- name: last_error
-- Why the message that is owed longest was not confirmed.
SELECT last_error FROM outbox WHERE last_error IS NOT NULL ORDER BY due_at LIMIT 1;
