-- The report of a delivery that failed, where its tenant asks for one (`report.json`): where it may be is noted before it is
-- put, and with its size and ETag once it is told. Until that, it is none that any client knows of, and is to be removed.

ALTER TABLE delivery
    ADD report json,
    ADD report_until timestamptz; -- when one that is told to no client is there, or never will be; null: there is none

CREATE INDEX delivery_untold_report ON delivery (report_until) WHERE report_until IS NOT NULL;
