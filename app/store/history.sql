-- name: history
-- What became of some :tenants' deliveries (to a :target, or null: any) in each of the last :count buckets of :seconds; a
-- bucket is numbered from 1970 on. Those that are forgotten are counted by `figure`, where buckets are days.
WITH span AS (
    SELECT last - :count::integer + 1 AS first, last
    FROM (SELECT floor(extract(epoch FROM now()) / :seconds::integer)::bigint AS last) now
), counted AS (
    SELECT tenant, state, error_code, total_bytes,
           greatest(floor(extract(epoch FROM requested_at) / :seconds), span.first)::bigint AS asked,
           floor(extract(epoch FROM finished_at) / :seconds)::bigint AS ended
    FROM delivery, span
    WHERE tenant = ANY (:tenants::text[]) AND (:target::text IS NULL OR target = :target)
      AND (state NOT IN ({ended}) OR state IN ({ended}) AND finished_at >= to_timestamp(span.first * :seconds))
), came_to AS (
    SELECT tenant, ended AS number,
           count(*) FILTER (WHERE state = 'DONE') AS done,
           count(*) FILTER (WHERE state = 'ERROR' AND error_code IS DISTINCT FROM 'CANCELLED') AS failed,
           count(*) FILTER (WHERE state = 'ERROR' AND error_code = 'CANCELLED') AS cancelled,
           sum(total_bytes) FILTER (WHERE state = 'DONE') AS bytes
    FROM counted WHERE ended IS NOT NULL GROUP BY tenant, ended
    UNION ALL
    SELECT tenant, extract(epoch FROM day)::bigint / 86400, done, failed, cancelled, bytes
    FROM figure WHERE :seconds = 86400 AND tenant = ANY (:tenants) AND (:target IS NULL OR target = :target)
), changed AS (
    SELECT tenant, asked AS number, 1 AS change FROM counted
    UNION ALL SELECT tenant, ended, -1 FROM counted WHERE ended IS NOT NULL
), of_bucket AS (
    SELECT tenant, number, sum(done)::bigint AS done, sum(failed)::bigint AS failed,
           sum(cancelled)::bigint AS cancelled, sum(bytes)::bigint AS bytes
    FROM came_to GROUP BY tenant, number
), moved AS (
    SELECT tenant, number, sum(change) AS change FROM changed GROUP BY tenant, number
)
SELECT asked.tenant, to_timestamp(bucket.number * :seconds) AS begins,
       coalesce(b.done, 0) AS done, coalesce(b.failed, 0) AS failed, coalesce(b.cancelled, 0) AS cancelled,
       coalesce(b.bytes, 0) AS bytes,
       (sum(coalesce(m.change, 0)) OVER (PARTITION BY asked.tenant ORDER BY bucket.number))::bigint AS active
FROM unnest(:tenants) AS asked (tenant)
CROSS JOIN span
CROSS JOIN LATERAL generate_series(span.first, span.last) AS bucket (number)
LEFT JOIN of_bucket b ON b.tenant = asked.tenant AND b.number = bucket.number
LEFT JOIN moved m ON m.tenant = asked.tenant AND m.number = bucket.number
ORDER BY asked.tenant, bucket.number;
