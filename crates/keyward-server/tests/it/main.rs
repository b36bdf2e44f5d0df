//! The integration suite: the real server in process, a fresh database for each test, HTTP in and out. Every test runs
//! on SQLite and on PostgreSQL. The clock is ours and stands still unless a test moves it.

mod agreement;
mod callers;
mod cli;
mod conventions;
mod countries;
mod crash;
mod database;
mod events;
mod forward_auth;
mod hostile;
mod imports;
mod jobs;
mod keys;
mod lane;
mod leaks;
mod limits;
mod metering;
mod nginx;
mod nodes;
mod oidc;
mod organizations;
mod passkeys;
mod people;
mod peppers;
mod plans;
mod proofs;
mod reservations;
mod roles;
mod security;
mod settings;
mod shared_limits;
mod support;
mod tls;
mod usage;
mod web;
