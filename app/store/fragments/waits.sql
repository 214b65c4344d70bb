-- fragment: is_paused
-- Transfers of a delivery's tenant, or to its target, are paused, or were until a while ago.
(d.state IN ('READY', 'TRANSFERRING') AND EXISTS (
    SELECT 1 FROM pause p
    WHERE (p.until IS NULL OR p.until > now() - :worked_off::interval)
      AND (p.scope = 'instance' OR p.tenant = d.tenant
           AND (p.scope = 'tenant' OR p.scope = 'target' AND p.name = d.target))))

-- fragment: waits_late
-- It waits for its quota, and has less than half of its time left.
(d.held AND now() > d.requested_at + (d.expires_at - d.requested_at) / 2)

-- fragment: awaits_maintenance
-- It waits for the end of its tenant's maintenance, or did until a while ago.
(d.state = 'RECEIVED' AND EXISTS (
    SELECT 1 FROM tenant_maintenance m
    WHERE m.tenant = d.tenant AND (m.active OR m.updated_at > now() - :worked_off::interval)))
