-- name: line_alive
-- Whether a line on which nothing comes is still there.
SELECT 1;
