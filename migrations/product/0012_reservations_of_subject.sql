-- How much one caller holds without an order is counted where that is limited (WAYBILL_RESERVATIONS_PER_SUBJECT).
create index reservations_of_subject on reservations (subject, expires_at) where direct and subject is not null;
