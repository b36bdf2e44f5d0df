//! What nodes share while they are measured: a durable PostgreSQL and a Redis of the bench's own, gone when dropped.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use xtask::postgres::{Server as Postgres, free_port};

use crate::machine;

const START_TIME: Duration = Duration::from_secs(10);

/// A PostgreSQL that makes databases.
pub struct Databases {
    server: Postgres,
    made: u32,
}

impl Databases {
    pub fn start() -> Result<Self> {
        Ok(Self { server: machine::start_on_both(Postgres::start_durable)?, made: 0 })
    }

    /// A new, empty database.
    pub fn make(&mut self) -> Result<String> {
        self.made += 1;
        let name = format!("bench_{}", self.made);
        let text = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        let make = async {
            let mut connection = PgConnection::connect(self.server.url()).await?;
            sqlx::raw_sql(text).execute(&mut connection).await
        };
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(make)?;
        Ok(format!("postgres://keyward@127.0.0.1:{}/{name}", self.server.port()))
    }
}

/// A Redis that keeps everything in memory, on the load generator's core.
pub struct Redis {
    process: Child,
    pub url: String,
}

impl Redis {
    pub fn start() -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let process = command.stdout(Stdio::null()).spawn().context("redis-server is not installed")?;
        let redis = Self { process, url: format!("redis://127.0.0.1:{port}") };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(begun.elapsed() < START_TIME, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
