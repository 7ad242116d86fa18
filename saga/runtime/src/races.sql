-- Whether every saga of a batch still stands where it was decided. Where one does not, the statement that writes the batch fails, and nothing of it
-- is written.
create domain undisturbed as boolean constraint moved_meanwhile check (value);
