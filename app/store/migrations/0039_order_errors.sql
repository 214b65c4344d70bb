-- What rs-order said of an order that ended with errors, while its files are downloaded: it decides nothing there, as
-- downloads of ours that broke off are among them. Should the archive lack files, its client is told.

ALTER TABLE delivery
    ADD order_error_type text,
    ADD order_error_message text;
