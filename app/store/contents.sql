-- fragment: content
-- What is known of a content without its delivery.
c.delivery_id, c.tenant, c.correlation_id, c.user_email, c.target, c.archive_name, c.attempt, c.file_count,
c.url, c.namespace, c.key, c.etag, c.size, c.until

-- fragment: of_delivery
-- What is kept of a delivery's content; of one that failed, that is its report.
d.id, d.tenant, d.correlation_id, d.user_email, d.target,
CASE WHEN d.state = 'DONE' THEN d.archive_name ELSE :report_name::text END, d.attempt, d.file_count,
CASE WHEN d.state = 'DONE' THEN d.url ELSE d.report ->> 'url' END,
CASE WHEN d.state = 'DONE' THEN d.etag ELSE d.report ->> 'etag' END,
CASE WHEN d.state = 'DONE' THEN d.archive_size ELSE (d.report ->> 'size')::bigint END

-- fragment: has_report
-- Whether a delivery failed, and its client was told of a report.
d.state = 'ERROR' AND d.report ->> 'etag' IS NOT NULL

-- fragment: has_content
-- Whether something of a delivery was put at its target, and is known.
(d.state = 'DONE' AND d.url IS NOT NULL AND d.upload_key IS NOT NULL OR {has_report})

-- fragment: bytes
-- Of a delivery's content.
CASE WHEN d.state = 'ERROR' THEN (d.report ->> 'size')::bigint
     WHEN d.archive_name = :manifest THEN d.total_bytes ELSE d.archive_size END

-- name: now
-- When this transaction began.
SELECT now();

-- name: keep_content
-- A content that stays until :until, with a look at it a day before, where it stays for longer. Its delivery is kept as long.
WITH kept AS (
    INSERT INTO content (delivery_id, tenant, correlation_id, user_email, target, archive_name, attempt, file_count,
                         url, etag, size, namespace, key, until, warned, due_at)
    SELECT {of_delivery},
           CASE WHEN d.state = 'DONE' THEN :namespace::text ELSE d.report ->> 'namespace' END,
           CASE WHEN d.state = 'DONE' THEN coalesce(:key::text, d.upload_key) ELSE d.report ->> 'key' END,
           :until::timestamptz, d.state = 'ERROR' OR :until < now() + :warned_from::interval,
           CASE WHEN d.state = 'ERROR' OR :until < now() + :warned_from THEN :until
                ELSE :until - :warned_before::interval END
    FROM delivery d
    WHERE d.id = :id AND (d.state = 'DONE' AND coalesce(:key, d.upload_key) IS NOT NULL OR {has_report})
    ON CONFLICT DO NOTHING
    RETURNING delivery_id
)
UPDATE delivery SET keeps_content = true FROM kept WHERE id = kept.delivery_id RETURNING id;

-- name: ask_removal
-- The content of these is to be removed now, however often that was tried; no row for one that is removed, and for a
-- delivery that is not done and has no report.
WITH asked AS (
    INSERT INTO content (delivery_id, tenant, correlation_id, user_email, target, archive_name, attempt, file_count,
                         url, etag, size, key, namespace, warned, due_at, asked_at)
    SELECT {of_delivery}, CASE WHEN d.state = 'DONE' THEN d.upload_key ELSE d.report ->> 'key' END,
           CASE WHEN d.state = 'DONE' THEN d.done_in ELSE d.report ->> 'namespace' END, true, now(), now()
    FROM delivery d
    WHERE d.id = ANY (:ids::uuid[]) AND {has_content}
    ON CONFLICT (delivery_id) DO UPDATE SET
        -- What was given up has as long again.
        asked_at = CASE WHEN content.due_at IS NULL THEN now() ELSE coalesce(content.asked_at, now()) END,
        due_at = now(), tries = 0
    WHERE content.removed_at IS NULL
    RETURNING delivery_id
)
UPDATE delivery SET keeps_content = true FROM asked WHERE id = asked.delivery_id RETURNING id;

-- name: old_contents
-- Deliveries of a tenant that ended longer ago than :age, whose content is not removed, nor to be: at most :limit, with
-- the bytes of their objects.
SELECT d.id, {bytes} AS bytes
FROM delivery d LEFT JOIN content c ON c.delivery_id = d.id
WHERE d.tenant = :tenant AND d.state IN ({ended}) AND d.finished_at < now() - :age::interval AND {has_content}
  AND (c.delivery_id IS NULL OR c.removed_at IS NULL AND c.asked_at IS NULL AND coalesce(c.until > now(), true))
ORDER BY d.finished_at, d.id
LIMIT :limit;

-- name: count_old_contents
-- How many these are, and how many bytes.
SELECT count(*) AS contents,
       coalesce(sum({bytes}), 0)::bigint AS bytes
FROM delivery d LEFT JOIN content c ON c.delivery_id = d.id
WHERE d.tenant = :tenant AND d.state IN ({ended}) AND d.finished_at < now() - :age::interval AND {has_content}
  AND (c.delivery_id IS NULL OR c.removed_at IS NULL AND c.asked_at IS NULL AND coalesce(c.until > now(), true));

