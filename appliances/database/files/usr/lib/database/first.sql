-- The owner's database, and what the connection pool asks for passwords. What is there, in a clone of an instance, stays.
SELECT format('CREATE ROLE %I', :'owner') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner') \gexec
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', :'owner', :'password') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
SELECT 'CREATE ROLE pgbouncer LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgbouncer') \gexec
CREATE OR REPLACE FUNCTION pool_login(wanted text, OUT usename name, OUT passwd text) LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog
    AS 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = wanted AND rolcanlogin AND NOT rolsuper';
REVOKE ALL ON FUNCTION pool_login(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pool_login(text) TO pgbouncer;
