-- Where the object of a delivery that is done is: the namespace that its URL is in, as a URL names no server. What is to be removed
-- when a person asks is looked for there, and nowhere else. Null: done by a version that did not keep it, or not done.

ALTER TABLE delivery ADD done_in text;
