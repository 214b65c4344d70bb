-- name: lock_digests
-- Two redeliveries of one message may be handled at once: the second waits for the first.
SELECT pg_advisory_xact_lock(digest) FROM unnest(:digests::bigint[]) AS digest;

-- fragment: receipts
-- Events are noted in the inbox; none of them needs further care. No row for one that is there already
-- (Kafka gave it again, or it was appended again). Refused, that is not `counted`, are copies of a
-- message that counted: one that may be a repeat (it is flagged), if its digest is known; one that may
-- not, if a repeat of it has overtaken it, which arrived no earlier (any, where RabbitMQ did not get its
-- acknowledgement: it may not flag what it gives again); and one, whatever it says, that comes within an hour after the acknowledgement of
-- another was lost, be that a copy itself. (The same message sent again by a client arrives later, and counts.) Times are those
-- at which this database saved the arrivals; an event without one was handled, which the inbox knows,
-- or put back by an operator: then the worker's clock (:received_at) is all there is, but it is never
-- in the future.
handled AS (
    DELETE FROM arrival WHERE id = ANY (:ids::uuid[]) RETURNING id, received_at, returned_at
), arrived AS (
    SELECT event.id, event.kind, event.digest, handled.returned_at,
           event.flagged,
           coalesce(handled.received_at, least(event.received_at, clock_timestamp())) AS at
    FROM unnest(:ids::uuid[], :kinds::text[], :digests::bytea[], :flagged::boolean[],
                :received_at::timestamptz[])
         AS event (id, kind, digest, flagged, received_at)
    LEFT JOIN handled ON handled.id = event.id
    WHERE NOT EXISTS (SELECT 1 FROM inbox known WHERE known.ingress_id = event.id)
), judged AS (
    SELECT *, EXISTS (
        SELECT 1 FROM inbox known
        WHERE known.digest = arrived.digest AND known.kind = arrived.kind
          AND (known.counted AND (arrived.flagged OR known.flagged AND known.arrived_at >= arrived.at)
               -- Its own copy was handled, be that refused as one of a copy before.
               OR arrived.returned_at IS NOT NULL AND known.arrived_at >= arrived.at
               OR known.returned_at > arrived.at - interval '1 hour')) AS copy,
        EXISTS (
        SELECT 1 FROM inbox known
        WHERE known.digest = arrived.digest AND known.kind = arrived.kind
          AND known.arrived_at >= arrived.at) AS overtaken
    FROM arrived
), met AS (
    UPDATE inbox known SET returned_at = NULL
    FROM arrived
    WHERE known.digest = arrived.digest AND known.kind = arrived.kind
      -- One that came before it, and is late, is not the copy that is to come.
      AND known.returned_at IS NOT NULL AND known.arrived_at <= arrived.at
), noted AS (
    INSERT INTO inbox (ingress_id, kind, digest, flagged, arrived_at, counted, returned_at)
    SELECT id, kind, digest, flagged OR returned_at IS NOT NULL, at, NOT copy,
           -- What was given again in place of a copy may be there already.
           CASE WHEN NOT (copy AND overtaken) THEN returned_at END
    FROM judged
    ON CONFLICT (ingress_id) DO NOTHING
    RETURNING ingress_id, arrived_at, counted
)

-- name: record_receipts
-- Note events in the inbox; tell which count.
WITH {receipts}
SELECT ingress_id, arrived_at, counted FROM noted;

-- name: record_receipt_and_lock
-- Note an event in the inbox. If it counts, one row: with the active delivery of a correlation id, if there
-- is one, held as by `lock_active`. (Nothing else that is asked about the delivery stands here: it would be
-- seen as it was before the wait for that lock.)
WITH {receipts}
SELECT noted.arrived_at, active.*
FROM noted LEFT JOIN LATERAL (
    SELECT * FROM delivery
    WHERE tenant = :tenant AND correlation_id = :correlation_id AND state NOT IN ({ended})
    FOR NO KEY UPDATE
) active ON true
WHERE noted.counted;

-- name: note_denial
-- Keep why a request is denied: of one that did not come over AMQP, there is nothing to keep it with.
UPDATE inbox SET denied_as = :error_type, denied_because = :reason WHERE ingress_id = :id;

