-- A message that says nothing the database does not hold is made again from there: for each of these a word is kept, not the message.
-- They come after the ones kept whole.
alter table outbox add column recall text[] not null default '{}';
