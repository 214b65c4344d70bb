-- fragment: answers_count
-- Whether the answers that a delivery may have to come are still reckoned with.
coalesce(d.answers_until, d.finished_at + interval '1 day') > now()

-- fragment: tenants_owed
-- Whose messages wait in a lane: each tenant once, by the index.
tenants AS (
    (SELECT tenant FROM outbox WHERE lane = :lane ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT o.tenant FROM outbox o WHERE o.lane = :lane AND o.tenant > t.tenant
            ORDER BY o.tenant LIMIT 1)
    FROM tenants t WHERE t.tenant IS NOT NULL
)

-- fragment: messages
-- See `due`.
SELECT message.*, message.kind = 'order' AND coalesce((
    -- Not EXISTS, here and below: PostgreSQL may read all deliveries that are kept, for a hash table.
    SELECT d.state = 'ERROR' OR d.order_id IS NOT NULL
    FROM delivery d WHERE d.id = message.delivery_id
), false) AND (message.not_sent OR (
    SELECT count(*) FROM delivery d
    WHERE d.tenant = message.tenant AND d.correlation_id = message.correlation_id
      AND d.order_awaited AND {answers_count}
) = 0) AS withdrawn, message.kind = 'order' AND message.not_sent AND (
    SELECT count(*) FROM delivery d JOIN delivery own ON own.id = message.delivery_id
    WHERE d.tenant = message.tenant AND d.correlation_id = message.correlation_id
      AND (d.order_awaited AND d.order_id IS NULL OR d.answers_due > 0) AND {answers_count}
      AND greatest(d.finished_at, d.order_out_at) > now() - :patience::interval
      AND d.order_request::text <> own.order_request::text
) > 0 AS waits, message.share
FROM tenants t CROSS JOIN LATERAL (
    SELECT o.*, greatest(1, :limit / (SELECT count(tenant) FROM tenants)) AS share FROM outbox o
    WHERE o.lane = :lane AND o.tenant = t.tenant AND o.due_at <= now()
      AND o.kind = ANY (:kinds::text[])
      AND (o.begun_by IS NULL OR o.begun_by = :begun::uuid OR o.due_at <= now() - :turn::interval)
      AND NOT EXISTS (
          SELECT 1 FROM outbox earlier
          WHERE earlier.lane = o.lane AND earlier.delivery_id = o.delivery_id
            AND earlier.id < o.id)
      AND (o.kind <> 'order' OR NOT EXISTS (
          SELECT 1 FROM outbox earlier
          WHERE earlier.lane = 'orders' AND earlier.kind = 'order' AND earlier.tenant = o.tenant
            AND earlier.correlation_id = o.correlation_id AND earlier.id < o.id))
    ORDER BY o.id
    LIMIT greatest(1, :limit / (SELECT count(tenant) FROM tenants))
    FOR UPDATE SKIP LOCKED
) message
WHERE t.tenant IS NOT NULL -- the end of the list: all that waits would be read for it

-- name: due
-- Messages of a lane to publish now, the same number for each tenant that has any; of each
-- delivery only the first, so that order is kept however many relays there are. Of the :kinds alone
-- that this version knows: what is behind another one waits with it. Locked for as long as their
-- publishing takes. Order requests go out one after the other where they have the same correlation
-- id: answers come in their order. (No cancel holds one up: it may have no queue.) One whose delivery
-- has ended meanwhile is withdrawn if it is surely not sent, or if no answer to it, nor to one that it
-- has changed places with, is due; so is one whose delivery has an order, be it an earlier one's. One
-- that is surely not sent waits while the answer to another order of the
-- same correlation id is due, for :patience after the end of the delivery that asked for it, or after it
-- went out, if that was later: an answer does not tell which request it is for. One that another pass than :begun is about to send is left to
-- that for :turn. A tenant that has its share of them may have more that is due.
WITH RECURSIVE {tenants_owed}
{messages};

-- name: begin_new_orders
-- Note of the order requests that are due, and surely not out, that they may be from now on, whatever becomes of this
-- process; and that they wait for nothing. All in one statement: nothing stays locked, and none is to be sent yet.
WITH RECURSIVE {tenants_owed}, due AS MATERIALIZED (
{messages}
), begun AS (
    -- Arrays, here and below: for a join, PostgreSQL may read all that waits.
    UPDATE outbox SET begun_by = :by, due_at = now(), not_sent = false
    WHERE id = ANY (ARRAY(SELECT id FROM due WHERE not_sent AND NOT withdrawn AND NOT waits))
    RETURNING delivery_id
), goes AS (
    UPDATE delivery SET last_cause = NULL
    WHERE id = ANY (ARRAY(SELECT delivery_id FROM begun)) AND last_cause IS NOT NULL
)
SELECT count(*) FROM begun;

-- name: later_messages
-- Other kinds than those :known here, of which a message of a lane is to be published now.
SELECT DISTINCT kind FROM outbox
WHERE lane = :lane AND due_at <= now() AND kind <> ALL (:known::text[]);

-- name: held_back
-- Other kinds than those :known here, of which messages wait, and how many of the known ones they hold
-- back; no row if there are none.
WITH later AS (
    SELECT lane, delivery_id, kind, min(id) AS first FROM outbox
    WHERE kind <> ALL (:known::text[]) GROUP BY lane, delivery_id, kind
)
SELECT array_agg(DISTINCT later.kind ORDER BY later.kind) AS kinds,
       (SELECT count(*) FROM outbox behind
        WHERE behind.kind = ANY (:known::text[]) AND EXISTS (
            SELECT 1 FROM later l WHERE l.lane = behind.lane
            AND l.delivery_id = behind.delivery_id AND l.first < behind.id)) AS behind
