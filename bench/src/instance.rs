//! A Keyward of its own for a measurement: set up in a temporary folder, filled with keys, and gone afterwards.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::Api;
use crate::connection::Expected;
use crate::keyset::{ENVIRONMENT, Keyset, PREFIX, sha256_hex};
use crate::load::Load;
use crate::machine;
use crate::request::Request;
use crate::schedule::Pace;
use crate::server::Server;

/// Who sets it up, and signs in.
pub const OWNER: &str = "bench@example.com";
pub const PASSWORD: &str = "four quiet river stones";
/// The contract's most items of an import.
const IMPORT_ITEMS: usize = 1_000;
const START_TIME: Duration = Duration::from_secs(60);
/// Last uses and new hashes are written once a second.
const FLUSH_TIME: Duration = Duration::from_secs(2);
const MAX_WARM_UPS: u32 = 20;
/// Connections of the warm-up.
const CONNECTIONS: usize = 64;

/// A running Keyward with one organization whose plan has room for every key.
pub struct Instance {
    program: PathBuf,
    server: Server,
    pub api: Api,
    pub organization: String,
    database_url: Option<String>,
    /// Last, so that the server has stopped when it is removed.
    folder: TempDir,
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
        let folder = tempfile::Builder::new().prefix("keyward-bench-").tempdir()?;
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, PASSWORD)?;
        let mut command = Command::new(program);
        command.args(["setup", "--email", OWNER, "--organization", "Bench", "--json", "--password-file"]);
        command.arg(password_file).arg("--data-dir").arg(folder.path()).args(database_flag(database_url));
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot start {}", program.display()))?;
        ensure!(output.status.success(), "keyward setup failed: {}", output.status);
        let SetUp { service_key } =
            serde_json::from_slice(&output.stdout).context("keyward setup printed something else")?;

        let (server, address) = serve(program, folder.path(), database_url)?;
        let api = Api { address, service_key };
        let plan = json!({
            "name": "bench", "key_limit": 20_000_000, "requests_per_minute": 1_000_000_000_000u64,
            "quota_per_month": 1_000_000_000_000u64
        });
        api.post("/v1/plans", &plan)?;
        let organization =
            json!({"name": "Measured", "slug": "measured", "email": "measured@example.com", "plan": "bench"});
        let organization = api.post("/v1/organizations", &organization)?;
        let organization = organization["id"].as_str().context("an organization has an id")?.to_owned();
        let database_url = database_url.map(str::to_owned);
        Ok(Self { program: program.to_owned(), server, api, organization, database_url, folder })
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Stops the server and starts it anew on what it has stored.
    pub fn restart(self) -> Result<Self> {
        let Self { program, server, api, organization, database_url, folder } = self;
        drop(server);
        let (server, address) = serve(&program, folder.path(), database_url.as_deref())?;
        Ok(Self { program, server, api: Api { address, ..api }, organization, database_url, folder })
    }

    /// Which database the program works on.
    pub fn place_flags(&self) -> Vec<String> {
        let mut flags = vec!["--data-dir".to_owned(), self.folder.path().display().to_string()];
        flags.extend(database_flag(self.database_url.as_deref()).into_iter().map(str::to_owned));
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

    /// Verifies every key until none had to be read from the database. The first time that replaces the imported
    /// hashes, which are remembered only once that is written.
    pub fn warm_up(&self, keys: &Keyset) -> Result<()> {
        let request = Request::verify(self.api.address, &self.api.service_key, keys.get(0).len());
        let load =
            Load { to: self.api.address, request: &request, keys, expected: Expected::VALID, connections: CONNECTIONS };
        for _ in 0..MAX_WARM_UPS {
            let before = self.cache_misses()?;
            let outcome = load.run(Pace::EachOnce)?;
            ensure!(outcome.errors == 0, "{} of {} keys were not valid", outcome.errors, outcome.requests);
            std::thread::sleep(FLUSH_TIME);
            let misses = self.cache_misses()? - before;
            eprintln!("  verified {} keys, {misses} read from the database", keys.len());
            if misses == 0 {
                return Ok(());
            }
        }
        bail!("after {MAX_WARM_UPS} passes over all keys some are still read from the database")
    }

    /// How many keys had to be read from the database so far.
    pub fn cache_misses(&self) -> Result<u64> {
        let metrics = self.api.get("/metrics")?;
        let value = metrics.lines().find_map(|line| line.strip_prefix("keyward_cache_misses_total "));
        let value = value.context("/metrics has no keyward_cache_misses_total")?;
        Ok(value.trim().parse::<f64>()? as u64)
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

fn database_flag(url: Option<&str>) -> Vec<&str> {
    url.map_or_else(Vec::new, |url| vec!["--database-url", url])
}

/// Starts the server and waits until it is ready.
fn serve(program: &Path, folder: &Path, database_url: Option<&str>) -> Result<(Server, SocketAddr)> {
    // Free a moment ago; nobody else on this machine asks for ports at this rate.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let log_path = folder.join("server.log");
    let log = std::fs::File::options().create(true).append(true).open(&log_path)?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--listen", &address.to_string(), "--data-dir"])
        .arg(folder)
        .args(database_flag(database_url))
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
