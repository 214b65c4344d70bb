-- Whether an attempt that ended a delivery well may have left an upload open beside its object: of files that are
-- delivered as they are each may have one. Then it is swept, also after its first attempt.

ALTER TABLE delivery ADD left_open boolean NOT NULL DEFAULT false;
DROP INDEX delivery_unswept;
CREATE INDEX delivery_unswept ON delivery (not_before)
    WHERE state IN ('DONE', 'ERROR') AND attempt > 0 AND NOT swept AND (state = 'ERROR' OR attempt > 1 OR left_open);
