-- What operators do outside of a saga: with dead letters, and with what no saga gives back. Written before it is done; what came of it, after. What
-- they do with a saga stands in its history.
create table operator_actions (
    id       uuid        primary key,
    at       timestamptz not null default now(),
    by       text        not null,
    action   text        not null, -- a word: `redrive`
    about    text        not null, -- with what: `dead letter 17 of USER_REPLIES`
    saga     uuid,                 -- the one it is about, where it is about one
    reason   text        not null,
    outcome  text,                 -- null: under way, or whoever did it never said
    ended_at timestamptz
);
create index operator_actions_at on operator_actions (at desc, id desc);
