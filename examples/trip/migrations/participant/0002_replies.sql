create table replies (
    saga_id    uuid        not null,
    step       text        not null,
    direction  text        not null check (direction in ('execute', 'compensate')),
    reply      text,       -- null: a tombstone; the compensation came first
    created_at timestamptz not null default now(),
    primary key (saga_id, step, direction)
);
