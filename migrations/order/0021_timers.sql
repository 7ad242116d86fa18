-- A timer of its own for each outstanding command, where a saga waits for more than one reply. Null: one alone, which `waiting_since` and `due_at`
-- are. A build before this one writes those two only, and what stands here counts only where it agrees with them.
alter table orders add column timers json;
