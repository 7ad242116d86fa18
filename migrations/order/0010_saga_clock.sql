-- The clock that timers and deadlines go by. The running instances carry it on by the time they count themselves, so nobody who sets a clock
-- of the day, this server's included, moves a deadline. It begins at the time of day, by which timers were set before.
create table saga_clock (
    one boolean     primary key default true check (one), -- there is one
    at  timestamptz not null
);
insert into saga_clock (at) values (clock_timestamp());

-- `waiting_since`, `due_at` and this are readings of that clock; `created_at` and `updated_at` stay times of day. Null: placed by a build
-- before this one, when both were the same.
alter table orders add column began_at timestamptz; -- what the deadline of the whole order counts from
