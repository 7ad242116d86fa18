-- Keys of cancellations are forgotten after a time (WAYBILL_KEYS_EXPIRE_AFTER), the oldest first.
create index cancellations_created_at on cancellations (created_at);
