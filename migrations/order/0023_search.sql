-- What a customer calls an order, and what it is found by: `key=value`, at most eight. Null for most. The indexes are made beside the work, by the
-- service (`order/src/search.rs`).
alter table orders
    add column reference text,
    add column tags      text[];

-- The orders of each tag, in the order of their ids: however many have it, its newest are found at once. Only orders that have tags cost anything.
create table order_tags (
    tag      text not null, -- key=value
    order_id uuid not null,
    primary key (tag, order_id)
);

create function order_tagged() returns trigger language plpgsql as $$
begin
    insert into order_tags (tag, order_id) select unnest(new.tags), new.id;
    return null;
end
$$;

create trigger orders_tagged after insert on orders
    for each row when (new.tags is not null) execute function order_tagged();
