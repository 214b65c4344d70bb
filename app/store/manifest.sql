-- name: files
-- The next files of a manifest, after position :after.
SELECT position, file_id, member, size, md5 FROM delivery_file
WHERE delivery_id = :delivery AND position > :after
ORDER BY position
LIMIT :limit;

-- name: sizes_known
-- Whether the listing told the size of each file.
SELECT NOT EXISTS (SELECT 1 FROM delivery_file WHERE delivery_id = :delivery AND size IS NULL);
