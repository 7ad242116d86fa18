-- What the order service knows of the stream of order events, so that it notices when the broker holds less than it acknowledged.

-- Up to a message of the stream, every event of the histories until a moment is stored. Written every few seconds, by one instance.
create table event_checkpoints (
    number         bigint      generated always as identity primary key,
    incarnation    text        not null, -- when the broker says the stream was made
    sequence       bigint      not null,
    stored_at      timestamptz not null, -- when the broker says that message was stored: it tells it from one that took its place
    deleted        bigint      not null, -- messages missing between the first and the last
    server         text        not null, -- the process of the broker
    complete_until timestamptz not null
);
create index event_checkpoints_sequence on event_checkpoints (incarnation, sequence);

-- The instance that watches the stream, and until when.
create table event_watch (
    one    boolean     primary key default true check (one),
    holder uuid        not null,
    until  timestamptz not null
);

-- What was published again from the histories, or only looked for, and how far that has come.
create table event_rebuilds (
    id          uuid        primary key,
    reason      text        not null,
    asked_by    text,                              -- null: the service noticed by itself
    dry_run     boolean     not null default false,
    since       timestamptz not null,              -- events from then on
    first_order uuid,                              -- of orders after this one; null: of all
    after_order uuid,                              -- every order up to this one is done
    checked     bigint      not null default 0,
    missing     bigint      not null default 0,
    unreadable  bigint      not null default 0,    -- orders this build cannot read, and events the broker does not take
    begun_at    timestamptz not null default now(),
    ended_at    timestamptz
);

-- One at a time.
create unique index event_rebuilds_open on event_rebuilds ((true)) where ended_at is null;
