-- Settings of tenants, maintenance, and who changed what; where an upload is open.

CREATE SEQUENCE setting_version;

CREATE TABLE tenant_setting (
    tenant     text NOT NULL,
    name       text NOT NULL,
    value      json NOT NULL,               -- secrets in it are sealed
    version    bigint NOT NULL DEFAULT nextval('setting_version'),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name)
);

CREATE TABLE tenant_maintenance (
    tenant     text PRIMARY KEY,
    active     boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant  text NOT NULL,
    actor   text NOT NULL,
    role    text NOT NULL,
    action  text NOT NULL,
    subject text NOT NULL,
    before  json,                           -- secrets are masked
    after   json
);
CREATE INDEX audit_of ON audit (tenant, id DESC);

-- Every process listens, and reads the settings again.
CREATE FUNCTION tell_configuration() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('delivery_configuration', '');
    RETURN NULL;
END $$;
CREATE TRIGGER setting_changed AFTER INSERT OR UPDATE OR DELETE ON tenant_setting
    FOR EACH STATEMENT EXECUTE FUNCTION tell_configuration();
CREATE TRIGGER maintenance_changed AFTER INSERT OR UPDATE OR DELETE ON tenant_maintenance
    FOR EACH STATEMENT EXECUTE FUNCTION tell_configuration();

-- The target may be configured anew before an upload is aborted: where it is open, sealed.
ALTER TABLE delivery ADD upload_target text;
