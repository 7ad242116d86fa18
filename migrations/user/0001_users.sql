create table users (
    id              uuid        primary key,
    email           text        not null,
    name            text        not null,
    active          boolean     not null default true,
    created_at      timestamptz not null default now(),
    -- The client's Idempotency-Key. Kept as long as the user, so a repeated request can never create a second one.
    idempotency_key text,
    request         jsonb        -- what was asked for with the key
);

-- An address is taken in any case of letters.
create unique index users_email_key on users (lower(email));
create unique index users_idempotency_key on users (idempotency_key) where idempotency_key is not null;
