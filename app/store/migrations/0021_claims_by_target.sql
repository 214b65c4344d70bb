-- While some of a tenant's targets don't answer, what goes to the others is claimed by target.

CREATE INDEX delivery_claimable_to ON delivery (work, tenant, target, rank) WHERE work IS NOT NULL;
