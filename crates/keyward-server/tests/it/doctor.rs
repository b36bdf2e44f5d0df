//! `keyward doctor` over installations of every kind: running, stopped, not yet there, and out of order.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::process::{Process, set_up};
use crate::support::redis::Redis;
use crate::support::tls::Authority;
use crate::support::{Backend, Place};

const PEPPER: &str = "1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER_PEPPER: &str = "1:ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What it said: the exit code, all of its words, and each check's finding.
pub struct Told {
    code: i32,
    text: String,
    pub checks: BTreeMap<String, Value>,
}

impl Told {
    /// How a check came out.
    pub fn status(&self, check: &str) -> &str {
        self.checks.get(check).and_then(|finding| finding["status"].as_str()).unwrap_or_else(|| panic!("{}", self.text))
    }

    pub fn reason(&self, check: &str) -> &str {
        self.checks[check]["reason"].as_str().unwrap()
    }
}

pub fn doctor(place: &Place, settings: &[(&str, &str)]) -> Told {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_keyward")));
    command.env_clear().args(["doctor", "--json", "--data-dir"]).arg(place.folder());
    command.args(place.database_url().map(|url| ["--database-url", url]).into_iter().flatten());
    let listens = settings.iter().any(|(name, _)| *name == "KEYWARD_LISTEN");
    command.args((!listens).then_some(["--listen", "127.0.0.1:0"]).into_iter().flatten());
    let output = command.envs(settings.iter().copied()).stdin(Stdio::null()).output().expect("keyward runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{text}"));
    for finding in told["checks"].as_array().unwrap() {
        let is_well = finding["status"] == "ok";
        assert_eq!(finding["action"].is_null(), is_well, "what is not well tells what to do: {finding}");
    }
    let checks = told["checks"].as_array().unwrap().iter().rev();
    let checks = checks.map(|finding| (finding["check"].as_str().unwrap().to_owned(), finding.clone())).collect();
    Told { code: output.status.code().unwrap(), text, checks }
}

/// Every file of a folder, with what stands in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