-- name: due_contents
-- What something is due for: of each target of each tenant at most :limit, those that are due for longest. So what waits
-- for one target is before no other's. (Targets are found one after the other by the index, however much is due.)
WITH RECURSIVE place AS (
    (SELECT tenant, target FROM content WHERE due_at IS NOT NULL ORDER BY tenant, target LIMIT 1)
    UNION ALL
    SELECT other.tenant, other.target FROM place CROSS JOIN LATERAL (
        SELECT tenant, target FROM content
        WHERE due_at IS NOT NULL AND (tenant, target) > (place.tenant, place.target)
        ORDER BY tenant, target
        LIMIT 1
    ) other
)
SELECT {content}, c.tries, c.position, c.last_cause,
       c.asked_at IS NOT NULL OR coalesce(c.until <= now(), false) AS removes,
       greatest(now() - coalesce(c.asked_at, c.until), interval '0') AS overdue
FROM place CROSS JOIN LATERAL (
    SELECT * FROM content
    WHERE tenant = place.tenant AND target = place.target AND due_at <= now()
    ORDER BY due_at
    LIMIT :limit
) c
ORDER BY c.tenant, c.target, c.due_at;

-- name: may_remove
-- Whether a content is to be removed now, and no other delivery may be making an object (its own, or one beside it).
SELECT EXISTS (
    SELECT 1 FROM content
    WHERE delivery_id = :id AND removed_at IS NULL AND (asked_at IS NOT NULL OR until <= now()))
AND NOT EXISTS (
    SELECT 1 FROM delivery
    WHERE completing_until > now() AND completing ->> 'url' = :url AND id <> :id
      AND coalesce(completing ->> 'server', :namespace) = :namespace);

-- name: is_replaced
-- Whether a delivery that was done later has put something else in the place of a content, be that there still or not. One
-- of the same URL at another server is another place. A report is replaced by that of a later delivery of the same id, and taken
-- away by one that is done.
SELECT EXISTS (
    SELECT 1 FROM delivery d
    WHERE d.url = :url AND d.state = 'DONE' AND d.id <> :id AND coalesce(d.done_in = :namespace, true)
      AND d.finished_at >= (SELECT finished_at FROM delivery WHERE id = :id))
OR :is_report AND EXISTS (
    SELECT 1 FROM delivery d JOIN delivery own ON own.id = :id
    WHERE d.tenant = own.tenant AND d.correlation_id = own.correlation_id AND d.requested_at > own.requested_at
      AND (d.state = 'DONE' OR d.report ->> 'url' = :url));

-- name: is_told_by_a_later
-- Whether the client of a delivery that was done later was told this object, and it stays for that: of the same bytes, it
-- may be there by a completion of the earlier one that came late. One of the same URL at another server is another object.
SELECT EXISTS (
    SELECT 1 FROM delivery d LEFT JOIN content c ON c.delivery_id = d.id
    WHERE d.url = :url AND d.state = 'DONE' AND d.id <> :id AND coalesce(d.etag = :etag, true)
      AND coalesce(d.done_in = :namespace, true)
      AND d.finished_at >= coalesce((SELECT finished_at FROM delivery WHERE id = :id), '-infinity')
      AND c.removed_at IS NULL AND c.asked_at IS NULL AND coalesce(c.until > now(), true));

-- name: postpone_content
-- The next look at a content, and why it was put off, where there is a cause.
UPDATE content SET
    due_at = now() + :pause::interval, tries = CASE WHEN :tried THEN tries + 1 ELSE tries END,
    last_cause = :cause, position = :position
WHERE delivery_id = :id AND due_at IS NOT NULL;

-- name: postpone_contents
-- What is due at a target is put off together.
UPDATE content SET due_at = now() + :pause::interval, last_cause = :cause
WHERE tenant = :tenant AND target = :target AND due_at <= now()
  AND (asked_at IS NOT NULL OR until <= now());

-- name: content_warned
-- Its client is told that it expires soon, with :news, or not told without. No row if that was done before.
WITH warned AS (
    UPDATE content SET warned = true, due_at = until
    WHERE delivery_id = :id AND NOT warned AND removed_at IS NULL AND asked_at IS NULL
    RETURNING delivery_id
), noted AS (
    INSERT INTO delivery_history (delivery_id, state, attempt, news)
    SELECT d.id, d.state, d.attempt, :news::text FROM delivery d JOIN warned ON d.id = warned.delivery_id
    WHERE :news IS NOT NULL
)
SELECT delivery_id FROM warned;

-- name: content_removed
-- It is removed; its delivery may be forgotten. Told with :news, or not told without; :cause is why it is gone, if not by
-- this service. What is removed of a delivery that failed is its report: one of an attempt that died may come in its
-- place :within that time, and is looked for after it. No row if that was noted before.
WITH removed AS (
    UPDATE content SET removed_at = now(), due_at = NULL, last_cause = :cause
    WHERE delivery_id = :id AND removed_at IS NULL
    RETURNING delivery_id
), freed AS (
    UPDATE delivery SET keeps_content = false,
        report_until = CASE WHEN state = 'ERROR' THEN now() + :within::interval ELSE report_until END
    FROM removed WHERE id = removed.delivery_id
), noted AS (
    INSERT INTO delivery_history (delivery_id, state, attempt, news)
    SELECT d.id, d.state, d.attempt, :news::text FROM delivery d JOIN removed ON d.id = removed.delivery_id
    WHERE :news IS NOT NULL
)
SELECT delivery_id FROM removed;

-- name: give_up_content
-- Its removal is not tried any more, unless it is asked for again.
WITH left_there AS (
    UPDATE content SET due_at = NULL, last_cause = :cause
    WHERE delivery_id = :id AND removed_at IS NULL
    RETURNING delivery_id
)
UPDATE delivery SET keeps_content = false FROM left_there WHERE id = left_there.delivery_id;
