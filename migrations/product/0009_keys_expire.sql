-- Keys are forgotten after a time (WAYBILL_KEYS_EXPIRE_AFTER), the oldest first.
create index keyed_requests_created_at on keyed_requests (created_at);
