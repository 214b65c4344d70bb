-- fragment: messages_owed
-- What is owed, and since when, at the latest. A try that fails puts `due_at` off (`postpone` in outbox.sql: by 1 s, 2, 4, 8,
-- then by 15 each time), so that is taken back. As tries take time, too, it may have been owed before: where its delivery has
-- been in its state since a while before that, at most a minute a try, it is owed since then.
(SELECT o.tenant, o.lane, o.last_error, coalesce((
     SELECT d.state_since FROM delivery d
     WHERE o.tries > 0 AND d.id = o.delivery_id
       AND d.state_since BETWEEN latest.at - o.tries * interval '1 minute' AND latest.at
 ), latest.at) AS since
 FROM outbox o CROSS JOIN LATERAL (
     SELECT o.due_at - interval '1 second' * CASE WHEN o.tries < 4 THEN 2 ^ o.tries - 1 ELSE 15 * (o.tries - 3) END
 ) latest (at))
