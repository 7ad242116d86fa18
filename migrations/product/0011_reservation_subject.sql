-- Who made a reservation without an order, where callers are known: a customer gives back only its own. Null: made for an order, by nobody in
-- particular, or before this was kept.
alter table reservations add column subject text;