-- name: answered_before
-- How requests were answered of which these messages were refused as copies: each is one of the last that
-- counted. Its delivery, if that has ended; where it opened none, the last one of its client that has ended,
-- or why it was denied, if none was requested since. No row while one is active.
WITH refused AS (
    SELECT message.*, known.ingress_id AS request, known.arrived_at, known.denied_as, known.denied_because
    FROM unnest(:ids::uuid[], :tenants::text[], :correlation_ids::text[])
         AS message (copy, tenant, correlation_id)
    JOIN inbox ON inbox.ingress_id = message.copy AND NOT inbox.counted
    CROSS JOIN LATERAL (
        SELECT * FROM inbox known
        WHERE known.digest = inbox.digest AND known.kind = inbox.kind AND known.counted
        ORDER BY known.arrived_at DESC, known.ingress_id
        LIMIT 1
    ) known
    WHERE NOT EXISTS (
        SELECT 1 FROM delivery active
        WHERE active.tenant = message.tenant AND active.correlation_id = message.correlation_id
          AND active.state NOT IN ({ended}))
)
SELECT refused.copy, refused.request, refused.denied_as, refused.denied_because, d.*
FROM refused LEFT JOIN LATERAL (
    SELECT * FROM delivery d
    WHERE d.tenant = refused.tenant AND d.correlation_id = refused.correlation_id
      AND d.state IN ({ended}) AND (refused.denied_as IS NULL OR d.requested_at > refused.arrived_at)
    ORDER BY d.id = refused.request DESC, d.requested_at DESC, d.id
    LIMIT 1
) d ON true;

-- name: open_deliveries
-- Save new deliveries, each with its time to live from :requested_at on (null is now), up to a deadline. No
-- row for one whose correlation id is in use.
INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, order_request,
                      origin_app, priority, requested_at, expires_at, trace, rank, format, labels, deadline,
                      archive_template, prefix_template, partial, held)
SELECT id, tenant, correlation_id, state, user_email, target, order_request,
       origin_app, priority, at, least(at + ttl, deadline), trace, at - priority * interval '1 minute', format,
       ARRAY(SELECT json_array_elements_text(labels::json)), deadline, archive_template, prefix_template,
       partial, held
FROM unnest(:ids::uuid[], :tenants::text[], :correlation_ids::text[], :states::text[],
            :users::text[], :targets::text[], :orders::json[], :origin_apps::text[],
            :priorities::smallint[], :requested_at::timestamptz[], :ttls::interval[], :traces::text[],
            :formats::text[], :labels::text[], :deadlines::timestamptz[],
            :archive_templates::text[], :prefix_templates::text[], :partial::boolean[],
            :held::boolean[])
     AS opening (id, tenant, correlation_id, state, user_email, target, order_request,
                 origin_app, priority, requested_at, ttl, trace, format, labels, deadline,
                 archive_template, prefix_template, partial, held),
     LATERAL (SELECT coalesce(requested_at, clock_timestamp()) AS at) AS request
ON CONFLICT (tenant, correlation_id) WHERE state NOT IN ({ended}) DO NOTHING
RETURNING *;

-- name: asked_before
-- What was asked for over HTTP with this key, whatever it was; else, if :active, by the same request,
-- as long as its delivery is active.
SELECT request, delivery_id FROM (
    SELECT request, delivery_id, 1 AS rank FROM asked WHERE key = :key
    UNION ALL
    SELECT asked.request, asked.delivery_id, 2
    FROM asked JOIN delivery ON delivery.id = asked.delivery_id
    WHERE :active::boolean AND asked.request = :request AND delivery.state NOT IN ({ended})
) known
ORDER BY rank
LIMIT 1;

-- name: record_request
-- This delivery is the answer to a request that came with this key, or with none.
INSERT INTO asked (request, key, delivery_id)
SELECT :request::bytea, :key::bytea, :delivery::uuid
WHERE NOT EXISTS (
    SELECT 1 FROM asked
    WHERE request = :request AND delivery_id = :delivery
      AND (:key::bytea IS NULL OR key = :key));

-- name: delete_ungranted
-- Forget a delivery that was never granted.
DELETE FROM delivery WHERE id = :id AND state = 'RECEIVED' RETURNING id;

-- name: lock_active
-- The active delivery of a correlation id, held until the transaction ends. Not its key: files that
-- are being written refer to that, for as long as a large manifest takes.
SELECT * FROM delivery
WHERE tenant = :tenant AND correlation_id = :correlation_id AND state NOT IN ({ended})
FOR NO KEY UPDATE;

-- name: withdraw_order
-- Take a delivery's order request back, if it is surely not sent. No row when it may be out, or is
-- being sent, that is locked by a relay, which must not be waited for (it may wait for the broker).
DELETE FROM outbox
WHERE id IN (
    SELECT id FROM outbox
    WHERE lane = 'orders' AND delivery_id = :delivery AND kind = 'order' AND not_sent
    FOR UPDATE SKIP LOCKED
)
RETURNING id;

-- name: order_is_unsent
-- Whether a delivery's order request is owed and surely not out. A relay may begin to send it after this.
SELECT EXISTS (
    SELECT 1 FROM outbox
    WHERE lane = 'orders' AND delivery_id = :delivery AND kind = 'order' AND not_sent);

