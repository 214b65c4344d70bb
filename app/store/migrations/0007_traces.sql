-- The trace that a request belongs to (W3C traceparent), taken up by whoever works on it.

ALTER TABLE delivery ADD trace text;
ALTER TABLE outbox ADD trace text;
