-- CRC-32s of files, where rs-order tells them: a ZIP file has them before the bytes of what it stores. They are told with
-- all files of an order; what comes into the manifest later, suborder by suborder, is listed without. So until then:

ALTER TABLE delivery_file ADD crc32 bigint;

CREATE TABLE told_crc32 (
    delivery_id uuid   NOT NULL REFERENCES delivery ON DELETE CASCADE,
    file_id     bigint NOT NULL,
    crc32       bigint NOT NULL,
    PRIMARY KEY (delivery_id, file_id)
);
