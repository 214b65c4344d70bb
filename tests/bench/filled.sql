-- fragment: of_tenant
-- Whose the n-th delivery is: :tenants take turns; if :uneven, the first of them has one in a hundred, and the last all others.
CASE WHEN NOT :uneven::boolean THEN 'tenant-' || n / 10 % :tenants::integer
     WHEN n / 10 % 100 = 0 THEN 'tenant-0' ELSE 'tenant-' || :tenants - 1 END

-- name: finished
-- The :first to the :last of so many :deliveries that have ended in the last thirty days, with all that is kept of them: one in twenty failed, of half of the
-- others the content was removed since.
WITH ended AS (
    INSERT INTO delivery (
        id, tenant, correlation_id, state, user_email, target, order_request, origin_app, priority, requested_at, expires_at,
        order_id, archive_name, file_count, total_bytes, attempt, not_before, upload_bucket, upload_key, upload_id, url, md5,
        etag, archive_size, error_type, error_message, finished_at, rank, swept, state_since, updated_at, labels, order_done,
        announced, listed, done_in)
    SELECT gen_random_uuid(), {of_tenant}, 'finished-' || n, CASE WHEN n % 20 = 0 THEN 'ERROR' ELSE 'DONE' END,
           'user-' || n / 10 % 1000 || '@example.org', 'target-' || n / 10000 % 2,
           '{"user": "user@example.org", "queries": ["tags:(sentinel AND level2)"]}', 'app', 1, at, at + interval '12 hours',
           n, 'archive-' || n || '.zip', 1, 1000000, 1, at + interval '10 minutes', 'bucket', 'folder/archive-' || n || '.zip',
           'upload-' || n,
           CASE WHEN n % 20 <> 0 THEN 'https://s3.example/bucket/folder/archive-' || n || '.zip' END,
           CASE WHEN n % 20 <> 0 THEN md5(n::text) END, CASE WHEN n % 20 <> 0 THEN md5(n::text) || '-1' END,
           CASE WHEN n % 20 <> 0 THEN 1000000 END, CASE WHEN n % 20 = 0 THEN 'ORDER_ERROR' END,
           CASE WHEN n % 20 = 0 THEN 'the order ended with an error' END, at + interval '10 minutes', at - interval '1 minute',
           true, at + interval '10 minutes', at + interval '10 minutes',
           CASE WHEN n % 100 = 1 THEN ARRAY['monthly'] ELSE ARRAY[]::text[] END, true, 1, 1, 's3.example:443'
    FROM (SELECT n, now() - interval '1 hour' - n * interval '30 days' / :deliveries::integer AS at
          FROM generate_series(:first::integer, :last::integer) AS n) AS asked
    RETURNING *
), steps AS (
    INSERT INTO delivery_history (delivery_id, state, attempt, at, tenant, user_email)
    SELECT id, step.state, 0, requested_at + number * interval '1 minute', tenant, user_email
    FROM ended CROSS JOIN unnest(ARRAY['GRANTED', 'ORDERED', 'AVAILABLE', 'READY', 'TRANSFERRING', 'DONE'])
         WITH ORDINALITY AS step (state, number)
    ORDER BY requested_at, number
), attempts AS (
    INSERT INTO delivery_attempt (delivery_id, attempt, tenant, target, worker, began, ended, outcome)
    SELECT id, 1, tenant, target, 'worker-0', requested_at, finished_at, CASE WHEN state = 'DONE' THEN 'done' ELSE 'error' END
    FROM ended
), files AS (
    INSERT INTO delivery_file (delivery_id, position, file_id, member, size, md5)
    SELECT id, 0, order_id, 'file.tif', 1000000, md5(correlation_id) FROM ended
), receipts AS (
    INSERT INTO inbox (ingress_id, digest, received_at, arrived_at, kind)
    SELECT CASE WHEN kind = 'request' THEN id ELSE gen_random_uuid() END, sha256((kind || correlation_id)::bytea),
           requested_at, requested_at, kind
    FROM ended CROSS JOIN unnest(ARRAY['request', 'order-event']) AS kind
), asked AS (
    INSERT INTO asked (request, key, delivery_id, at)
    SELECT sha256(correlation_id::bytea), sha256(md5::bytea), id, requested_at FROM ended WHERE order_id % 10 = 1
), places AS (
    INSERT INTO place (delivery_id, since, due_at, answered_at)
    SELECT id, finished_at, finished_at, finished_at FROM ended WHERE order_id % 10 = 2
), contents AS (
    INSERT INTO content (delivery_id, tenant, correlation_id, user_email, target, archive_name, attempt, file_count, url,
                         namespace, key, etag, size, until, warned, removed_at)
    SELECT id, tenant, correlation_id, user_email, target, archive_name, attempt, file_count, url, done_in, upload_key, etag,
           archive_size, finished_at, true, finished_at
    FROM ended WHERE state = 'DONE' AND order_id % 2 = 1
)
INSERT INTO audit (at, tenant, actor, role, action, subject)
SELECT requested_at, tenant, 'operator', 'operator', 'cancel', correlation_id FROM ended WHERE order_id % 10 = 3;

-- name: waiting
-- The :first to the :last of so many :deliveries that wait: half of them for rs-order to have their order, four in ten for a worker, the others for rs-order.
-- Each has an answer that is owed to its client.
WITH opened AS (
    INSERT INTO delivery (
        id, tenant, correlation_id, state, user_email, target, order_request, origin_app, priority, requested_at, expires_at,
        order_id, archive_name, rank, order_done, announced, listed, not_before, last_cause)
    SELECT gen_random_uuid(), {of_tenant}, 'waiting-' || n,
           CASE WHEN n % 2 = 0 THEN 'GRANTED' WHEN n % 10 = 1 THEN 'ORDERED' ELSE 'READY' END,
           'user-' || n / 10 % 1000 || '@example.org', 'target-' || n % 3 % 2,
           '{"user": "user@example.org", "queries": ["tags:(sentinel AND level2)"]}', 'app', 1, at, at + interval '12 hours',
           CASE WHEN n % 2 = 1 THEN n END, CASE WHEN n % 2 = 1 AND n % 10 <> 1 THEN 'waiting-' || n || '.zip' END,
           at - interval '1 minute', n % 2 = 1 AND n % 10 <> 1, CASE WHEN n % 2 = 1 AND n % 10 <> 1 THEN 1 ELSE 0 END,
           CASE WHEN n % 2 = 1 AND n % 10 <> 1 THEN 1 ELSE 0 END, now(), 'the target is away'
    FROM (SELECT n, now() - n * interval '1 hour' / :deliveries::integer AS at
          FROM generate_series(:first::integer, :last::integer) AS n) AS asked
    RETURNING *
), receipts AS (
    INSERT INTO inbox (ingress_id, digest, received_at, arrived_at)
    SELECT id, sha256(correlation_id::bytea), requested_at, requested_at FROM opened
), steps AS (
    INSERT INTO delivery_history (delivery_id, state, attempt, at, tenant, user_email)
    SELECT id, state, 0, requested_at, tenant, user_email FROM opened ORDER BY requested_at
)
INSERT INTO outbox (lane, delivery_id, kind, message_id, tenant, correlation_id, priority, origin_app, body, not_sent)
SELECT owed.lane, id, owed.kind, gen_random_uuid(), tenant, correlation_id, 1, 'app', '{}', owed.kind = 'order'
FROM opened JOIN (VALUES ('responses', 'response'), ('orders', 'order')) AS owed (lane, kind)
     ON owed.kind = 'response' OR state = 'GRANTED'
ORDER BY requested_at;
