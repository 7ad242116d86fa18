-- However many rows are set aside, the relay finds those that are not in their order, those that are due by their time, and whatever waits for
-- one of them by what it tells of. Only a row that is set aside has more than one entry beside its key: the others cost what they did.
create index outbox_not_aside on outbox (position nulls first, id) where retry_at is null;
create index outbox_aside on outbox (retry_at) where retry_at is not null;
create index outbox_aside_about on outbox using gin (about) with (fastupdate = off) where retry_at is not null;
drop index outbox_in_order;
