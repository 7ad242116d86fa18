-- What is held without an order is given back after a time (WAYBILL_RESERVATIONS_EXPIRE_AFTER). Null, of such a row: made by a build that knew
-- no end; it gets one, counted from its creation. Infinity: it holds nothing (any more). Of an order's row always null: the order decides.
alter table reservations add column expires_at timestamptz;

-- Of what is held without an order alone. Not by status: an order's release would then rewrite its row's index entries.
create index reservations_expire on reservations (expires_at nulls first) where direct;
