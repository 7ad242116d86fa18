-- Run once by the Postgres image, as its superuser, in a new database server: the role of the service, which owns its database and may do
-- nothing else. The superuser is of no use from outside afterwards: it keeps no password, and only the container's own socket lets it in.

\set ON_ERROR_STOP on
\getenv role WAYBILL_DB_ROLE
\set password `cat "$WAYBILL_DB_PASSWORD_FILE"`

-- A password that could not be read ends it here.
select 1 / length(:'password') as is_known \gset
create role :"role" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password :'password';
create database :"role" owner :"role";
revoke all on database :"role", postgres, template1 from public;
alter role current_user password null;
