-- What is reserved.
create table holds (
    trip_id uuid primary key
);
