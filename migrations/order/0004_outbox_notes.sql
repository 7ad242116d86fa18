-- Messages that say nothing the database does not hold are made again from there: then notes of them are kept, not the messages.
alter table outbox add column notes bytea not null default '';
alter table outbox alter column notes set storage external;
