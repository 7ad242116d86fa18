-- The order of writing comes from one place, whatever the instances' clocks say.
create sequence outbox_position;

-- What a batch sends, one row a batch; deleted once every message in it is acknowledged.
create table outbox (
    id            uuid        primary key,
    created_at    timestamptz not null default now(),
    subjects      text[]      not null,
    headers       jsonb       not null,
    payloads      bytea[]     not null,
    notes         bytea       not null default '', -- what the messages are made from again, for a service that keeps no messages
    position      bigint      default nextval('outbox_position'), -- the order of writing
    pending       integer[],                       -- the places of the messages not published yet; null: all
    about         uuid[],                          -- what those tell of; null: whatever the row does
    attempts      integer     not null default 0,  -- refusals by the broker; an outage is none
    retry_at      timestamptz,                     -- set aside until then
    last_error    text,
    claimed_until timestamptz                      -- a relay is at it
) with (
    -- A queue: rows come and go. Vacuum by count, not by share, or dead rows slow every look at it.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

alter sequence outbox_position owned by outbox.position;

-- Rows live for milliseconds: compressing them would cost more than it saves.
alter table outbox
    alter column payloads set storage external,
    alter column headers set storage external,
    alter column notes set storage external;

-- The relay finds the rows that are not set aside in their order, those that are by their time, and whatever waits for one of them.
create index outbox_not_aside on outbox (position nulls first, id) where retry_at is null;
create index outbox_aside on outbox (retry_at) where retry_at is not null;
create index outbox_aside_about on outbox using gin (about) with (fastupdate = off) where retry_at is not null;