-- name: await_order
-- This one has ended, and the answer to its order request may still come.
UPDATE delivery SET order_awaited = true, answers_until = now() + :patience::interval WHERE id = :id;

-- fragment: of_client
-- The ids of a client's deliveries first: the index by time has their order, but all that the tenant has.
of_client AS MATERIALIZED (
    SELECT id FROM delivery WHERE tenant = :tenant AND correlation_id = :correlation_id
)

-- fragment: answer_may_come
-- To the order request of one of them.
id IN (SELECT id FROM of_client)
  AND (order_awaited AND order_id IS NULL
       OR answers_due > 0 AND (order_id IS NOT NULL OR state IN ({ended})))
  AND coalesce(answers_until, finished_at + interval '1 day') > now()
  AND requested_at <= coalesce(:arrived_at::timestamptz, 'infinity')

-- name: awaited_orders
-- Deliveries of a correlation id to whose order request an answer may come, the oldest first: ended ones
-- that have none yet, and those whose request was sent again (an active one once it has the first); of
-- those that were requested before :arrived_at, where that is given.
WITH {of_client}
SELECT * FROM delivery
WHERE {answer_may_come}
ORDER BY requested_at, id
FOR NO KEY UPDATE;

-- name: awaited_unless_had
-- The same, and whether an order belonged to an earlier delivery of the same correlation id, or was made of a request
-- that was sent again: then there is one row that says so, and none of them is locked.
WITH {of_client}
SELECT had, awaited.*
FROM (SELECT EXISTS (
    SELECT 1 FROM delivery
    WHERE tenant = :tenant AND correlation_id = :correlation_id
      AND (order_id = :order_id AND state IN ({ended}) OR :order_id = ANY (repeated_orders))) AS had) known
LEFT JOIN LATERAL (
    SELECT * FROM delivery
    WHERE NOT known.had AND {answer_may_come}
    ORDER BY requested_at, id
    FOR NO KEY UPDATE
) awaited ON true
ORDER BY requested_at, id;

-- name: answers_before
-- Whether an event of rs-order with this key arrived earlier, and is not handled yet.
SELECT EXISTS (
    SELECT 1 FROM arrival
    WHERE kind = 'order-event' AND key = :key AND received_at < :arrived_at::timestamptz);

-- name: record_answer
-- rs-order has answered, and named its order, or none: the first answer, if that is awaited, or another
-- one.
UPDATE delivery SET
    order_id = CASE WHEN order_awaited THEN :order_id ELSE order_id END,
    repeated_orders = CASE WHEN order_awaited OR :order_id::bigint IS NULL THEN repeated_orders
                           ELSE repeated_orders || :order_id::bigint END,
    answers_due = CASE WHEN order_awaited THEN answers_due ELSE greatest(answers_due - 1, 0) END,
    order_awaited = false
WHERE id = :id;

-- name: look_again
-- An order request of this correlation id may have waited for that answer. (One that is locked is being
-- looked at.)
UPDATE outbox SET due_at = now()
WHERE id IN (
    SELECT id FROM outbox
    WHERE lane = 'orders' AND tenant = :tenant AND correlation_id = :correlation_id
      AND kind = 'order' AND not_sent AND due_at > now()
    FOR UPDATE SKIP LOCKED);

-- fragment: advanced
-- Compare and set: leave the state (:seen) and attempt that the caller saw. Frees the lease; at the end,
-- what was saved of a half-made archive goes, too, and what its manifest was made of. With :unheard, not
-- where a webhook may hear of it.
advanced AS (
    UPDATE delivery SET
        state = :state,
        order_id = coalesce(:order_id, order_id),
        total_suborders = coalesce(:total_suborders, total_suborders),
        archive_name = coalesce(:archive_name, archive_name),
        prefix = coalesce(:prefix, prefix),
        file_count = coalesce(:file_count, file_count),
        total_bytes = coalesce(:total_bytes, total_bytes),
        plan = coalesce(:plan::json, plan),
        rank = least(rank, :begins_by::timestamptz),
        order_done = order_done OR :order_done,
        url = :url, md5 = :md5, archive_size = :archive_size, etag = :etag,
        error_type = :error_type, error_message = :error_message, error_code = :error_code, told = :told,
        -- What an attempt that failed has completed all the same is still to be removed.
        completing = CASE WHEN :state <> 'DONE' THEN completing END,
        completing_until = CASE WHEN :state <> 'DONE' THEN completing_until END,
        done_in = CASE WHEN :state = 'DONE' THEN completing ->> 'server' END,
        left_open = :left_open,
        ending_type = NULL, ending_message = NULL, ending_code = NULL,
        parked = false, held = false, lease_owner = NULL, lease_until = NULL,
        -- Of no use once the upload is completed, and it holds a secret.
        upload_target = CASE WHEN :state <> 'DONE' THEN upload_target END,
        not_before = now(), updated_at = now(), tries = 0, last_cause = NULL,
        finished_at = CASE WHEN :state IN ({ended}) THEN now() END
    WHERE id = :id AND state = :seen AND attempt = :attempt
      -- What comes too late is not ordered.
      AND NOT (:state = 'GRANTED' AND coalesce(deadline <= now(), false))
      AND NOT (:unheard::boolean AND EXISTS (
          SELECT 1 FROM tenant_setting s WHERE s.tenant = delivery.tenant AND s.name = 'webhooks'))
    RETURNING id
), forgotten AS (
    DELETE FROM checkpoint USING advanced
    WHERE delivery_id = advanced.id AND :state IN ({ended})
), forgotten_files AS (
    DELETE FROM file_checkpoint USING advanced
    WHERE delivery_id = advanced.id AND :state IN ({ended})
), listed AS (
    DELETE FROM file_contents USING advanced
    WHERE delivery_id = advanced.id AND :state IN ({ended})
)

