-- Kept as it was written: json is not taken apart and put together on the way in.
alter table reservations alter column items type json using items::json;
