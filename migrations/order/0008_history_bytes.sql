-- The bytes of an order's history, its first entry apart: its growth has a limit, and nobody should have to read it to know its length.
-- Orders placed before count from here on.
alter table orders add column history_bytes bigint not null default 0;