-- name: advance
-- Compare and set; no row where the delivery has moved on.
WITH {advanced}
SELECT id FROM advanced;

-- name: finish
-- Compare and set, and owe the answer, all in one statement. Nothing of it where the tenant has webhooks,
-- which is told: they are owed the event in the same transaction.
WITH {advanced}, owed AS (
    INSERT INTO outbox (lane, delivery_id, kind, message_id, tenant, correlation_id, priority,
                        origin_app, body, trace)
    SELECT :lane::text, id, :kind::text, :message_id::uuid, :tenant::text, :correlation_id::text,
           :priority::smallint, :origin_app::text, :body::json, :trace::text
    FROM advanced
)
SELECT EXISTS (SELECT 1 FROM advanced) AS done,
       EXISTS (SELECT 1 FROM tenant_setting WHERE tenant = :tenant AND name = 'webhooks') AS heard;

-- name: plan
-- Compare and set, write all files of a manifest, and tell workers, all in one statement: nothing of it where
-- the delivery has moved on.
WITH {advanced}, written AS (
    INSERT INTO delivery_file (delivery_id, position, file_id, member, size, md5, crc32, product_id,
                               product_version, media_type)
    SELECT advanced.id, file.*
    FROM advanced, unnest(:positions::integer[], :file_ids::bigint[], :members::text[], :sizes::bigint[],
                          :md5s::text[], :crc32s::bigint[], :product_ids::text[], :product_versions::bigint[],
                          :media_types::text[]) AS file
)
SELECT id, pg_notify('delivery_work', :work::text) FROM advanced;

-- name: announce
-- Add a segment. What waits for it may be claimed: the first time not before :after, since the end of a
-- small order follows at once. No row if it was announced before; one of what the whole order has, if such a
-- one waits to be listed, or is the last one, since the order was done by then.
WITH counted AS (
    UPDATE delivery SET
        announced = announced + 1, parked = false,
        -- Null: not told. What is said late of an order that is done tells the least there are, too.
        total_suborders = CASE WHEN NOT order_done OR total_suborders IS NOT NULL
                               THEN greatest(total_suborders, :total_suborders::bigint) END,
        last_cause = CASE WHEN NOT parked THEN last_cause END,  -- that it was waited for
        not_before = CASE WHEN parked THEN now() WHEN announced = 0 THEN now() + :after ELSE not_before END
    WHERE id = :id AND NOT EXISTS (
        SELECT 1 FROM segment
        WHERE delivery_id = :id AND suborder_id IS NOT DISTINCT FROM :suborder::bigint
          AND (:suborder::bigint IS NOT NULL OR listed_at IS NULL OR at_end))
    RETURNING announced, order_done
)
INSERT INTO segment (delivery_id, number, suborder_id, at_end)
SELECT :id, announced, :suborder, order_done FROM counted
RETURNING number;

-- name: end_order
-- No further suborder comes. What waits for that may be claimed. Only what is told with the end is how many there
-- are (null: it is not told): what was told before, is the least that there would be.
UPDATE delivery SET
    order_done = true, parked = false,
    last_cause = CASE WHEN NOT parked THEN last_cause END,  -- that it was waited for
    total_suborders = :total_suborders,
    order_error_type = coalesce(:error_type, order_error_type),
    order_error_message = coalesce(:error_message, order_error_message),
    order_error_files = greatest(:error_files::bigint, order_error_files),
    not_before = CASE WHEN parked OR state = 'AVAILABLE' THEN now() ELSE not_before END
WHERE id = :id;

