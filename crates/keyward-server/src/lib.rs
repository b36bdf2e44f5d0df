//! Keyward's server and command line as a library, so that the tests can run the real thing in process.

pub mod api;
pub mod app;
pub mod cli;
mod company;
pub mod connections;
pub mod console;
pub mod fixed_headers;
pub mod gateway;
pub mod hot;
pub mod lane;
pub mod problem;
pub mod serve;
pub mod tls;
pub mod witness;
