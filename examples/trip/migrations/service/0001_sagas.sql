-- A saga: what was asked for, where it stands, and its own timer.
create table sagas (
    id              uuid        primary key,
    request         json        not null,
    status          text        not null,
    state           json        not null,
    sequence        integer     not null,           -- of its last history entry
    history_bytes   bigint      not null default 0, -- the first entry apart
    settled         boolean     not null default false, -- waits for nobody
    waiting_since   timestamptz,                    -- these four are readings of the steady clock
    due_at          timestamptz,
    began_at        timestamptz,
    timers          json,                           -- where more than one reply is waited for
    traceparent     text        not null,
    idempotency_key text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
) with (
    -- A row is written at every step. Room on its page lets the later versions replace the earlier in place (HOT).
    fillfactor = 50
);

create unique index sagas_idempotency_key on sagas (idempotency_key) where idempotency_key is not null;
-- What the sweeper looks through: as many rows as are in flight, however many sagas there are.
create index sagas_unsettled on sagas (id) where not settled;

-- Append-only; text, because it is kept and read as it was written.
create table saga_history (
    saga_id  uuid        not null,
    sequence integer     not null,
    at       timestamptz not null,
    entry    text        not null,
    primary key (saga_id, sequence)
);

-- The keys that cancellations came with.
create table cancellations (
    idempotency_key text        primary key,
    saga_id         uuid        not null,
    created_at      timestamptz not null default now()
);
create index cancellations_created_at on cancellations (created_at);

-- The plan versions that sagas were begun with, and what each meant to the build that used it first.
create table plans (
    version     integer     primary key,
    fingerprint text        not null,
    recorded_at timestamptz not null default now()
);

-- The clock that timers and deadlines go by: the running instances carry it on by the time they count themselves.
create table saga_clock (
    one boolean     primary key default true check (one),
    at  timestamptz not null
);
insert into saga_clock (at) values (clock_timestamp());

-- What is known of the stream of events, so that it is noticed when the broker holds less than it acknowledged.
create table event_checkpoints (
    number         bigint      generated always as identity primary key,
    incarnation    text        not null,
    sequence       bigint      not null,
    stored_at      timestamptz not null,
    deleted        bigint      not null,
    server         text        not null,
    complete_until timestamptz not null
);
create index event_checkpoints_sequence on event_checkpoints (incarnation, sequence);

create table event_watch (
    one    boolean     primary key default true check (one),
    holder uuid        not null,
    until  timestamptz not null
);

create table event_rebuilds (
    id                uuid        primary key,
    reason            text        not null,
    asked_by          text,
    dry_run           boolean     not null default false,
    since             timestamptz not null,
    first_order       uuid,
    after_order       uuid,
    checked           bigint      not null default 0,
    missing           bigint      not null default 0,
    unreadable        bigint      not null default 0,
    unreadable_orders uuid[]      not null default '{}',
    begun_at          timestamptz not null default now(),
    ended_at          timestamptz
);
create unique index event_rebuilds_open on event_rebuilds ((true)) where ended_at is null;
