-- Written at every step, and read back whole: json is kept as it was written, where jsonb is taken apart and put together each time.
alter table orders
    alter column items type json using items::json,
    alter column state type json using state::json;

-- Not even looked at on the way in: the service wrote it, and a waybill is only ever read whole. `entry::json` for queries.
alter table order_history alter column entry type text using entry::text;
