-- What a transaction says, one row a transaction; deleted once every message in it is acknowledged.
create table outbox (
    id         uuid        primary key,
    created_at timestamptz not null default now(),
    subjects   text[]      not null,
    headers    jsonb       not null,
    payloads   bytea[]     not null
) with (
    -- A queue: rows come and go. Vacuum by count, not by share, or dead rows slow every look at it.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

-- Rows live for milliseconds: compressing them would cost more than it saves.
alter table outbox alter column payloads set storage external;
alter table outbox alter column headers set storage external;
