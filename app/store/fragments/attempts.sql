-- fragment: failed
-- Whether an attempt failed; what was cancelled has not, nor what is :waiting by its code.
a.outcome IN ('postponed', 'error') AND (a.cause IS NULL OR NOT starts_with(a.cause, 'cancelled by '))
AND (a.code IS NULL OR a.code <> ALL (:waiting::text[]))
