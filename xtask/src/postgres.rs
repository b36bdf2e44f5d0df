//! A PostgreSQL server of one's own: made in a temporary folder, on a free port of the loopback, gone when dropped.
//! PostgreSQL refuses to run as root; then it runs as its own user, or nobody.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::packages::postgres_program;

/// Fast rather than durable: a test's data need not outlive a power cut.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=400",
    "shared_buffers=64MB",
];

/// A running server.
pub struct Server {
    process: Child,
    port: u16,
    url: String,
    // Dropped last, when the server has ended.
    _folder: TempDir,
}

impl Server {
    pub fn start() -> Result<Self> {
        let missing = "PostgreSQL is not installed: apt-get install --no-install-recommends postgresql";
        let (initdb, postgres) =
            (postgres_program("initdb").context(missing)?, postgres_program("postgres").context(missing)?);
        let folder = tempfile::Builder::new().prefix("keyward-postgres-").tempdir()?;
        let account = Account::unprivileged()?;
        if let Some(account) = &account {
            std::os::unix::fs::chown(folder.path(), Some(account.user), Some(account.group))?;
        }
        let data = folder.path().join("data");
        let command = |program: &std::path::Path| {
            let mut command = Command::new(program);
            command.arg("-D").arg(&data).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
            if let Some(account) = &account {
                command.uid(account.user).gid(account.group);
            }
            command
        };
        let made = command(&initdb)
            .args(["-U", "keyward", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"])
            .output()
            .context("initdb")?;
        if !made.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let port = free_port()?;
        let mut server = command(&postgres);
        server.args(["-p", &port.to_string()]).args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        let process = server.stderr(Stdio::null()).spawn().context("postgres")?;
        let url = format!("postgres://keyward@127.0.0.1:{port}/postgres");
        let mut server = Self { process, port, url, _folder: folder };
        server.wait_until_up()?;
        Ok(server)
    }

    /// The address of its database `postgres`.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                bail!("PostgreSQL ended at once: {status}");
            }
            // It listens before it lets anybody in; clients retry that short while.
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() && self.lets_in() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("PostgreSQL did not come up in 30 seconds")
    }

    fn lets_in(&self) -> bool {
        let ready = postgres_program("pg_isready").map(|program| {
            Command::new(program).args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).status()
        });
        ready.is_none_or(|status| status.is_ok_and(|status| status.success()))
    }
}

impl Drop for Server {
    /// Asks for a fast shutdown (SIGINT) and waits for it.
    fn drop(&mut self) {
        // SAFETY: the process is our own child and has not been waited for.
        unsafe { libc::kill(self.process.id() as i32, libc::SIGINT) };
        let _ = self.process.wait();
    }
}

/// A user that may run PostgreSQL.
struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// `None` when we are not root and can run it ourselves.
    fn unprivileged() -> Result<Option<Self>> {
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            return Ok(None);
        }
        let passwd = std::fs::read_to_string("/etc/passwd")?;
        let find = |name: &str| {
            let fields: Vec<&str> =
                passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
            Some(Self { user: fields.get(2)?.parse().ok()?, group: fields.get(3)?.parse().ok()? })
        };
        Ok(Some(find("postgres").or_else(|| find("nobody")).context("neither a user postgres nor nobody")?))
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