-- name: list_segment
-- The files of a segment are in the manifest, or (:extends) more of the last one that is. Totals grow with it where
-- rs-order did not tell them all. No row if the attempt is over.
WITH held AS (
    UPDATE delivery SET
        listed = :number, plan = :plan,
        file_count = file_count + :more_files, total_bytes = total_bytes + :more_bytes
    WHERE id = :id AND attempt = :attempt AND state = 'TRANSFERRING'
      AND listed = CASE WHEN :extends::boolean THEN :number ELSE :number - 1 END
    RETURNING id
)
UPDATE segment SET listed_at = clock_timestamp(), file_count = :files
FROM held
WHERE delivery_id = held.id AND number = :number
RETURNING number;

-- name: add_missing
-- Note files that rs-order never listed, which are not in the manifest: behind those that were noted
-- before, from :least on.
INSERT INTO missing_file (delivery_id, number, file_id, member, size, product_id, product_version, files, cause)
SELECT :id::uuid, greatest(:least::bigint - 1, (SELECT max(number) FROM missing_file WHERE delivery_id = :id)) + each.place,
       each.file_id, each.member, each.size, each.product_id, each.product_version, each.files, each.cause
FROM unnest(:file_ids::bigint[], :members::text[], :sizes::bigint[], :product_ids::text[],
            :product_versions::bigint[], :files::bigint[], :causes::text[])
     WITH ORDINALITY AS each (file_id, member, size, product_id, product_version, files, cause, place);

-- name: forget_never_listed
-- What was noted behind the manifest is looked for again.
DELETE FROM missing_file WHERE delivery_id = :id AND number >= :least::bigint;

-- name: take_crc32s
-- The CRC-32s that were told of files of a delivery, which need not be kept any more.
DELETE FROM told_crc32 WHERE delivery_id = :id AND file_id = ANY (:file_ids::bigint[])
RETURNING file_id, crc32;

-- name: forget_crc32s_beside_md5s
-- Forget the CRC-32s that were told of files of a delivery, unless nothing better is known: an MD5. Of
-- files that are not listed yet it is not known what will be. Tells how many files of the manifest had both.
WITH kept AS (DELETE FROM told_crc32 WHERE delivery_id = :id),
     known AS (
    UPDATE delivery_file SET crc32 = NULL
    WHERE delivery_id = :id AND crc32 IS NOT NULL AND md5 IS NOT NULL
    RETURNING position
)
SELECT count(*) FROM known;

-- name: segments
-- What is known of a delivery's order, and its segments in their order.
SELECT d.order_done, d.order_error_type IS NOT NULL AS with_errors,
       d.order_error_message, d.order_error_files, d.total_suborders, now() - min(s.announced_at) OVER () AS age, s.number, s.suborder_id,
       s.at_end, s.listed_at IS NOT NULL AS listed, s.file_count, now() - s.announced_at AS segment_age
FROM delivery d LEFT JOIN segment s ON s.delivery_id = d.id
WHERE d.id = :id
ORDER BY s.number;

-- name: note_ending
-- Note how a delivery ends, as an attempt may just be completing its archive; what was noted first stays.
-- The attempt that does so keeps its lease, unless it lets go; of another one it is taken, so that it
-- stops, and the next one that claims it looks what became of the archive. That one keeps its lease, should
-- an end be noted once more.
UPDATE delivery SET
    ending_type = coalesce(ending_type, :error_type),
    ending_message = CASE WHEN ending_type IS NULL THEN :error_message ELSE ending_message END,
    ending_code = CASE WHEN ending_type IS NULL THEN :code ELSE ending_code END,
    last_cause = :error_message, last_code = '+' || :code::text,
    lease_owner = CASE WHEN NOT :lets_go AND (completing_attempt = attempt OR ending_type IS NOT NULL)
                       THEN lease_owner END,
    lease_until = CASE WHEN NOT :lets_go AND (completing_attempt = attempt OR ending_type IS NOT NULL)
                       THEN lease_until END,
    not_before = now(), updated_at = now()
WHERE id = :id AND state = :seen AND attempt = :attempt AND completing_until > now()
RETURNING id;

-- name: enqueue
-- Put messages into the outbox, in their order. Tells whether a tenant of them has webhooks.
WITH owed AS (
    INSERT INTO outbox (lane, delivery_id, kind, message_id, tenant, correlation_id, priority,
                        origin_app, body, trace, not_sent)
    SELECT lane, delivery_id, kind, message_id, tenant, correlation_id, priority,
           origin_app, body, trace, kind = 'order'
    FROM unnest(:lanes::text[], :deliveries::uuid[], :kinds::text[], :message_ids::uuid[], :tenants::text[],
                :correlation_ids::text[], :priorities::smallint[], :origin_apps::text[], :bodies::json[],
                :traces::text[]) WITH ORDINALITY
         AS message (lane, delivery_id, kind, message_id, tenant, correlation_id, priority,
                     origin_app, body, trace, number)
    ORDER BY number
)
SELECT EXISTS (SELECT 1 FROM tenant_setting WHERE tenant = ANY (:tenants::text[]) AND name = 'webhooks');

