-- name: record_change
-- Who changed what, and how.
INSERT INTO audit (tenant, actor, role, action, subject, before, after)
VALUES (:tenant, :actor, :role, :action, :subject, :before, :after);

-- fragment: first
-- An id under which nothing is as late as :since. Entries have their ids in the order of their times, but for those that are
-- made at once, and where a clock was set back: by an hour at most.
coalesce((SELECT id FROM audit WHERE at < :since::timestamptz - interval '1 hour' ORDER BY at DESC LIMIT 1), 0)

-- fragment: last
-- An id above which nothing is before :until, likewise; under :before.
least(:before::bigint - 1,
      (SELECT id FROM audit WHERE at >= :until::timestamptz + interval '1 hour' ORDER BY at LIMIT 1))

-- fragment: wanted
(:since::timestamptz IS NULL OR at >= :since)
AND (:until::timestamptz IS NULL OR at < :until)
AND (:actor::text IS NULL OR actor = :actor)
AND (:action::text IS NULL OR action = :action)
AND (:subject::text IS NULL OR subject = :subject)

-- fragment: by_ids
-- The newest first.
{wanted} AND id BETWEEN {first} AND {last} ORDER BY id DESC LIMIT :limit

-- fragment: by_its_own
-- By an index that alone has this order: by that of the ids, all would be read for what is rare.
{wanted} AND -id BETWEEN -{last} AND -{first} ORDER BY -id LIMIT :limit

-- name: audit
-- A tenant's changes, the newest first: those with ids under :before, from :since on, until :until, and what
-- else is asked for. The next four are the same, each by the index of what is asked for.
SELECT * FROM audit WHERE tenant = :tenant AND {by_ids};

-- name: audit_of_subject
-- What was done to one thing.
SELECT * FROM audit WHERE tenant = :tenant AND subject = :subject AND {by_its_own};

-- name: audit_of_both
-- Where one did something.
SELECT * FROM audit WHERE tenant = :tenant AND actor = :actor AND action = :action AND {by_its_own};

-- name: audit_of_actor
-- What one did.
SELECT * FROM audit WHERE tenant = :tenant AND actor = :actor AND {by_its_own};

-- name: audit_of_action
-- Where something was done.
SELECT * FROM audit WHERE tenant = :tenant AND action = :action AND {by_its_own};

-- name: audit_of_all
-- The changes of all tenants.
SELECT * FROM audit WHERE {by_ids};
