-- name: lock_job
-- Wait until no other connection does this job.
SELECT pg_advisory_lock(hashtextextended('job ' || :job, 0));

-- name: try_lock_job
-- Whether no other connection does this job; then this one does.
SELECT pg_try_advisory_lock(hashtextextended('job ' || :job, 0));

-- name: unlock_job
-- This connection does the job no longer.
SELECT pg_advisory_unlock(hashtextextended('job ' || :job, 0));
