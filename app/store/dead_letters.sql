-- fragment: columns
-- A letter, but for its body; and whether that is here to its end.
d.id, d.number, d.kind, d.place, d.origin, d.tenant, d.ours, d.correlation_id, d.reason, d.at, d.size,
d.key, d.properties, d.copies, d.buried_at, d.mended_tenant, d.mended_by, d.mended_at, d.kept = d.size AS is_whole

-- fragment: seen
-- What waits, of kinds that this version knows, and :whose administrators may see; null: all.
d.handled_at IS NULL AND d.kind = ANY (:kinds::text[]) AND (:whose::text IS NULL OR (d.tenant = :whose AND d.ours))

-- fragment: wanted
-- The fields of `DeadLetterFilter` (app/views/dead_letters.py), by their names; null is any.
    (:tenant::text IS NULL OR d.tenant = :tenant)
AND (:place::text IS NULL OR position(lower(:place) IN lower(concat_ws(' ', d.place, d.origin))) > 0)
AND (:reason::text IS NULL OR position(lower(:reason) IN lower(d.reason)) > 0)
AND (:correlation_id::text IS NULL OR d.correlation_id = :correlation_id)
AND (:since::timestamptz IS NULL OR d.buried_at >= :since)
AND (:until::timestamptz IS NULL OR d.buried_at < :until)
AND (:mended::boolean IS NULL OR (d.mended_at IS NOT NULL) = :mended)

-- fragment: buried_again
-- It was just now, or has a copy that it did not have when it was handled.
(:again OR d.handled_at IS NOT NULL AND NOT d.copies @> excluded.copies)

-- name: keep_letter
-- A letter is buried; with :again just now. What was handled before waits again then, and is not mended:
-- it comes last. Else it stays as it is. Copies are added.
-- A body that is longer than a list shows (BEGINNING_BYTES, 8000) is cut to that where its tenant's longer ones here would be
-- more than :of_tenant bytes, or all of them here more than :of_place. (The index has no shorter ones: few rows are counted.)
INSERT INTO dead_letter AS d (id, kind, place, origin, tenant, ours, correlation_id, reason, at, size, body,
                              key, properties, copies)
VALUES (:id, :kind, :place, :origin, :tenant, :ours, :correlation_id, :reason, :at, :size,
        CASE
            WHEN octet_length(:body::bytea) <= 8000 THEN :body
            WHEN octet_length(:body) + (
                SELECT coalesce(sum(kept), 0) FROM dead_letter
                WHERE place = :place AND tenant IS NOT DISTINCT FROM :tenant AND kept > 8000) > :of_tenant::bigint
              OR octet_length(:body) + (
                SELECT coalesce(sum(kept), 0) FROM dead_letter
                WHERE place = :place AND kept > 8000) > :of_place::bigint
            THEN substring(:body FOR 8000)
            ELSE :body
        END,
        :key, :properties, :copies::text[])
ON CONFLICT (id) DO UPDATE SET
    copies = (SELECT coalesce(array_agg(DISTINCT copy ORDER BY copy), '{}')
              FROM unnest(d.copies || excluded.copies) AS copy),
    reason = CASE WHEN {buried_again} THEN excluded.reason ELSE d.reason END,
    buried_at = CASE WHEN {buried_again} THEN clock_timestamp() ELSE d.buried_at END,
    mended_body = CASE WHEN {buried_again} AND d.handled_at IS NOT NULL THEN NULL ELSE d.mended_body END,
    mended_tenant = CASE WHEN {buried_again} AND d.handled_at IS NOT NULL THEN NULL ELSE d.mended_tenant END,
    mended_by = CASE WHEN {buried_again} AND d.handled_at IS NOT NULL THEN NULL ELSE d.mended_by END,
    mended_at = CASE WHEN {buried_again} AND d.handled_at IS NOT NULL THEN NULL ELSE d.mended_at END,
    handled_at = CASE WHEN {buried_again} THEN NULL ELSE d.handled_at END,
    held = CASE WHEN {buried_again} THEN 0 ELSE d.held END
WHERE :again OR NOT d.copies @> excluded.copies
RETURNING :again AND d.number < (SELECT max(number) FROM dead_letter) AS is_earlier;

-- name: letter_comes_last
-- A letter that was buried again is the last one.
UPDATE dead_letter SET number = DEFAULT WHERE id = :id;

-- name: browse_letters
-- Letters that wait, the first buried first, after a number.
SELECT {columns}, substring(d.body FOR :beginning::integer) AS body, NULL::bytea AS mended_body
FROM dead_letter d
WHERE {seen} AND d.number > :after AND {wanted}
ORDER BY d.number
LIMIT :limit;

-- name: count_letters
-- How many those are.
SELECT count(*) FROM dead_letter d WHERE {seen} AND d.number > :after AND {wanted};

-- name: letters
-- Letters by their ids.
SELECT {columns}, substring(d.body FOR :beginning::integer) AS body, NULL::bytea AS mended_body
FROM dead_letter d
WHERE {seen} AND d.id = ANY (:ids::text[])
ORDER BY d.number;

