//! A server process on the servers' core. It is stopped when its value is dropped; no other process ever is.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{LOAD_CORE, SERVER_CORE, pin};

/// How long a server may take to finish what it has begun.
const GRACE: Duration = Duration::from_secs(60);

/// A running server and its address.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts a command that serves on an address that is known already.
    pub fn start(command: &mut Command, address: SocketAddr) -> Result<Self> {
        Ok(Self { child: spawn(command)?, address })
    }

    /// Starts one of the two baselines, which print their address.
    pub fn start_baseline(program: &Path, arguments: &[&str]) -> Result<Self> {
        let child = spawn(Command::new(program).args(arguments).stdout(Stdio::piped()))?;
        let mut server = Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        let mut line = String::new();
        BufReader::new(server.child.stdout.take().context("no output")?).read_line(&mut line)?;
        server.address = line.trim().parse().with_context(|| format!("{} did not start", program.display()))?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }
}

/// Runs a command to its end on the servers' core.
pub fn output(command: &mut Command) -> Result<Output> {
    Ok(spawn(command.stdout(Stdio::piped()))?.wait_with_output()?)
}

/// A child has the core that its parent has when it is started.
fn spawn(command: &mut Command) -> Result<Child> {
    pin(SERVER_CORE)?;
    let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()));
    pin(LOAD_CORE)?;
    child
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < GRACE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
