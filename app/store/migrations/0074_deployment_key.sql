-- A tenant's S3 server may have the deployment's own key: then it is that key, whatever it is by now, and the copy in
-- the value is for workers of the version before. It says of which version of the value that holds: those workers
-- change values, and don't know of it.
ALTER TABLE tenant_setting ADD deployment_key_at bigint;
