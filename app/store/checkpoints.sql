-- name: hold_attempt
-- Whether an attempt still has its lease and its upload; until the transaction ends it is not taken over.
SELECT id FROM delivery
WHERE id = :id AND attempt = :attempt AND lease_owner = :owner AND state = 'TRANSFERRING'
  AND upload_id = :upload_id
FOR NO KEY UPDATE;

-- name: discard
-- Forget what does not belong to an upload, or is behind a boundary: a step that was saved, and whose
-- saver did not hear it, is saved again with more.
DELETE FROM checkpoint
WHERE delivery_id = :id AND (upload_id <> :upload_id OR parts > :follows);

-- name: save
-- Add a step.
INSERT INTO checkpoint (delivery_id, upload_id, parts, follows, part_size, md5_state, members, crc,
                        part_etags, part_md5s, member_sizes, member_records)
VALUES (:id, :upload_id, :parts, :follows, :part_size, :md5_state, :members, :crc,
        :part_etags, :part_md5s, :member_sizes, :member_records);

-- name: steps
-- What was saved of an upload, in its order.
SELECT * FROM checkpoint WHERE delivery_id = :id AND upload_id = :upload_id ORDER BY parts;
