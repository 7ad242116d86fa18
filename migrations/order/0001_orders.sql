-- An order and its saga in one row: the row decides every answer, and is its own timer.
create table orders (
    id              uuid        primary key,
    user_id         uuid        not null,
    items           jsonb       not null,          -- [{product_id, quantity}]
    unit_prices     bigint[],                      -- minor units, in the order of the items; null until reserved
    currency        text,                          -- ISO 4217
    total           bigint,
    status          text        not null check (status in ('pending', 'confirmed', 'rejected', 'cancelling', 'cancelled')),
    reason          jsonb,
    state           jsonb       not null,          -- where the saga stands
    sequence        integer     not null,          -- of its last history entry
    settled         boolean     not null default false, -- waits for nobody
    waiting_since   timestamptz,                   -- since when the command under way is unanswered
    due_at          timestamptz,                   -- when to ask again, or to give up: the sweeper looks at no other time
    traceparent     text        not null,
    -- The client's Idempotency-Key. Kept as long as the order, so a repeated request can never place a second one.
    idempotency_key text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
) with (
    -- A row is written three times within milliseconds. Room on its page, and no index on what changes at each step, lets the
    -- later versions replace the earlier in place (HOT).
    fillfactor = 50
);

create index orders_user on orders (user_id, id);
create unique index orders_idempotency_key on orders (idempotency_key) where idempotency_key is not null;

-- What the sweeper looks through: as many rows as are in flight, however many orders there are.
create index orders_unsettled on orders (id) where not settled;

-- `?status=`: the rare outcomes. Confirmed ones are found by walking the primary key, pending ones among the unsettled.
create index orders_given_up on orders (status, id) where status in ('rejected', 'cancelled');

-- The waybill. Append-only; json, not jsonb, because it is kept as it was written.
create table order_history (
    order_id uuid        not null,
    sequence integer     not null,
    at       timestamptz not null,
    entry    json        not null, -- message, decision, sent, state
    primary key (order_id, sequence)
);
