-- Two spellings of one address are one user. They are compared by a key that the service computes (Unicode's case folding and normal form),
-- because Postgres in the C locale lowers ASCII alone. Null: not computed yet, of a row that is older than the column or that the build before
-- this one wrote. The service fills those in, and makes the index it finds them by beside the work: this only looks through the table once (half a second for
-- a million users), and the build before goes on meanwhile.
alter table users add column email_key text;
create unique index users_email_canonical on users (email_key) where email_key is not null;
