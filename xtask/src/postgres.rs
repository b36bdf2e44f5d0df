//! A PostgreSQL server of one's own: in a temporary folder, on a free port of the loopback, gone when dropped.
//!
//! It also goes when nobody drops it: a guardian (four lines of shell) waits for the end of a pipe that this process
//! alone holds, then stops the server and removes the folder. So Ctrl-C, a kill or a `static` leaves nothing behind.
//! PostgreSQL refuses to run as root; then it runs as its own user, or as nobody.

use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::packages::postgres_program;

/// Fast rather than durable: a test's data need not outlive a power cut.
const FAST: &[&str] = &["fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=64MB"];
/// What is committed outlives a power cut; with memory for a large table.
const DURABLE: &[&str] = &["shared_buffers=1GB", "max_wal_size=4GB"];

const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=400",
    "shared_preload_libraries=pg_stat_statements",
];

/// `fast` is the mode of SIGINT: connections are cut and the server ends well.
const GUARDIAN: &str = r#"
read -r _
"$1" stop -D "$2/data" -m fast
rm -rf -- "$2"
"#;

/// A running server.
pub struct Server {
    process: Child,
    guardian: Guardian,
    port: u16,
    url: String,
}

impl Server {
    /// Makes a server for tests and starts it; returns when it lets clients in.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(FAST)
    }

    /// The same for measurements.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_durable() -> Result<Self> {
        Self::start_with(DURABLE)
    }

    fn start_with(settings: &[&str]) -> Result<Self> {
        let programs = Programs::find()
            .context("PostgreSQL is not installed: apt-get install -y --no-install-recommends postgresql")?;
        let account = Account::unprivileged()?;
        // Somebody else may take the free port first.
        let mut started = Self::start_once(&programs, account, settings);
        for _ in 0..2 {
            started = started.or_else(|_| Self::start_once(&programs, account, settings));
        }
        started
    }

    /// The address of its database `postgres`.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn start_once(programs: &Programs, account: Option<Account>, settings: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let guardian = Guardian::of_new_folder(port, programs, account)?;
        let (data, log) = (guardian.folder.join("data"), guardian.folder.join("log"));
        let initdb = command(&programs.initdb, account)
            .args(["-U", "keyward", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C", "-D"])
            .arg(&data)
            .stderr(Stdio::piped())
            .output()
            .context("initdb")?;
        ensure!(initdb.status.success(), "initdb failed: {}", String::from_utf8_lossy(&initdb.stderr));
        let process = command(&programs.postgres, account)
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string()])
            .args(SETTINGS.iter().chain(settings).flat_map(|setting| ["-c", setting]))
            .stderr(File::create(&log)?)
            .spawn()
            .context("postgres")?;
        let mut server = Self { process, guardian, port, url: format!("postgres://keyward@127.0.0.1:{port}/postgres") };
        server.wait_until_ready(&data).with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(server)
    }

    /// The server writes its state on the eighth line of postmaster.pid, where `pg_ctl` reads it as well.
    fn wait_until_ready(&mut self, data: &Path) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                bail!("PostgreSQL ended at once: {status}");
            }
            let state = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            if state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("PostgreSQL did not come up in a minute")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.guardian.act();
        // The guardian has stopped it, unless it was too young to be asked.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Stops the server and removes its folder, when this is dropped or this process ends, however it ends.
struct Guardian {
    process: Child,
    folder: PathBuf,
}

impl Guardian {
    fn of_new_folder(port: u16, programs: &Programs, account: Option<Account>) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("keyward-postgres-{}-{port}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder).with_context(|| folder.display().to_string())?;
        if let Some(account) = account {
            chown(&folder, Some(account.user), Some(account.group))?;
        }
        let mut shell = command(Path::new("/bin/sh"), account);
        shell.args(["-c", GUARDIAN, "guardian"]).arg(&programs.pg_ctl).arg(&folder);
        let process = shell.stdin(Stdio::piped()).spawn().context("sh")?;
        Ok(Self { process, folder })
    }

    fn act(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.act();
    }
}

struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
    pg_ctl: PathBuf,
}

impl Programs {
    fn find() -> Option<Self> {
        Some(Self {
            initdb: postgres_program("initdb")?,
            postgres: postgres_program("postgres")?,
            pg_ctl: postgres_program("pg_ctl")?,
        })
    }
}

/// A program that starts quietly, as that user, where that user may be, and out of reach of Ctrl-C.
fn command(program: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if let Some(account) = account {
        command.uid(account.user).gid(account.group);
    }
    command
}

/// A user that may run PostgreSQL.
#[derive(Clone, Copy)]
struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// `None` when we are not root and can run it ourselves.
    fn unprivileged() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
        let account = Self::named("postgres", &users).or_else(|| Self::named("nobody", &users));
        Ok(Some(account.context("there is neither a user postgres nor a user nobody")?))
    }

    /// From lines like `postgres:x:105:113:…`.
    fn named(name: &str, users: &str) -> Option<Self> {
        let mut fields =
            users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
        Some(Self { user: fields.nth(2)?.parse().ok()?, group: fields.next()?.parse().ok()? })
    }
}

/// A port of the loopback that nobody listens on now. It is none of those that the kernel hands out, so that no other socket gets it
/// before the program that it is for has started.
pub fn free_port() -> Result<u16> {
    let ports = 10_000..32_768;
    let anywhere = RandomState::new().hash_one(()) as usize % ports.len();
    let mut ports = ports.clone().cycle().skip(anywhere).take(ports.len());
    let free = ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.context("every port of the loopback is taken")
}
