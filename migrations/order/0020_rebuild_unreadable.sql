-- Which orders a rebuild could not tell again: the first of them, for the operator who asked.
alter table event_rebuilds add column unreadable_orders uuid[] not null default '{}';
