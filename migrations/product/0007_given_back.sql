-- What operators gave back that was held for orders nobody placed: who, when and why.
create table given_back (
    reservation_id uuid        primary key,
    released_by    text        not null,
    reason         text        not null,
    at             timestamptz not null default now()
);
