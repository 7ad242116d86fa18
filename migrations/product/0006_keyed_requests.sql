-- What was done over HTTP with an Idempotency-Key and left no row of its own to keep the key on: a change of stock, a reservation without an order,
-- a release. Written in the transaction that does it, and kept like the rows of what was done. A table of its own, because an index on
-- reservations would be built over a row for every order there ever was.
create table keyed_requests (
    kind            text        not null check (kind in ('stock', 'reserve', 'release')),
    idempotency_key text        not null,
    request         jsonb       not null, -- what was asked for with the key
    answer          json        not null, -- what was answered, and is again
    created_at      timestamptz not null default now(),
    primary key (kind, idempotency_key)
);
