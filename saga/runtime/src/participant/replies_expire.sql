-- The steps that were compensated, the oldest first: nothing more happens to them, and their rows are deleted after a time.
create index replies_compensated on replies (created_at) where direction = 'compensate';
