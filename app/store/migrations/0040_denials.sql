-- A request that is denied leaves no delivery. Its copy, that RabbitMQ gives without saying so, is told the same again.

ALTER TABLE inbox
    ADD COLUMN denied_as text,       -- type of the error; null: it was not
    ADD COLUMN denied_because text;
