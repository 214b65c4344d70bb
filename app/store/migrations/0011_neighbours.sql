-- What must not grow with what waits: whose uploads are whose, and what of the audit trail is old.

CREATE INDEX delivery_uploading ON delivery (upload_key)
    WHERE state NOT IN ('DONE', 'ERROR') AND upload_key IS NOT NULL;
CREATE INDEX audit_at ON audit (at);
