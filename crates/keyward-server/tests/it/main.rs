//! The integration suite: the real server in process, a fresh database for each test, HTTP in and out. Every test runs
//! on SQLite and on PostgreSQL. The clock is ours and stands still unless a test moves it.

mod agreement;
mod brute_force;
mod callers;
mod cli;
mod conventions;
mod countries;
mod crash;
mod database;
mod database_roles;
mod doctor;
mod events;
mod forward_auth;
mod hostile;
mod imports;
mod jobs;
mod keys;
mod lane;
mod leaks;
mod limits;
mod links;
mod lock_order;
mod mails;
mod metering;
mod nginx;
mod nodes;
mod noted;
mod oidc;
mod organizations;
mod passkeys;
mod passwords;
mod people;
mod peppers;
mod plans;
mod proofs;
mod repeats;
mod reservations;
mod roles;
mod schema;
mod security;
mod session_history;
mod sessions;
mod settings;
mod setup;
mod shared_limits;
mod sinks;
mod statements;
mod support;
mod swaps;
mod tls;
mod tokens;
mod usage;
mod web;

// The platform's statements, read a second time in `statements`, know this as `crate::db`.
use keyward::db;
