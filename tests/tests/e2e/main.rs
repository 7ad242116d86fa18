//! The whole system on its real parts, in one binary.

mod containers;
mod faults_broker;
mod faults_database;
mod faults_edge;
mod faults_network;
mod faults_process;
mod gateway;
mod health;
mod http_cancel;
mod http_edge;
mod http_keys;
mod http_orders;
mod http_pages;
mod http_products;
mod http_users;
mod http_waiting;
mod load;
mod nats_conf;
mod saga_cancel;
mod saga_late;
mod saga_outcomes;
mod saga_time;
mod shape;
mod smoke;
mod trickle;
mod words;
