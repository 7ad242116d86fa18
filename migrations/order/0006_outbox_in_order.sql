-- Rows are published in the order they were written in, each with an outcome of its own: one that cannot be published is set aside, and
-- stops no other.
alter table outbox
    add column position      bigint,                       -- the order of writing; null: written before there was one, and older than all
    add column pending       integer[],                    -- the places of the messages not published yet; null: all
    add column about         uuid[],                       -- what those tell of; null: whatever the row does
    add column attempts      integer not null default 0,   -- refusals by the broker; an outage is none
    add column retry_at      timestamptz,                  -- set aside until then
    add column last_error    text,
    add column claimed_until timestamptz;                  -- a relay is at it

-- Numbers come from one place, whatever the instances' clocks say.
create sequence outbox_position owned by outbox.position;
alter table outbox alter column position set default nextval('outbox_position');
create index outbox_in_order on outbox (position nulls first, id);
