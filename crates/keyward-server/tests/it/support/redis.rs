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
        let lines = self.ask("INFO commandstats");
        let told = lines.iter().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        told.map_or(0, |line| line.split(',').next().expect("a number").parse().expect("a number"))
    }

    /// What it has of limits: the newest mark of each, and for how many milliseconds it is kept.
    pub fn marks(&self) -> Vec<(i64, i64)> {
        let names = self.ask("KEYS *:marks").into_iter().filter(|line| line.ends_with(":marks"));
        let number = |lines: &[String], mark: &str| {
            lines.iter().find_map(|line| line.strip_prefix(mark)?.parse().ok()).expect("a number")
        };
        let of = |name: String| {
            let newest = self.ask(&format!("ZRANGE {name} -1 -1"));
            (number(&newest, ""), number(&self.ask(&format!("PTTL {name}")), ":"))
        };
        names.map(of).collect()
    }

    /// The lines that it answers.
    fn ask(&self, command: &str) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("redis-server listens");
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).expect("redis-server reads");
        BufReader::new(stream).lines().map(|line| line.expect("redis-server answers")).collect()
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
