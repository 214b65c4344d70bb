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

-- name: missing
-- The next files that a delivery is without, behind number :after: those of the manifest by their positions, then
-- those that were never listed.
SELECT number, file_id, member, size, product_id, product_version, files, cause
FROM missing_file
WHERE delivery_id = :delivery AND number > :after
ORDER BY number
LIMIT :limit;

-- name: missing_count
-- How many files a delivery is without.
SELECT coalesce(sum(files), 0)::bigint FROM missing_file WHERE delivery_id = :delivery;

-- name: missing_so_far
-- How many files a delivery is without, the cause of most of them, and how many are in its manifest.
SELECT coalesce((SELECT sum(files) FROM missing_file WHERE delivery_id = :delivery), 0)::bigint AS files,
       (SELECT cause FROM missing_file WHERE delivery_id = :delivery
        GROUP BY cause ORDER BY sum(files) DESC, min(number) LIMIT 1) AS cause,
       (SELECT count(*) FROM delivery_file WHERE delivery_id = :delivery) AS "left";
