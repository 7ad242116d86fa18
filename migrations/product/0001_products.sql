create table products (
    id              uuid        primary key,
    name            text        not null,
    description     text        not null,
    price           bigint      not null check (price >= 0), -- minor units
    currency        text        not null,                    -- ISO 4217
    stock           bigint      not null check (stock >= 0), -- available
    reserved        bigint      not null default 0 check (reserved >= 0),
    created_at      timestamptz not null default now(),
    -- The client's Idempotency-Key. Kept as long as the product, so a repeated request can never create a second one.
    idempotency_key text,
    request         jsonb        -- what was asked for with the key
    -- Half the page is left free and no index names stock or reserved, so that a reservation rewrites its row in place (HOT).
) with (fillfactor = 50);

create unique index products_idempotency_key on products (idempotency_key) where idempotency_key is not null;

-- What was received, ever: the initial stock and every delta since. The sum is what is available and reserved together; `waybill audit`
-- proves it.
create table stock_changes (
    id         uuid        primary key,
    product_id uuid        not null references products (id),
    delta      bigint      not null,
    created_at timestamptz not null default now()
);

create index stock_changes_product on stock_changes (product_id);

-- One row decides every command for one reservation: made once, released at most once. A release without a reservation leaves a row
-- too (a tombstone), so that a reservation arriving after it takes nothing. Rows are kept: they must outlive any redelivery.
create table reservations (
    id         uuid        primary key, -- of an order: the order's own id
    direct     boolean     not null,    -- made over HTTP, without an order
    status     text        not null check (status in ('reserved', 'refused', 'released')),
    items      jsonb       not null,    -- [{product_id, quantity, unit_price}], empty unless it was once reserved
    reason     jsonb,                   -- why it was refused
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
