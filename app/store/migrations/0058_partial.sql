-- What a client may ask for: to have what there is, and to be told what is missing. A file that turns out to be leaves the
-- manifest for `missing_file`, so that a worker of the version before goes on with an archive without it, too. What rs-order
-- never listed has a number behind all positions.

ALTER TABLE delivery
    ADD partial boolean NOT NULL DEFAULT false,
    ADD order_error_files bigint NOT NULL DEFAULT 0;

ALTER TABLE delivery_file ADD wrong smallint NOT NULL DEFAULT 0; -- times that its bytes were not those that were listed

CREATE TABLE missing_file (
    delivery_id     uuid   NOT NULL REFERENCES delivery ON DELETE CASCADE,
    number          bigint NOT NULL,
    file_id         bigint,
    member          text,
    size            bigint,
    product_id      text,
    product_version bigint,
    files           bigint NOT NULL,
    cause           text   NOT NULL,
    PRIMARY KEY (delivery_id, number)
);
