-- name: migrations
-- Which migrations are applied.
SELECT number FROM schema_migration;

-- name: applied_migrations
-- The same, with their names, and when each was applied.
SELECT number, name, applied_at FROM schema_migration ORDER BY number;

-- name: hidden_schema
-- Where the tables are, and who asks, when this role may not see into that schema. Of the search
-- path alone: others of the database are of others. (`current_schemas` leaves out what is hidden.)
SELECT n.nspname AS schema, current_user AS role
FROM regexp_split_to_table(current_setting('search_path'), '\s*,\s*') WITH ORDINALITY
    AS path (written, place)
CROSS JOIN LATERAL (
    SELECT CASE written
        WHEN '"$user"' THEN current_user::text
        ELSE replace(regexp_replace(written, '^"(.*)"$', '\1'), '""', '"')
    END AS name
) AS named
JOIN pg_namespace n ON n.nspname = named.name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'schema_migration'
WHERE NOT has_schema_privilege(n.oid, 'USAGE')
ORDER BY path.place
LIMIT 1;
