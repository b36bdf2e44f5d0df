//! A Keyward of its own for a measurement: set up in a temporary folder, filled with keys, and gone afterwards.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::Api;
use crate::keyset::{ENVIRONMENT, Keyset, PREFIX, sha256_hex};
use crate::machine;
use crate::server::Server;

/// Who sets it up, and signs in.
pub const OWNER: &str = "bench@example.com";
pub const PASSWORD: &str = "four quiet river stones";
/// The contract's most items of an import.
const IMPORT_ITEMS: usize = 1_000;
/// What the plan allows all keys together: in nobody's way.
pub const PLAN_PER_MINUTE: u64 = 1_000_000_000_000;
const START_TIME: Duration = Duration::from_secs(60);

/// Where an instance stands, and what it is told besides.
#[derive(Clone, Default)]
pub struct Place {
    /// A PostgreSQL database; SQLite when absent.
    pub database_url: Option<String>,
    /// Variables of settings, with their values.
    pub settings: Vec<(&'static str, String)>,
}

/// A running Keyward with one organization whose plan has room for every key.
pub struct Instance {
    program: PathBuf,
    server: Server,
    pub api: Api,
    pub organization: String,
    place: Place,
    /// Last, so that the server has stopped when it is removed.
    folder: TempDir,
}

/// Another node on an instance's database.
pub struct Node {
    server: Server,
    pub api: Api,
    /// Last, so that the server has stopped when it is removed.
    _folder: TempDir,
}

impl Node {
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}

/// What `keyward setup --json` prints.
#[derive(Deserialize)]
struct SetUp {
    service_key: String,
}

impl Instance {
    /// On SQLite in a temporary folder.
    pub fn set_up(program: &Path) -> Result<Self> {
        Self::set_up_on(program, None)
    }

    /// On an empty PostgreSQL database where one is given.
    pub fn set_up_on(program: &Path, database_url: Option<&str>) -> Result<Self> {
        Self::set_up_at(program, Place { database_url: database_url.map(str::to_owned), ..Place::default() })
    }

    /// With further settings.
    pub fn set_up_at(program: &Path, place: Place) -> Result<Self> {
        let folder = new_folder()?;
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, PASSWORD)?;
        let mut command = Command::new(program);
        command.args(["setup", "--email", OWNER, "--organization", "Bench", "--json", "--password-file"]);
        command.arg(password_file).arg("--data-dir").arg(folder.path()).args(database_flag(&place));
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot start {}", program.display()))?;
        ensure!(output.status.success(), "keyward setup failed: {}", output.status);
        let SetUp { service_key } =
            serde_json::from_slice(&output.stdout).context("keyward setup printed something else")?;

        let (server, address) = serve(program, folder.path(), &place)?;
        let api = Api { address, service_key };
        let plan = json!({
            "name": "bench", "key_limit": 20_000_000, "requests_per_minute": PLAN_PER_MINUTE,
            "quota_per_month": 1_000_000_000_000u64
        });
        api.post("/v1/plans", &plan)?;
        let organization =
            json!({"name": "Measured", "slug": "measured", "email": "measured@example.com", "plan": "bench"});
        let organization = api.post("/v1/organizations", &organization)?;
        let organization = organization["id"].as_str().context("an organization has an id")?.to_owned();
        Ok(Self { program: program.to_owned(), server, api, organization, place, folder })
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Stops the server and starts it anew on what it has stored.
    pub fn restart(self) -> Result<Self> {
        self.restart_after(|| Ok(()))
    }

    /// Stops the server, and starts it anew when the work is done.
    pub fn restart_after(self, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let Self { program, server, api, organization, place, folder } = self;
        drop(server);
        work()?;
        let (server, address) = serve(&program, folder.path(), &place)?;
        Ok(Self { program, server, api: Api { address, ..api }, organization, place, folder })
    }

