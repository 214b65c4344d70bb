-- name: missing_rights
-- Which of some :rights, each on the table or sequence of the same place, this role has not.
SELECT name, right_to
FROM unnest(:names::text[], :rights::text[]) AS needed (name, right_to)
WHERE CASE right_to
    WHEN 'USAGE' THEN has_sequence_privilege(to_regclass(name), right_to)
    ELSE has_table_privilege(to_regclass(name), right_to)
END IS NOT TRUE
ORDER BY name, right_to;

-- name: grants
-- The statements that give a role :rights, each on the table or sequence of the same place.
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), :role::text) AS statement
UNION ALL
SELECT format('GRANT %s ON %s %I TO %I', string_agg(right_to, ', '),
              CASE WHEN 'USAGE' = ANY (array_agg(right_to)) THEN 'SEQUENCE' ELSE 'TABLE' END,
              name, :role)
FROM unnest(:names::text[], :rights::text[]) AS needed (name, right_to)
GROUP BY name;
