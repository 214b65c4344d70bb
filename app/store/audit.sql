-- name: record_change
-- Who changed what, and how.
INSERT INTO audit (tenant, actor, role, action, subject, before, after)
VALUES (:tenant, :actor, :role, :action, :subject, :before, :after);

-- fragment: wanted
(:since::timestamptz IS NULL OR at >= :since)
  AND (:until::timestamptz IS NULL OR at < :until)
  AND (:actor::text IS NULL OR actor = :actor)
  AND (:action::text IS NULL OR action = :action)
  AND (:subject::text IS NULL OR subject = :subject)

-- name: audit
-- A tenant's changes, the newest first: those with ids under :before, from :since on, until :until, and what
-- else is asked for. The next three are the same, each by the index of what is asked for, which alone has their order: by that of
-- the ids, all would be read for what is rare.
SELECT * FROM audit WHERE tenant = :tenant AND id < :before AND {wanted} ORDER BY id DESC LIMIT :limit;

-- name: audit_of_subject
-- What was done to one thing.
SELECT * FROM audit
WHERE tenant = :tenant AND subject = :subject AND -id > -(:before::bigint) AND {wanted}
ORDER BY -id LIMIT :limit;

-- name: audit_of_actor
-- What one did.
SELECT * FROM audit
WHERE tenant = :tenant AND actor = :actor AND -id > -(:before::bigint) AND {wanted}
ORDER BY -id LIMIT :limit;

-- name: audit_of_action
-- Where something was done.
SELECT * FROM audit
WHERE tenant = :tenant AND action = :action AND -id > -(:before::bigint) AND {wanted}
ORDER BY -id LIMIT :limit;

-- name: audit_of_all
-- The changes of all tenants.
SELECT * FROM audit WHERE id < :before AND {wanted} ORDER BY id DESC LIMIT :limit;
