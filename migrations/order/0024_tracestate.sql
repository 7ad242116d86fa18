-- What the systems that its request came through keep in the trace; null for most.
alter table orders add column tracestate text;
