-- The audit trail by who did it, what was done, and to what: of a year's entries, all were read to find a few.
-- By -id, an order that no other index has, so that none other is taken for it.
CREATE INDEX audit_of_actor ON audit (tenant, actor, (-id));
CREATE INDEX audit_of_action ON audit (tenant, action, (-id));
CREATE INDEX audit_of_subject ON audit (tenant, subject, (-id));
