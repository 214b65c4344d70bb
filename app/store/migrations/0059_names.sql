-- What an archive and the folders before it are to be called, as its client or its tenant says; decided when the request is
-- taken in, as its format is. The folders that come of it are written with the archive's name, by the plan. Empty: none.

ALTER TABLE delivery
    ADD archive_template text NOT NULL DEFAULT '',
    ADD prefix_template text NOT NULL DEFAULT '',
    ADD prefix text NOT NULL DEFAULT '';
