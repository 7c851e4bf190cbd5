-- Three roles, none of them a superuser: `owner` owns the tables and runs migrate, `app` is the site and owns nothing,
-- `drainer` is the drain and reads.
CREATE ROLE owner LOGIN PASSWORD 'owner' CREATEDB;
CREATE ROLE app LOGIN PASSWORD 'app';
CREATE ROLE drainer LOGIN PASSWORD 'drainer';

CREATE DATABASE pgcleanup OWNER owner;
\connect pgcleanup

-- From version 15 on, nobody but the database's owner may create tables in public.
ALTER SCHEMA public OWNER TO owner;
GRANT USAGE ON SCHEMA public TO app, drainer;

-- Tables that owner makes from here on. The ledger is among them: rights.sql takes most rights on it back.
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLES TO app;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO app;
