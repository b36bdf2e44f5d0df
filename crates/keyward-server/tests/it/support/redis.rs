//! A real Redis on a free port, which can be stopped and started again at the same place.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// A running Redis, stopped when dropped.
pub struct Redis {
    port: u16,
    process: Option<Child>,
}

impl Redis {
    pub fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut redis = Self { port, process: None };
        redis.resume();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many scripts it was asked to run.
    pub fn scripts(&self) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("redis-server listens");
        stream.write_all(b"INFO commandstats\r\nQUIT\r\n").expect("redis-server reads");
        let lines = BufReader::new(stream).lines().map(|line| line.expect("redis-server answers"));
        let told: Vec<String> =
            lines.filter_map(|line| Some(line.strip_prefix("cmdstat_evalsha:calls=")?.to_owned())).collect();
        told.first().map_or(0, |line| line.split(',').next().expect("a number").parse().expect("a number"))
    }

    /// Ends the server, as a crash would: what it held is gone.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("our own process");
            process.wait().expect("our own process");
        }
    }

    /// Starts it where it was.
    pub fn resume(&mut self) {
        let port = self.port.to_string();
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        self.process = Some(process);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::yield_now();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
