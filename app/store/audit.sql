-- name: record_change
-- Who changed what, and how.
INSERT INTO audit (tenant, actor, role, action, subject, before, after)
VALUES (:tenant, :actor, :role, :action, :subject, :before, :after);

-- name: audit
-- A tenant's changes, the newest first: those with ids under :before, from :since on, until :until.
SELECT * FROM audit
WHERE tenant = :tenant AND id < :before
  AND at >= coalesce(:since::timestamptz, '-infinity')
  AND at < coalesce(:until::timestamptz, 'infinity')
ORDER BY id DESC LIMIT :limit;

-- name: audit_of_all
-- The same, of all tenants.
SELECT * FROM audit
WHERE id < :before
  AND at >= coalesce(:since::timestamptz, '-infinity')
  AND at < coalesce(:until::timestamptz, 'infinity')
ORDER BY id DESC LIMIT :limit;
