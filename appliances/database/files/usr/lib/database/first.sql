-- The owner's database, and what the connection pool asks for passwords.
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', :'owner', :'password') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner') \gexec
CREATE ROLE pgbouncer LOGIN;
CREATE FUNCTION pool_login(wanted text, OUT usename name, OUT passwd text) LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog
    AS 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = wanted AND rolcanlogin AND NOT rolsuper';
REVOKE ALL ON FUNCTION pool_login(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pool_login(text) TO pgbouncer;
