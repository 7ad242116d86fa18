-- Cancellations that bore an Idempotency-Key: written in the statement that cancels, and kept as long as the order. Asked again, the order is shown
-- as it is by then. A table of its own, because orders have no column to spare for what one in a hundred has.
create table cancellations (
    idempotency_key text        primary key,
    order_id        uuid        not null,
    created_at      timestamptz not null default now()
);
