-- What a client is told at the end beside URL and MD5, so that it is told the same when it asks again: fields of JSON, of which
-- an older version knows some. Null: nothing else.

ALTER TABLE delivery ADD told json;
