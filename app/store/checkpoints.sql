-- name: hold_attempt
-- Whether an attempt still has its lease and its upload; until the transaction ends it is not taken over.
SELECT id FROM delivery
WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND state = 'TRANSFERRING'
  AND upload_id = :upload_id
FOR NO KEY UPDATE;

-- name: discard
-- Forget what does not belong to an upload, or is behind a step: one that was saved, and whose saver
-- did not hear it, is saved again with more.
DELETE FROM checkpoint
WHERE delivery_id = :id
  AND (upload_id <> :upload_id OR (parts, members) > (:follows, :follows_members));

-- name: save
-- Add a step.
INSERT INTO checkpoint (delivery_id, upload_id, parts, follows, part_size, md5_state, members, crc,
                        part_etags, part_md5s, member_sizes, member_records,
                        tail_key, tail_size, tail_md5, made_by, contents, sha256_state)
VALUES (:id, :upload_id, :parts, :follows, :part_size, :md5_state, :members, :crc,
        :part_etags, :part_md5s, :member_sizes, :member_records, :tail_key, :tail_size, :tail_md5,
        :made_by, :contents, :sha256_state);

-- name: keep_contents
-- Keep what is known of files of an archive with a certain MD5, from number :first on: no row when the attempt's
-- lease or its upload is gone. Steps that reach beyond it are from before it stepped back: what they have sent was
-- sent again, and what they tell of files may be of other bytes.
WITH held AS (
    SELECT id FROM delivery
    WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND state = 'TRANSFERRING'
      AND upload_id = :upload_id
    FOR NO KEY UPDATE
), replaced AS (
    DELETE FROM checkpoint USING held
    WHERE checkpoint.delivery_id = held.id AND checkpoint.members > :first
)
INSERT INTO file_contents (delivery_id, md5, first, records)
SELECT id, :md5, :first, :records FROM held
ON CONFLICT (delivery_id, md5, first) DO UPDATE SET records = excluded.records
RETURNING first;

-- name: contents
-- What is known of files of an archive with a certain MD5: the next that is kept, with a step of its upload or beside
-- it. Both may begin at the same number, and each have files that the other has not.
SELECT first, beside, records FROM (
    SELECT checkpoint.members - cardinality(member_sizes) AS first, false AS beside, contents AS records
    FROM checkpoint JOIN delivery ON delivery.id = checkpoint.delivery_id
    WHERE delivery.id = :id AND checkpoint.upload_id = delivery.upload_id AND contents IS NOT NULL
      AND state NOT IN ({ended})
    UNION ALL
    SELECT first, true, records FROM file_contents WHERE delivery_id = :id AND md5 = :md5
) kept
WHERE (first, beside) > (:after, :after_beside::boolean)
ORDER BY first, beside
LIMIT 1;

-- name: is_kept
-- Whether an attempt may go on with an upload; if :for_another, a later one than :attempt. Workers of a
-- version before the checkpoints ended deliveries without deleting what was saved: the state tells.
SELECT EXISTS (
    SELECT 1 FROM checkpoint JOIN delivery ON delivery.id = checkpoint.delivery_id
    WHERE delivery.id = :id AND state NOT IN ({ended})
      AND delivery.upload_id = :upload_id AND checkpoint.upload_id = :upload_id
      AND (attempt > :attempt OR NOT :for_another::boolean));

-- name: steps
-- What was saved of an upload, in its order; of the members, how many a step has, and their bytes.
SELECT follows, part_size, parts, md5_state, members, crc, part_etags, part_md5s,
       cardinality(member_sizes) AS count,
       (SELECT coalesce(sum(size), 0)::bigint FROM unnest(member_sizes) AS size) AS finished,
       tail_key, tail_size, tail_md5, made_by, sha256_state
FROM checkpoint WHERE delivery_id = :id AND upload_id = :upload_id ORDER BY parts, members;

-- name: members
-- The members of a step.
SELECT member_sizes, member_records FROM checkpoint
WHERE delivery_id = :id AND upload_id = :upload_id AND parts = :parts AND members = :members;

-- name: others_put_files
-- Whether a delivery of another tenant or user may put files beside a manifest: one under way, or one that
-- failed, or is done elsewhere, and what its worker has asked for may still come. Of one that is done there
-- the manifest tells.
SELECT EXISTS (
    SELECT 1 FROM tail
    JOIN delivery other ON other.id = tail.delivery_id
    JOIN delivery own ON own.id = :id
    WHERE tail.url = :url AND tail.namespace = :namespace
      AND (other.tenant, other.user_email) <> (own.tenant, own.user_email)
      AND (other.state NOT IN ({ended})
           OR tail.until > now() AND (other.state = 'ERROR' OR other.url IS DISTINCT FROM :url)));

-- name: record_tail
-- Note an object that an attempt is about to put where its upload is open, or files beside its manifest:
-- no row when its lease or its upload is gone.
INSERT INTO tail (delivery_id, key, attempt, target, until, url, namespace)
SELECT id, :key, attempt, :target, now() + :until::interval, :url, :namespace
FROM delivery
WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND state = 'TRANSFERRING'
  AND upload_id = :upload_id
FOR NO KEY UPDATE
ON CONFLICT (delivery_id, key) DO UPDATE
SET target = excluded.target, until = excluded.until, dropped = false
RETURNING key;

-- name: tails
-- Objects that a delivery may have beside its archive, and for how long they may come late.
SELECT key, attempt, target, dropped, greatest(until - now(), interval '0') AS may_come
FROM tail WHERE delivery_id = :id ORDER BY attempt, key;

-- name: forget_tails
-- Objects were removed, and none of these can be put again: :took ago that was over.
DELETE FROM tail
WHERE delivery_id = :id AND key = ANY (:keys::text[]) AND until < now() - :took::interval;

-- name: drop_tails
-- These were removed, and may be put late.
UPDATE tail SET dropped = true
WHERE delivery_id = :id AND key = ANY (:keys::text[]) AND NOT dropped;

-- name: discard_file
-- Forget what does not belong to a file's upload, or is not before a step: one that was saved, and whose saver
-- did not hear it, is saved again with more.
DELETE FROM file_checkpoint
WHERE delivery_id = :id AND position = :position AND (upload_id <> :file_upload_id OR step >= :step);

-- name: save_file
-- Add a step of a file.
INSERT INTO file_checkpoint (delivery_id, position, step, upload_id, bucket, key, target, file_id, size, md5,
                             part_size, numbers, part_etags, part_md5s, part_shown)
VALUES (:id, :position, :step, :file_upload_id, :bucket, :key, :target, :file_id, :size, :md5,
        :part_size, :numbers, :part_etags, :part_md5s, :part_shown);

-- name: kept_uploads
-- Which files of a delivery were sent in part, and by which uploads. Workers of a version before these end deliveries
-- without deleting what was saved: the state tells.
SELECT DISTINCT f.position, f.upload_id
FROM file_checkpoint f JOIN delivery ON delivery.id = f.delivery_id
WHERE delivery.id = :id AND state NOT IN ({ended});

-- name: file_steps
-- What was saved of a file, in its order.
SELECT f.*
FROM file_checkpoint f JOIN delivery ON delivery.id = f.delivery_id
WHERE delivery.id = :id AND f.position = :position AND state NOT IN ({ended})
ORDER BY step;

-- name: forget_file
-- Forget what was saved of a file.
DELETE FROM file_checkpoint WHERE delivery_id = :id AND position = :position;
