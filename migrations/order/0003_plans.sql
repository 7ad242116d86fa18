-- The plan versions sagas were begun with, and what each meant to the build that used it first. A build that means something else by
-- one of them must not continue its sagas; `waybill saga upgrade-check` and the order service's readiness say so.
create table plans (
    version     integer     primary key,
    fingerprint text        not null,
    recorded_at timestamptz not null default now()
);