-- name: letter
-- One letter, with its body.
SELECT {columns}, d.body, d.mended_body FROM dead_letter d WHERE {seen} AND d.id = :id;

-- name: mend_letter
-- What takes the place of its body, when it is put back. With a :seen_number, only as it was seen: `KeptLetter.version`.
UPDATE dead_letter SET mended_body = :body, mended_tenant = :tenant, mended_by = :by, mended_at = :at
WHERE id = :id AND handled_at IS NULL
  AND (:seen_number::bigint IS NULL
       OR number = :seen_number AND mended_at IS NOT DISTINCT FROM :seen_mend::timestamptz)
RETURNING id;

-- name: lock_letter
-- A letter that waits, so that it is handled once.
SELECT {columns}, d.body, d.mended_body FROM dead_letter d
WHERE d.id = :id AND d.handled_at IS NULL
FOR UPDATE;

-- name: letter_handled
-- A letter was put back, or removed.
UPDATE dead_letter SET handled_at = clock_timestamp(), held = :held WHERE id = :id;

-- name: forget_settled_letters
-- Their copies are gone, and none came since.
DELETE FROM dead_letter WHERE id = ANY (:ids::text[]) AND handled_at IS NOT NULL;

-- name: discard_letters
-- A copy of each is gone by another way: the next look through its queue tells whether that was the last.
UPDATE dead_letter SET handled_at = coalesce(handled_at, clock_timestamp()), held = greatest(held - 1, 0)
WHERE id = ANY (:ids::text[]);

-- name: handled_messages
-- Letters of a dead-letter queue whose copies may still be there, or there again.
SELECT id, key, held, copies, extract(epoch FROM clock_timestamp() - handled_at)::float8 AS since FROM dead_letter
WHERE handled_at IS NOT NULL AND kind = 'AMQP' AND place = :place
ORDER BY handled_at LIMIT 10000;

-- name: handled_events
-- Events that are handled, and not all marked so on the dead-letter topic.
SELECT id, key, held, copies, extract(epoch FROM clock_timestamp() - handled_at)::float8 AS since FROM dead_letter
WHERE handled_at IS NOT NULL AND kind = 'EVENT'
ORDER BY handled_at LIMIT 10000;

-- name: forget_marked_events
-- Another way, that keeps no rows, has put copies back, and marked them so: letters of no other copy are gone.
-- A mark names its letter, as another may have had that place on a topic that is gone; null: any.
WITH marked AS MATERIALIZED (
    SELECT d.id, d.copies,
           ARRAY(SELECT copy FROM unnest(d.copies) AS copy
                 WHERE NOT EXISTS (
                     SELECT 1 FROM unnest(:copies::text[], :letters::text[]) AS mark (copy, letter)
                     WHERE mark.copy = copy.copy AND coalesce(mark.letter, d.id) = d.id)
                 ORDER BY copy) AS others
    FROM dead_letter d
    WHERE d.kind = 'EVENT' AND d.handled_at IS NULL AND d.copies && :copies::text[]
    ORDER BY d.id
    FOR UPDATE
), gone AS (
    DELETE FROM dead_letter d USING marked m WHERE d.id = m.id AND m.others = '{}'
)
UPDATE dead_letter d SET copies = m.others
FROM marked m WHERE d.id = m.id AND m.others <> '{}' AND m.others <> m.copies;

-- name: forget_copies
-- The dead-letter topic was made again, or was cut short: what was in these partitions is gone. Letters stay.
UPDATE dead_letter
SET copies = ARRAY(SELECT copy FROM unnest(copies) AS copy
                   WHERE split_part(copy, ':', 1) <> ALL (:partitions::text[]) ORDER BY copy)
WHERE id IN (
    SELECT id FROM dead_letter d
    WHERE kind = 'EVENT' AND EXISTS (
        SELECT 1 FROM unnest(d.copies) AS copy WHERE split_part(copy, ':', 1) = ANY (:partitions::text[]))
    ORDER BY id
    FOR UPDATE);

-- name: known_letters
-- Those of some letters that there are.
SELECT id, handled_at IS NOT NULL AS handled FROM dead_letter WHERE id = ANY (:ids::text[]);

-- name: letters_of_place
-- How many there are of a dead-letter queue.
SELECT count(*) FROM dead_letter WHERE place = :place;

-- name: letters_seen
-- How far the copies in each place were looked through.
SELECT place, seen FROM dead_letter_look;

-- name: letters_looked_through
-- That far they are now.
INSERT INTO dead_letter_look (place, seen)
SELECT place, seen FROM unnest(:places::text[], :seen::bigint[]) AS look (place, seen) ORDER BY place
ON CONFLICT (place) DO UPDATE SET seen = excluded.seen
WHERE dead_letter_look.seen <> excluded.seen;

-- name: letters_waiting
-- How many wait, and since when; those of other tenants, and of other services, together.
SELECT place, CASE WHEN ours AND tenant = ANY (:tenants::text[]) THEN tenant END AS tenant, count(*) AS letters,
       extract(epoch FROM clock_timestamp() - min(buried_at))::float8 AS oldest
FROM dead_letter WHERE handled_at IS NULL
GROUP BY 1, 2 ORDER BY 1, 2;
