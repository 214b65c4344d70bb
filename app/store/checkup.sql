-- name: encryption
-- Whether others can read along on this connection. The client is NULL on a socket of the machine.
SELECT coalesce(ssl, false) AS ssl, version, cipher, inet_client_addr() AS client
FROM (SELECT) AS one LEFT JOIN pg_stat_ssl ON pid = pg_backend_pid();

-- name: version
-- Which PostgreSQL it is: as a number that grows, and as it calls itself.
SELECT current_setting('server_version_num')::integer AS number,
       current_setting('server_version') AS name;

-- name: role
-- Who asks.
SELECT current_user;

-- name: connections
-- How many connections there are, of all roles and databases, and how many there may be.
SELECT count(*) AS used, current_setting('max_connections')::integer AS most FROM pg_stat_activity;

-- name: clock
-- What time it is there, whenever this transaction began.
SELECT clock_timestamp();
