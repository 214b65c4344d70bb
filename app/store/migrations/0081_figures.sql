-- What ended each day, of deliveries that are kept no longer: written by what forgets them, so that no other statement has to.
-- What is still kept is counted where it is.

CREATE TABLE figure (
    tenant    text NOT NULL,
    target    text NOT NULL,
    day       date NOT NULL,            -- in UTC
    done      bigint NOT NULL,
    failed    bigint NOT NULL,          -- but for those that were cancelled
    cancelled bigint NOT NULL,
    bytes     bigint NOT NULL,          -- of the files of those that are done
    PRIMARY KEY (tenant, target, day)
);
