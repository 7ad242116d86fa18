-- What the systems that its request came through keep in the trace; null for most.
alter table sagas add column tracestate text;