-- name: record_place
-- The order of a delivery that is done may keep its user's place at rs-order: if it had several suborders
-- (:several), or has a file whose download rs-order does not see.
INSERT INTO place (delivery_id, due_at)
SELECT :id, now() + :after::interval
WHERE :several::boolean
   OR EXISTS (SELECT 1 FROM delivery_file WHERE delivery_id = :id AND size >= :unseen)
ON CONFLICT DO NOTHING;

-- name: record_places_of
-- The orders of a user's last deliveries that are done may keep places of theirs.
INSERT INTO place (delivery_id, since, due_at)
SELECT id, finished_at, now() FROM delivery
WHERE tenant = :tenant AND user_email = :user AND state = 'DONE' AND order_id IS NOT NULL
  AND finished_at > now() - :within::interval
ORDER BY finished_at DESC
LIMIT :limit
ON CONFLICT DO NOTHING
RETURNING delivery_id;

-- name: forget_place
-- It keeps none, or not any more; or that can't be known. No row if that was noted before.
UPDATE place SET answered_at = now() WHERE delivery_id = :id AND answered_at IS NULL RETURNING delivery_id;

-- name: record_kept_places
-- So many of its user's places a parked delivery's order was seen to keep for what was downloaded.
UPDATE delivery SET kept_places = :places WHERE id = :id AND parked AND kept_places <> :places;

-- name: kept_places_of
-- Which parked deliveries of a user keep places so, the one that was requested first, first.
SELECT * FROM delivery
WHERE tenant = :tenant AND user_email = :user AND parked AND kept_places > 0
ORDER BY requested_at, id;

-- name: retry_now
-- What waits for a later attempt may be claimed now.
UPDATE delivery SET not_before = now()
WHERE id = :id AND work IS NOT NULL AND (lease_until IS NULL OR lease_until < now())
RETURNING id;

-- name: relied_on
-- Whether an object was told to a client, or another delivery, or a later attempt of this one than
-- :attempt, is just making one of that name in its namespace (where an older worker noted none, it may
-- be there). A later attempt that is done has just made another one than was found: its object may be
-- there by now, and not every store looks at the ETag of what it deletes.
SELECT EXISTS (
    SELECT 1 FROM delivery
    WHERE url = :url AND state = 'DONE' AND (etag = :etag OR etag IS NULL))
OR EXISTS (
    SELECT 1 FROM delivery
    WHERE completing_until > now() AND completing ->> 'url' = :url AND id <> :id
      AND coalesce(completing ->> 'server', :namespace) = :namespace)
OR EXISTS (
    SELECT 1 FROM delivery
    WHERE id = :id AND attempt <> :attempt AND state <> 'ERROR');

-- name: postpone_arrival
-- An event that has to wait for another one is due again after the :pause.
UPDATE arrival SET appends = 0, due_at = now() + :pause::interval WHERE id = :id;

-- name: expired
-- Active deliveries whose time is over, the longest overdue first; of those whose end is noted, the ones
-- for which no completion can be under way any more.
SELECT * FROM (
    (SELECT * FROM delivery
     WHERE state NOT IN ({ended}) AND expires_at <= now() AND ending_type IS NULL
       -- What waits for the end of a maintenance has not begun yet; a deadline waits for nothing.
       AND NOT (state = 'RECEIVED' AND coalesce(deadline > now(), true) AND EXISTS (
           SELECT 1 FROM tenant_maintenance m WHERE m.tenant = delivery.tenant AND m.active))
     ORDER BY expires_at
     LIMIT :limit)
    UNION ALL
    (SELECT * FROM delivery
     WHERE state NOT IN ({ended}) AND ending_type IS NOT NULL
       AND coalesce(completing_until <= now(), true)
     LIMIT :limit)
) over_now
ORDER BY expires_at
LIMIT :limit;