    /// Starts another node on the same database, with further settings.
    pub fn join(&self, settings: &[(&'static str, String)]) -> Result<Node> {
        let folder = new_folder()?;
        let mut place = self.place.clone();
        place.settings.extend_from_slice(settings);
        let (server, address) = serve(&self.program, folder.path(), &place)?;
        let api = Api { address, service_key: self.api.service_key.clone() };
        Ok(Node { server, api, _folder: folder })
    }

    /// Which database the program works on.
    pub fn place_flags(&self) -> Vec<String> {
        let mut flags = vec!["--data-dir".to_owned(), self.folder.path().display().to_string()];
        flags.extend(database_flag(&self.place).into_iter().map(str::to_owned));
        flags
    }

    /// An upkeep of the whole database, to its end.
    pub fn maintain(&self, kind: &str) -> Result<()> {
        let mut command = Command::new(&self.program);
        let output = command.args(["database", "maintain", kind]).args(self.place_flags()).output()?;
        ensure!(output.status.success(), "upkeep failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The file of the embedded database.
    pub fn database_file(&self) -> PathBuf {
        self.folder.path().join("keyward.db")
    }

    /// Imports new keys by their hashes and returns the first `keep` of them.
    pub fn import(&self, count: usize, keep: usize) -> Result<Keyset> {
        self.import_with(count, keep, &json!({}))
    }

    /// The same with further fields in each item.
    pub fn import_with(&self, count: usize, keep: usize, fields: &Value) -> Result<Keyset> {
        let path = format!("/v1/organizations/{}/api-keys/import", self.organization);
        let (mut kept, mut done, start) = (Keyset::default(), 0, Instant::now());
        while done < count {
            let keys = Keyset::generate(IMPORT_ITEMS.min(count - done));
            let items: Vec<Value> =
                keys.iter().enumerate().map(|(index, key)| item(done + index, key, fields)).collect();
            let answer = self.api.post(&path, &json!({ "items": items }))?;
            let refused = answer["items"].as_array().context("items")?.iter().find(|item| !item["error"].is_null());
            ensure!(refused.is_none(), "an import was refused: {}", refused.unwrap_or(&Value::Null));
            kept.fill_from(&keys, keep);
            done += keys.len();
            if done % (count / 10).next_multiple_of(IMPORT_ITEMS).max(IMPORT_ITEMS) == 0 {
                eprintln!("  imported {done} of {count} keys, {:.0} s", start.elapsed().as_secs_f64());
            }
        }
        Ok(kept)
    }

    pub fn resident_bytes(&self) -> Result<u64> {
        machine::resident_bytes(self.pid())
    }
}

fn item(number: usize, key: &str, fields: &Value) -> Value {
    let mut item = json!({
        "name": format!("bench {number}"), "hash": sha256_hex(key), "algorithm": "sha256",
        "hint": &key[key.len() - 4..], "prefix": PREFIX, "environment": ENVIRONMENT, "scopes": ["invoices:read"]
    });
    let fields = fields.as_object().expect("fields are an object").clone();
    item.as_object_mut().expect("an item is an object").extend(fields);
    item
}

fn new_folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("keyward-bench-").tempdir()?)
}

fn database_flag(place: &Place) -> Vec<&str> {
    place.database_url.as_deref().map_or_else(Vec::new, |url| vec!["--database-url", url])
}

/// Starts the server and waits until it is ready.
fn serve(program: &Path, folder: &Path, place: &Place) -> Result<(Server, SocketAddr)> {
    // Free a moment ago; nobody else on this machine asks for ports at this rate.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let log_path = folder.join("server.log");
    let log = std::fs::File::options().create(true).append(true).open(&log_path)?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--listen", &address.to_string(), "--data-dir"])
        .arg(folder)
        .args(database_flag(place))
        .envs(place.settings.iter().cloned())
        .env("KEYWARD_CALLER_LIMITS_IMPORT_PER_MINUTE", "1000000")
        .env("KEYWARD_CALLER_LIMITS_AUTHENTICATION_PER_MINUTE", "1000000000")
        .env("KEYWARD_CALLER_LIMITS_UNAUTHENTICATED_PER_MINUTE", "1000000000");
    let mut server = Server::start(command.stdout(Stdio::null()).stderr(log), address)?;
    let ready = Api { address, service_key: String::new() };
    let start = Instant::now();
    while ready.get("/ready").is_err() {
        let log = || std::fs::read_to_string(&log_path).unwrap_or_default();
        ensure!(!server.has_ended()?, "keyward serve ended:\n{}", log());
        ensure!(start.elapsed() < START_TIME, "keyward serve was not ready in time:\n{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((server, address))
}
