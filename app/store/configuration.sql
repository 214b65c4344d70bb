-- name: settings
-- What every tenant has set.
SELECT tenant, name, value, version, coalesce(deployment_key_at = version, false) AS deployment_key
FROM tenant_setting;

-- name: paused
-- Tenants in maintenance, and what is said of it.
SELECT tenant, active, updated_at, reason, until, enabled_by FROM tenant_maintenance WHERE active;

-- name: lock_configuration
-- Changes to one tenant's settings happen one after the other.
SELECT pg_advisory_xact_lock(hashtextextended('configuration ' || :tenant, 0));

-- name: settings_of
-- What one tenant has set.
SELECT name, value, version, coalesce(deployment_key_at = version, false) AS deployment_key
FROM tenant_setting WHERE tenant = :tenant;

-- name: set_setting
-- Set a value; its version is a new one, and it may be one with the deployment's S3 key.
WITH next AS (SELECT nextval('setting_version') AS version)
INSERT INTO tenant_setting (tenant, name, value, version, deployment_key_at)
SELECT :tenant, :name, :value, version, CASE WHEN :deployment_key::boolean THEN version END FROM next
ON CONFLICT (tenant, name) DO UPDATE SET
    value = excluded.value, version = excluded.version, deployment_key_at = excluded.deployment_key_at,
    updated_at = now()
RETURNING version;

-- name: refer_setting
-- The same value, known as one with the deployment's S3 key: no new version.
UPDATE tenant_setting SET deployment_key_at = version WHERE tenant = :tenant AND name = :name;

-- name: reset_setting
-- Back to the default.
DELETE FROM tenant_setting WHERE tenant = :tenant AND name = :name;

-- name: maintenance
-- Whether a tenant is in maintenance, if that was ever set.
SELECT active, updated_at, reason, until, enabled_by FROM tenant_maintenance WHERE tenant = :tenant;

-- name: maintain
-- Put a tenant into maintenance, or take it out. One that goes on, of which something else is said, is as old as it was.
INSERT INTO tenant_maintenance AS m (tenant, active, reason, until, enabled_by)
VALUES (:tenant, :active, :reason, :until, :enabled_by)
ON CONFLICT (tenant) DO UPDATE SET
    active = excluded.active, reason = excluded.reason, until = excluded.until, enabled_by = excluded.enabled_by,
    updated_at = CASE WHEN m.active = excluded.active THEN m.updated_at ELSE now() END
RETURNING active, updated_at, reason, until, enabled_by;

-- name: restart_waiting
-- Requests that waited for the end of a maintenance have their whole time before them, up to a deadline.
UPDATE delivery SET expires_at = least(now() + (expires_at - requested_at), deadline), not_before = now()
WHERE tenant = :tenant AND state = 'RECEIVED';

-- name: pauses
-- What is paused, with the seconds that are left of each.
SELECT *, extract(epoch FROM until - now())::float8 AS left FROM pause
WHERE until IS NULL OR until > now()
ORDER BY since, scope, tenant, name;

-- name: pause
-- Begin a pause, or change one that there is: it is as long as it was then. It ends at a time, after a time,
-- or when it is ended.
INSERT INTO pause (scope, tenant, name, reason, running, paused_by, until)
VALUES (:scope, :tenant, :name, :reason, :running, :paused_by, coalesce(:until, now() + :lasts))
ON CONFLICT (scope, tenant, name) DO UPDATE SET
    reason = excluded.reason, running = excluded.running, paused_by = excluded.paused_by, until = excluded.until,
    since = CASE WHEN pause.until <= now() THEN now() ELSE pause.since END
RETURNING *, extract(epoch FROM until - now())::float8 AS left;

-- name: resume
-- End a pause that is in effect, and return what it was. It stays for a while, as one that is over: what has waited
-- for it is not stuck at once.
WITH ended AS (
    SELECT * FROM pause
    WHERE scope = :scope AND tenant = :tenant AND name = :name AND (until IS NULL OR until > now())
    FOR UPDATE
), noted AS (
    UPDATE pause SET until = now() FROM ended
    WHERE pause.scope = ended.scope AND pause.tenant = ended.tenant AND pause.name = ended.name
)
SELECT *, extract(epoch FROM until - now())::float8 AS left FROM ended;

-- name: sealed_settings
-- Values that may hold secrets, held until the transaction ends.
SELECT tenant, name, value FROM tenant_setting ORDER BY tenant, name FOR UPDATE;

-- name: resealed_setting
-- The same value, sealed with another key: no new version.
UPDATE tenant_setting SET value = :value WHERE tenant = :tenant AND name = :name;

-- name: sealed_uploads
-- Deliveries that remember where their upload is, or was, open.
SELECT id, upload_target FROM delivery WHERE upload_target IS NOT NULL FOR UPDATE;

-- name: sealed_tails
-- Objects that deliveries may have beside their archives, and where.
SELECT delivery_id, key, target FROM tail FOR UPDATE;

-- name: resealed_tail
-- The same place, sealed with another key.
UPDATE tail SET target = :target WHERE delivery_id = :id AND key = :key;

-- name: resealed_upload
-- The same place, sealed with another key.
UPDATE delivery SET upload_target = :target WHERE id = :id;