FROM later HAVING count(*) > 0;

-- name: sent
-- The broker has confirmed these. An order request that goes out after the end of its delivery is
-- answered after that. Tells whether one waits that they held up: of the same delivery and lane, or an
-- order request of the same correlation id. (One that another process adds just now is not seen here,
-- nor sees that process that these are gone: it waits for the next look by the clock.)
WITH sent AS (
    DELETE FROM outbox WHERE id = ANY (:ids)
    RETURNING id, lane, delivery_id, kind, tenant, correlation_id
), out AS (
    UPDATE delivery SET order_out_at = now()
    WHERE id IN (SELECT delivery_id FROM sent WHERE kind = 'order') AND order_awaited
)
SELECT EXISTS (
    SELECT 1 FROM sent JOIN outbox next ON next.lane = sent.lane AND next.delivery_id = sent.delivery_id
    WHERE next.id > sent.id
) OR EXISTS (
    SELECT 1 FROM sent JOIN outbox next
        ON next.lane = 'orders' AND next.tenant = sent.tenant AND next.correlation_id = sent.correlation_id
    WHERE sent.kind = 'order' AND next.kind = 'order' AND next.id > sent.id
) AS follows;

-- name: withdraw_orders
-- These are not sent any more. Of one that never was, no answer comes: neither its delivery awaits
-- one, nor, where that has had the answer to an earlier request, the delivery of that request.
WITH withdrawn AS (
    DELETE FROM outbox WHERE id = ANY (:ids) RETURNING delivery_id, not_sent
)
UPDATE delivery SET order_awaited = false,
    answers_due = CASE WHEN order_awaited THEN answers_due ELSE greatest(answers_due - 1, 0) END
WHERE id IN (
    SELECT CASE WHEN d.order_awaited THEN d.id ELSE (
        SELECT earlier.id FROM delivery earlier
        WHERE earlier.tenant = d.tenant AND earlier.correlation_id = d.correlation_id
          AND (earlier.order_awaited AND earlier.order_id IS NULL OR earlier.answers_due > 0)
          AND coalesce(earlier.answers_until, earlier.finished_at + interval '1 day') > now()
        ORDER BY earlier.requested_at, earlier.id LIMIT 1
    ) END
    FROM withdrawn w JOIN delivery d ON d.id = w.delivery_id
    WHERE w.not_sent AND (d.order_awaited OR d.order_id IS NOT NULL));

-- name: begin_orders
-- These may be out from now on, whatever becomes of this process; and wait for nothing.
WITH begun AS (
    UPDATE outbox SET begun_by = :by, due_at = now(), not_sent = false
    WHERE id = ANY (:ids) RETURNING delivery_id
)
UPDATE delivery SET last_cause = NULL
WHERE id IN (SELECT delivery_id FROM begun) AND last_cause IS NOT NULL;

-- name: begin_again
-- These may be out already, and are about to be sent again: so another answer may come.
WITH again AS (
    UPDATE outbox SET begun_by = :by, due_at = now(), repeats = repeats + 1
    WHERE id = ANY (:ids) RETURNING delivery_id
)
UPDATE delivery SET answers_due = answers_due + 1, answers_until = now() + interval '1 day'
WHERE id IN (SELECT delivery_id FROM again);

-- name: let_wait
-- These wait for the answer to another order: look again after a :pause, which grows to :longest while
-- they wait. For which delivery's, and how long after its end.
WITH waits AS (
    UPDATE outbox o
    SET due_at = now() + greatest(:pause::interval,
                                  least(:longest::interval, (now() - own.state_since) / 4))
    FROM delivery own
    WHERE o.id = ANY (:ids) AND own.id = o.delivery_id
    RETURNING own.id, own.tenant, own.correlation_id, own.order_request, own.last_cause
)
SELECT DISTINCT ON (waits.id) waits.id, waits.last_cause, d.id AS earlier,
       greatest(d.finished_at, d.order_out_at) AS since
FROM waits JOIN delivery d
    ON d.tenant = waits.tenant AND d.correlation_id = waits.correlation_id
WHERE (d.order_awaited AND d.order_id IS NULL OR d.answers_due > 0) AND {answers_count}
  AND d.finished_at IS NOT NULL AND d.order_request::text <> waits.order_request::text
ORDER BY waits.id, since DESC, d.id;

-- name: note_wait
-- Why the order request of this one is not sent.
UPDATE delivery SET last_cause = :cause WHERE id = :id;

-- name: postpone
-- The broker has not confirmed this one: it stays owed. Where it surely never had it, that is known.
UPDATE outbox SET tries = tries + 1, last_error = :error, not_sent = :not_sent, begun_by = NULL,
    due_at = now() + least(interval '1 second' * 2 ^ least(tries, 10), :longest)
WHERE id = :id;

-- name: not_repeated
-- A try of this one was begun, and surely is not out, though an earlier one may be: so one answer less
-- may come.
WITH taken_back AS (
    UPDATE outbox SET repeats = repeats - 1 WHERE id = :id RETURNING delivery_id
)
UPDATE delivery SET answers_due = greatest(answers_due - 1, 0)
WHERE id IN (SELECT delivery_id FROM taken_back);

-- name: owed
-- Messages that are owed, by lane, and how long the oldest is overdue, however often it was tried.
SELECT lane, count(*) AS messages,
       greatest(0, extract(epoch FROM now() - min(since)))::float8 AS oldest
FROM {messages_owed} message GROUP BY lane;
