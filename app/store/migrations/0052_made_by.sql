-- What made the members that a boundary lies in, where their bytes depend on it: an archive that is gone on with makes
-- them again, and they must be the same. Empty: of a format, or a version of this service, that does not tell.

ALTER TABLE checkpoint ADD made_by text NOT NULL DEFAULT '';