-- name: quiet_orders
-- Deliveries that wait for rs-order, and have heard nothing for so long, nor were given here meanwhile: those
-- that wait for longest. Some wait with their lease, as their archive can't pause. (Nothing else goes by
-- `not_before` while they wait.)
UPDATE delivery SET not_before = now()
WHERE id IN (
    SELECT id FROM delivery d
    WHERE state NOT IN ({ended}) AND order_id IS NOT NULL
      AND (state = 'ORDERED' OR parked
           OR state = 'TRANSFERRING' AND plan IS NOT NULL AND NOT order_done AND announced = listed
              AND NOT EXISTS (
                  SELECT 1 FROM segment
                  WHERE delivery_id = d.id AND listed_at >= now() - :after::interval))
      AND not_before < now() - :after::interval
    ORDER BY not_before
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
RETURNING *;

-- name: holds_place
-- Whether a delivery's order may keep its user's place.
SELECT EXISTS (SELECT 1 FROM place WHERE delivery_id = :id AND answered_at IS NULL);

-- name: due_place
-- The place that is due for longest; it is due again after a minute, which doubles each time, at most to
-- :longest.
WITH due AS (
    UPDATE place SET
        tries = tries + 1,
        due_at = now() + least(interval '1 minute' * 2 ^ least(tries, 20), :longest::interval)
    WHERE delivery_id IN (
        SELECT delivery_id FROM place WHERE due_at <= now() AND answered_at IS NULL
        ORDER BY due_at, delivery_id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    RETURNING delivery_id, since
)
SELECT d.*, now() - due.since AS held_for
FROM due JOIN delivery d ON d.id = due.delivery_id;

-- name: unswept
-- Deliveries that ended at least :after ago and may have left an upload open: those without an
-- archive, those that took more than one attempt, and those whose attempt has told so. Not while the
-- same key may be in use again.
SELECT * FROM delivery ended
WHERE state IN ({ended}) AND attempt > 0 AND NOT swept
  AND (state = 'ERROR' OR attempt > 1 OR left_open)
  AND not_before < now() - :after::interval
  AND NOT EXISTS (
      SELECT 1 FROM delivery active
      WHERE active.tenant = ended.tenant AND active.correlation_id = ended.correlation_id
        AND active.state NOT IN ({ended}))
ORDER BY not_before
LIMIT :limit;

-- name: swept
-- Nothing of this one is open any more, and the place where it was is of no use: no row if a tail of it may
-- be there, or a completion may still have been under way when that was looked at, :took ago; its own, or, where it
-- may have left an object, another delivery's of the same one (then what is there was left alone). Nor if an attempt has
-- said since then that it left something open (`sweep_again`): that was not seen. With
-- it goes what was saved of a half-made archive, if a version that knew nothing of that has ended it.
WITH swept AS (
    UPDATE delivery d SET swept = true, upload_target = NULL
    WHERE id = :id AND coalesce(completing_until < now() - :took::interval, true)
      AND not_before <= now() - :took::interval
      AND NOT EXISTS (SELECT 1 FROM tail WHERE delivery_id = d.id)
      AND NOT EXISTS (
          SELECT 1 FROM delivery other
          WHERE other.completing_until > now() - :took::interval AND other.id <> d.id
            AND other.completing ->> 'url' = d.completing ->> 'url')
    RETURNING id
), forgotten AS (
    DELETE FROM checkpoint USING swept WHERE delivery_id = swept.id
), forgotten_files AS (
    DELETE FROM file_checkpoint USING swept WHERE delivery_id = swept.id
)
SELECT id FROM swept;

-- name: sweep_again
-- An attempt that stood still has left something open after this one was swept, or was looked at for that: it is swept once
-- more.
UPDATE delivery SET swept = false, not_before = now() WHERE id = :id AND state IN ({ended});

-- name: postpone_sweeps
-- The place where these may have left an upload open does not answer: `unswept`, asked with :after,
-- gives them again after :pause.
UPDATE delivery SET not_before = now() - :after::interval + :pause::interval
WHERE id = ANY (:ids::uuid[]) AND state IN ({ended});

-- name: uploads_of_others
-- Of a delivery and a key of its bucket: which of the key's uploads other deliveries under way have
-- recorded; whether one of them has the same correlation id; and the ids of those, of any tenant, that
-- are being transferred to an archive of the same name, each with the folders before it: what they have
-- opened may not be recorded yet.
-- And whether a later attempt of the delivery has begun: then it is not for this one to tell.
SELECT coalesce(array_agg(upload_id) FILTER (
           WHERE upload_bucket = :bucket AND upload_key = :key), '{}') AS uploads,
       coalesce(bool_or(tenant = :tenant AND correlation_id = :correlation_id), false) AS again,
       coalesce(json_agg(json_build_array(prefix, correlation_id)) FILTER (
           WHERE work IN ('transfer', 'transfer-part') AND lease_until IS NOT NULL
             AND archive_name = :archive_name), '[]') AS near,
       EXISTS (SELECT 1 FROM delivery WHERE id = :id AND attempt > :attempt) AS superseded
FROM delivery
WHERE state NOT IN ({ended}) AND id <> :id
  AND (upload_key = :key OR tenant = :tenant AND correlation_id = :correlation_id
       OR work IN ('transfer', 'transfer-part') AND lease_until IS NOT NULL AND archive_name = :archive_name);

-- name: record_wait
-- Note at transfers of a tenant that wait, to one target or (null) to any, why they do. (Of several
-- workers that tell the same none waits for another.)
UPDATE delivery SET last_cause = :cause, last_code = '+' || :code::text
WHERE id IN (
    SELECT id FROM delivery
    WHERE work IN ('transfer', 'transfer-part') AND tenant = :tenant AND (:target::text IS NULL OR target = :target)
      AND (lease_until IS NULL OR lease_until < now()) AND last_cause IS DISTINCT FROM :cause
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
RETURNING id;

-- name: clear_wait
-- That cause holds no longer.
UPDATE delivery SET last_cause = NULL
WHERE id IN (
    SELECT id FROM delivery
    WHERE work IN ('transfer', 'transfer-part') AND tenant = :tenant AND last_cause = :cause
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
RETURNING id;

-- name: delivered_before
-- The last delivery before one that told its client of an object: of the same tenant and user. (Those
-- behind it are none of its business, should it be asked for by a worker that stood still.)
SELECT * FROM delivery
WHERE url = :url AND state = 'DONE' AND tenant = :tenant AND user_email = :user AND id <> :id
  AND requested_at < :requested_at
ORDER BY finished_at DESC
LIMIT 1;

-- name: failed_before
-- Deliveries of the same tenant and id that ended without an object before one came, and may have left what is
-- noted under a name that begins so; and whether each ended at least :after ago.
SELECT d.*, coalesce(finished_at < now() - :after::interval, true) AS settled
FROM delivery d
WHERE tenant = :tenant AND correlation_id = :correlation_id AND state = 'ERROR' AND NOT swept
  AND id <> :id AND requested_at < :requested_at
  AND EXISTS (SELECT 1 FROM tail WHERE delivery_id = d.id AND starts_with(key, :noted))
ORDER BY requested_at;

-- name: others_put_files_beside
-- Whether files may be put beside a manifest by another delivery under way, of any client, or by a later attempt of this
-- one. Each notes that before it opens or puts the first: an upload that is recorded tells nothing, as who waits has one, too.
-- (What workers from before migration 0049 noted has no place: its name counts, wherever it is.)
SELECT EXISTS (
    SELECT 1 FROM tail JOIN delivery other ON other.id = tail.delivery_id
    WHERE other.id <> :id AND other.state NOT IN ({ended})
      AND (tail.url = :url AND tail.namespace = :namespace
           OR tail.url IS NULL AND starts_with(tail.key, :noted))
) OR EXISTS (SELECT 1 FROM delivery WHERE id = :id AND attempt > :attempt);

-- name: note_report
-- Where a report of this one may come, :within that time: where one was to come before, if any was. Compare and set, as it has
-- not ended yet; no row if it moved on.
UPDATE delivery SET report = CASE WHEN report_until IS NULL THEN :report ELSE report END, report_until = now() + :within::interval
WHERE id = :id AND state = :seen AND attempt = :attempt AND state NOT IN ({ended})
RETURNING report;

-- name: record_report
-- The report is there, and told.
UPDATE delivery SET report = :report, report_until = NULL WHERE id = :id;

-- name: untold_reports
-- Reports that no client was told of, of deliveries that have ended; whichever were to come are there by now.
SELECT * FROM delivery WHERE report_until < now() AND state IN ({ended}) ORDER BY report_until LIMIT :limit;

-- name: postpone_report
-- There is another look at this one later, or none any more, where its delivery ended, or the report that was told was
-- removed, longer ago than :kept: whether there is. No row if there was to be none.
WITH looked AS (
    SELECT greatest(d.finished_at, c.removed_at) < now() - :kept::interval AS is_over
    FROM delivery d LEFT JOIN content c ON c.delivery_id = d.id
    WHERE d.id = :id
)
UPDATE delivery SET
    report = CASE WHEN is_over THEN NULL ELSE report END,
    report_until = CASE WHEN is_over THEN NULL ELSE now() + :pause::interval END
FROM looked
WHERE id = :id AND report_until IS NOT NULL
RETURNING report_until IS NOT NULL;

-- name: forget_report
-- The report that was told to no client is not there.
UPDATE delivery SET report = NULL, report_until = NULL WHERE id = :id AND report_until IS NOT NULL;

-- name: done_by
-- Whether a delivery was brought to its end by this attempt.
SELECT EXISTS (SELECT 1 FROM delivery WHERE id = :id AND attempt = :attempt AND state = 'DONE');

-- name: alive
-- Whether the database answers.
SELECT 1;

-- name: hint
-- Tell each worker that listens, once this is committed, what work there may be. (Said twice by one transaction, it
-- is told once.)
SELECT pg_notify('delivery_work', work) FROM unnest(:works::text[]) AS work;