async fn looks_over_a_running_and_a_stopped_one(backend: Backend) {
    let place = Place::new(backend).await;
    set_up(&place);
    let before = files(&place.folder());
    let stopped = doctor(&place, &[]);
    assert_eq!(stopped.code, 0, "{}", stopped.text);
    for check in
        ["settings", "database", "schema", "pepper", "clock", "health", "address", "certificate", "mail", "redis"]
    {
        assert_eq!(stopped.status(check), "ok", "{check}: {}", stopped.text);
    }
    assert!(stopped.reason("address").contains("free"), "{}", stopped.text);
    // The disk of a PostgreSQL is not ours to look at.
    let (folder, disk) = if backend == Backend::Sqlite { (Some("ok"), true) } else { (None, false) };
    assert_eq!(stopped.checks.get("folder").and_then(|finding| finding["status"].as_str()), folder);
    assert_eq!(stopped.status("disk") != "unknown", disk, "{}", stopped.text);
    assert_eq!(files(&place.folder()), before, "it only looks");

    let node = Process::start(&place, &[]);
    let listen = node.url.strip_prefix("http://").unwrap();
    let running = doctor(&place, &[("KEYWARD_LISTEN", listen)]);
    assert_eq!(running.code, 0, "{}", running.text);
    assert!(running.reason("address").contains("answers"), "{}", running.text);
    assert_eq!((running.status("ready"), running.status("schema")), ("ok", "ok"), "{}", running.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_and_a_stopped_installation_on_sqlite() {
    looks_over_a_running_and_a_stopped_one(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_and_a_stopped_installation_on_postgres() {
    looks_over_a_running_and_a_stopped_one(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_yet_is_not_good_and_is_not_made() {
    let place = Place::new(Backend::Sqlite).await;
    let told = doctor(&place, &[]);
    assert_eq!(told.code, 0, "{}", told.text);
    for (check, status) in [
        ("folder", "warning"),
        ("database", "warning"),
        ("schema", "unknown"),
        ("pepper", "unknown"),
        ("clock", "unknown"),
    ] {
        assert_eq!(told.status(check), status, "{check}: {}", told.text);
    }
    assert!(!place.folder().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_out_of_order_is_named_and_no_secret_is_told() {
    let place = Place::new(Backend::Sqlite).await;
    set_up(&place);
    let folder = place.folder();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // It takes the connection and hangs up.
    std::thread::spawn({
        let stranger = stranger.try_clone().unwrap();
        move || stranger.incoming().for_each(drop)
    });
    let listen = stranger.local_addr().unwrap().to_string();
    let mut redis = Redis::start();
    let redis_url = redis.url();
    let well = doctor(&place, &[("KEYWARD_REDIS_URL", &redis_url), ("KEYWARD_MAIL_SMTP_URL", &place.mails.url)]);
    assert_eq!((well.code, well.status("redis"), well.status("mail")), (0, "ok", "ok"), "{}", well.text);
    redis.stop();
    let told = doctor(
        &place,
        &[
            ("KEYWARD_LISTEN", &listen),
            ("KEYWARD_REDIS_URL", &redis_url.replace("://", "://:hush-redis@")),
            ("KEYWARD_MAIL_SMTP_URL", "smtp://user:hush-mail@127.0.0.1:9"),
            ("KEYWARD_KEYS_PEPPERS", PEPPER),
        ],
    );
    assert_eq!(told.code, 3, "{}", told.text);
    for (check, status) in [
        ("folder", "warning"),
        ("address", "failure"),
        ("redis", "failure"),
        ("mail", "failure"),
        ("pepper", "failure"),
        ("schema", "ok"),
    ] {
        assert_eq!(told.status(check), status, "{check}: {}", told.text);
    }
    assert!(!["hush", "00112233"].iter().any(|secret| told.text.contains(secret)), "{}", told.text);

    let outside = Place::new(Backend::Sqlite).await;
    drop(Process::start(&outside, &[("KEYWARD_KEYS_PEPPERS", PEPPER)]));
    for (pepper, status) in [(PEPPER, "ok"), (OTHER_PEPPER, "failure"), ("", "failure"), ("1:short", "failure")] {
        let told = doctor(&outside, &[("KEYWARD_KEYS_PEPPERS", pepper)]);
        assert_eq!(told.status("pepper"), status, "{pepper}: {}", told.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_looked_at_with_its_key() {
    let place = Place::new(Backend::Sqlite).await;
    set_up(&place);
    let authority = Authority::new();
    let pair = authority.renew();
    let [certificate, key] = authority.files();
    let settings = [
        ("KEYWARD_SERVER_TLS_CERTIFICATE_FILE", certificate.to_str().unwrap()),
        ("KEYWARD_SERVER_TLS_KEY_FILE", key.to_str().unwrap()),
    ];
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let told = doctor(&place, &settings);
    assert_eq!((told.status("certificate"), told.status("tls key")), ("ok", "ok"), "{}", told.text);
    let node = Process::start(&place, &settings);
    let listen = node.url.strip_prefix("https://").unwrap();
    let running = doctor(&place, &[settings[0], settings[1], ("KEYWARD_LISTEN", listen)]);
    assert!(running.reason("address").contains("answers"), "{}", running.text);

    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(doctor(&place, &settings).status("tls key"), "warning");
    authority.write(&pair.certificate, &authority.pair().key);
    let told = doctor(&place, &settings);
    assert_eq!((told.code, told.status("certificate")), (3, "failure"), "{}", told.text);
}

async fn steps_are_compared(backend: Backend) {
    let place = Place::new(backend).await;
    set_up(&place);
    for (statement, status) in [
        (
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
            "failure",
        ),
        (
            "DELETE FROM _sqlx_migrations WHERE version = 9999 OR version = (SELECT max(version) FROM _sqlx_migrations WHERE version < 9999)",
            "warning",
        ),
        ("UPDATE _sqlx_migrations SET success = (1 = 0) WHERE version = 2", "failure"),
    ] {
        place.run(statement).await;
        let told = doctor(&place, &[]);
        assert_eq!(told.status("schema"), status, "{statement}: {}", told.text);
        assert_eq!(told.code, if status == "failure" { 3 } else { 0 }, "{}", told.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_compared_on_sqlite() {
    steps_are_compared(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_compared_on_postgres() {
    steps_are_compared(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_reached_or_read_fails() {
    let place = Place::new(Backend::Sqlite).await;
    std::fs::create_dir_all(place.folder()).unwrap();
    std::fs::write(place.folder().join("keyward.db"), "no database at all, but long enough to be one".repeat(100))
        .unwrap();
    let told = doctor(&place, &[]);
    assert_eq!((told.code, told.status("database")), (3, "failure"), "{}", told.text);
    let told = doctor(&place, &[("KEYWARD_DATABASE_URL", "postgres://keyward:hush@127.0.0.1:9/keyward")]);
    assert_eq!((told.code, told.status("database")), (3, "failure"), "{}", told.text);
    assert!(!told.text.contains("hush"), "{}", told.text);
    let told = doctor(&place, &[("KEYWARD_DATABASE_CONNECTIONS", "many")]);
    assert_eq!((told.code, told.status("settings")), (3, "failure"), "{}", told.text);
}
