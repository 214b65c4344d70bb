-- name: files
-- The next files of a manifest, after position :after.
SELECT position, file_id, member, size, md5, crc32, product_id, product_version, media_type
FROM delivery_file
WHERE delivery_id = :delivery AND position > :after
ORDER BY position
LIMIT :limit;

-- name: file_named
-- A file of a manifest by its name. No index has it: all names of the delivery are read, which takes
-- a third of a second for a million.
SELECT position, file_id, member, size, md5, crc32, product_id, product_version, media_type
FROM delivery_file
WHERE delivery_id = :delivery AND member = :member
ORDER BY position
LIMIT 1;

-- name: extent
-- Whether the listing told the size of each file, and how many bytes all members' names have.
SELECT count(size) = count(*) AS sizes_known,
       coalesce(sum(octet_length(member)), 0)::bigint AS name_bytes
FROM delivery_file WHERE delivery_id = :delivery;
