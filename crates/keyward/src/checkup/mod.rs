//! What can be told of an installation without changing anything in it, whether a node runs there or not. Files, addresses
//! and certificates are looked at by whoever serves; here are the database, its clock and pepper, and the servers beside it.

mod sql;

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward_core::time::{Clock, Timestamp};
use serde::Serialize;

use crate::audit::Audit;
use crate::config::{DatabaseSettings, MailSettings, RedisSettings, Settings};
use crate::context::Context;
use crate::db::{Applied, Db, DbError, Schema, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::jobs::{JobKind, Jobs};
use crate::keys::peppers::{self, Kept};
use crate::limits::shared;
use crate::mail::Mailer;
use crate::maintenance::{self, Maintenance};

/// The oldest PostgreSQL that has all that is asked of it.
const OLDEST_POSTGRES: i64 = 150_000;
/// From here on clocks that differ are told; nodes and people's codes go by them.
const DRIFT_WARNS: f64 = 1.0;
const DRIFT_FAILS: f64 = 30.0;
/// How long a server beside us may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the database may take to answer a node that is asked whether it can work.
const SOON: Duration = Duration::from_secs(2);

/// How something fares; the worse, the greater. What could not be looked at is unknown, never good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    Unknown,
    Warning,
    Failure,
}

/// What came of a check, and what to do about it.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub status: Status,
    pub reason: String,
    pub action: Option<String>,
}

impl Finding {
    pub fn ok(check: &'static str, reason: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, reason: reason.into(), action: None }
    }

    pub fn bad(check: &'static str, status: Status, reason: impl Into<String>, action: impl Into<String>) -> Self {
        Self { check, status, reason: reason.into(), action: Some(action.into()) }
    }

    pub fn unknown(check: &'static str, reason: impl Into<String>, action: impl Into<String>) -> Self {
        Self::bad(check, Status::Unknown, reason, action)
    }

    pub fn failure(check: &'static str, reason: impl Into<String>, action: impl Into<String>) -> Self {
        Self::bad(check, Status::Failure, reason, action)
    }
}

/// Whether the database answers, soon.
pub(crate) async fn answers(db: &Db) -> bool {
    let answer = tokio::time::timeout(SOON, sql(sql::ANSWER).one::<(i64,)>(db)).await;
    matches!(answer, Ok(Ok(_)))
}

/// Looks at the database, and into it.
pub async fn database(settings: &Settings, clock: &Clock) -> Vec<Finding> {
    let file = settings.database.data_dir.join("keyward.db");
    if settings.database.url.is_empty() && !file.exists() {
        let reason = format!("There is no {} yet.", file.display());
        let action = "`keyward serve` makes it; or name the right folder by --data-dir.";
        return std::iter::once(Finding::bad("database", Status::Warning, reason, action)).chain(unseen()).collect();
    }
    let db = match open(&settings.database, &file).await {
        Ok(db) => db,
        Err(error) => {
            let action = if settings.database.url.is_empty() {
                "Look who owns the file and its folder, and whether it is a Keyward database."
            } else {
                "See that PostgreSQL runs, and that database.url has its address, name and password right."
            };
            return std::iter::once(Finding::failure("database", told(&error), action)).chain(unseen()).collect();
        }
    };
    let findings = look_into(&db, settings, clock).await;
    db.close().await;
    findings
}

async fn open(settings: &DatabaseSettings, file: &Path) -> Result<Db, DbError> {
    if settings.url.is_empty() { Db::read_sqlite(file).await } else { Db::read_postgres(&settings.url).await }
}

/// The checks that need a database, where there is none.
fn unseen() -> impl Iterator<Item = Finding> {
    ["schema", "pepper", "clock"]
        .into_iter()
        .map(|check| Finding::unknown(check, "There is no database to look into.", "Mend that first."))
}

async fn look_into(db: &Db, settings: &Settings, clock: &Clock) -> Vec<Finding> {
    let ground = Ground { db: db.clone(), clock: clock.clone(), board: Arc::default() };
    let owner = match maintenance::connect_owner(db, &settings.maintenance) {
        Ok(owner) => owner,
        Err(error) => {
            let action =
                "Set maintenance.database_url to an address of the role that owns the tables, or leave it empty.";
            return std::iter::once(Finding::failure("database", sentence(&error), action)).chain(unseen()).collect();
        }
    };
    let maintenance = Maintenance {
        owner,
        jobs: Jobs::new(ground.clone(), settings.jobs.retention_days),
        settings: settings.maintenance.clone(),
        data_dir: settings.database.data_dir.clone(),
        audit: Audit::new(ground.clone()),
        needs_witness: !settings.audit.witnesses.is_empty(),
        ground,
    };
    let or_unknown = |check, found: Result<Finding, DbError>| {
        found.unwrap_or_else(|error| Finding::unknown(check, told(&error), "Mend the database first."))
    };
    let version = match maintenance.version().await {
        Ok(version) => or_unknown("database", judge_version(db, &version).await),
        Err(error) => {
            Finding::failure("database", sentence(&error), "See whether it is a Keyward database, and whole.")
        }
    };
    let schema = or_unknown("schema", schema(db).await);
    let is_current = schema.status == Status::Ok;
    let mut findings = vec![version, schema, pepper(db, settings).await];
    findings.push(or_unknown("clock", compare_clocks(db, clock).await));
    if is_current {
        findings.extend(health(&maintenance).await);
    }
    findings
}

async fn judge_version(db: &Db, version: &str) -> Result<Finding, DbError> {
    if db.is_postgres() && sql(sql::VERSION_NUMBER).one::<(i64,)>(db).await?.0 < OLDEST_POSTGRES {
        return Ok(Finding::failure("database", format!("{version} is too old."), "Use PostgreSQL 15 or later."));
    }
    Ok(Finding::ok("database", format!("{version} answers.")))
}

async fn schema(db: &Db) -> Result<Finding, DbError> {
    let check = "schema";
    if sql::HAS_STEPS.on(db).one::<(i64,)>(db).await?.0 == 0 {
        let reason = "The database is empty.";
        return Ok(Finding::bad(check, Status::Warning, reason, "`keyward serve` makes the tables."));
    }
    let applied: Vec<Applied> = sql(sql::STEPS).all(db).await?;
    Ok(match Schema::of(&applied, db.is_postgres()) {
        Schema::Current => Finding::ok(check, format!("All {} migrations are there.", applied.len())),
        Schema::Behind(count) => {
            let reason = format!("{count} migrations are still to come.");
            Finding::bad(
                check,
                Status::Warning,
                reason,
                "They are applied when `keyward serve` starts; back up before.",
            )
        }
        Schema::Ahead(count) => {
            let reason = format!("A newer Keyward has applied {count} migrations that this one does not know.");
            Finding::failure(check, reason, "Run that version, or restore the backup from before.")
        }
        Schema::Differs(step) => {
            let reason = format!("The migration {step} did not end, or is not the one that this version has.");
            Finding::failure(check, reason, "Restore the last backup, and start the version that made it.")
        }
    })
}

async fn pepper(db: &Db, settings: &Settings) -> Finding {
    let check = "pepper";
    match peppers::look(db, &settings.keys.peppers).await {
        Ok(Kept::Outside) => Finding::ok(check, "It is held outside of the database, and is the right one."),
        Ok(Kept::InDatabase) => Finding::ok(check, "It is kept in the database; keys.peppers would hold it apart."),
        Ok(Kept::Nowhere) => Finding::ok(check, "There is none yet; the first start makes one."),
        Err(error) if error.source().is_some() => Finding::unknown(check, sentence(&error), "Mend the database first."),
        Err(error) => {
            let action = "Set keys.peppers to what this installation was started with.";
            Finding::failure(check, sentence(&error), action)
        }
    }
}

/// Our clock beside PostgreSQL's, and beside the newest event of the book.
async fn compare_clocks(db: &Db, clock: &Clock) -> Result<Finding, DbError> {
    let (check, action) = ("clock", "Let NTP set the clock of this machine, and of the database's.");
    let seconds = |from: Timestamp, to: Timestamp| (to.as_micros() - from.as_micros()) as f64 / 1e6;
    let book: Option<(Timestamp,)> = sql(sql::LAST_LOGGED).optional(db).await?;
    if let Some((last,)) = book
        && seconds(clock.now(), last) > DRIFT_WARNS
    {
        let reason = format!("The newest event of the book is of {last}, and here it is {}.", clock.now());
        return Ok(Finding::failure(check, reason, action));
    }
    if !db.is_postgres() {
        return Ok(Finding::ok(check, format!("It is {}, and no event of the book is later.", clock.now())));
    }
    let asked_at = clock.now();
    let (theirs,): (Timestamp,) = sql(sql::CLOCK).one(db).await?;
    let answered_at = clock.now();
    // What lies between question and answer may be either's.
    let drift = seconds(answered_at, theirs).max(seconds(theirs, asked_at)).max(0.0);
    let reason = format!("The database's clock is {drift:.1} s away from ours.");
    Ok(match drift {
        drift if drift >= DRIFT_FAILS => Finding::failure(check, reason, action),
        drift if drift >= DRIFT_WARNS => Finding::bad(check, Status::Warning, reason, action),
        _ => Finding::ok(check, reason),
    })
}

/// What the page of the database's health says.
async fn health(maintenance: &Maintenance) -> Vec<Finding> {
    let health = match maintenance.health(&Context::system("checkup")).await {
        Ok(health) => health,
        Err(error) => {
            return vec![Finding::unknown("health", sentence(&error), "Ask again, or look into PostgreSQL's log.")];
        }
    };
    let kept_partitions = maintenance.jobs.last_success(JobKind::Partitions).await;
    let has_kept_partitions = matches!(kept_partitions, Ok(Some(_)));
    let is_good = |status| status == maintenance::Status::Ok;
    let good = health.panels.iter().filter(|panel| is_good(panel.status)).count();
    let all = Finding::ok("health", format!("{good} of {} checks of the database are good.", health.panels.len()));
    let troubled = health.panels.iter().filter(|panel| !is_good(panel.status)).map(|panel| {
        let status = match panel.status {
            // A first start has not made them yet; the events of a new month make their own.
            maintenance::Status::Critical if panel.name == "partitions" && !has_kept_partitions => Status::Warning,
            maintenance::Status::Critical => Status::Failure,
            maintenance::Status::Warning => Status::Warning,
            maintenance::Status::Ok | maintenance::Status::Unknown => Status::Unknown,
        };
        let worst = panel.findings.iter().find(|finding| finding.status == panel.status);
        let reason = match (&panel.why, worst) {
            (Some(why), _) => format!("{}: {why}", panel.title),
            (None, Some(finding)) => {
                format!("{}: {} {} of {}", panel.title, finding.value, panel.unit, finding.subject)
            }
            (None, None) => panel.title.to_owned(),
        };
        let advice = health.advice.iter().find(|advice| advice.panel == panel.name && panel.why.is_none());
        let action = advice.map_or("See `keyward database health`.", |advice| &advice.action);
        Finding::bad(panel.name, status, reason, action)
    });
    std::iter::once(all).chain(troubled).collect()
}

/// Whether the mail server takes us.
pub async fn mail(settings: &MailSettings) -> Finding {
    let check = "mail";
    let action = "See that mail.smtp_url has the address, the name and the password right, and that the server runs.";
    let mailer = match Mailer::new(settings) {
        Ok(mailer) => mailer,
        Err(error) => return Finding::failure(check, error.detail, action),
    };
    match tokio::time::timeout(PATIENCE, mailer.greet()).await {
        Ok(None) => Finding::ok(check, "No server is set: mails stand in the log only."),
        Ok(Some(Ok(()))) => Finding::ok(check, "The mail server takes us."),
        Ok(Some(Err(error))) => Finding::failure(check, format!("The mail server does not take us: {error}"), action),
        Err(_) => Finding::failure(check, "The mail server does not answer.", action),
    }
}

/// Whether Redis answers.
pub async fn redis(settings: &RedisSettings) -> Finding {
    let check = "redis";
    let action = "See that it runs and that redis.url is right; until then limits go by their policies.";
    match tokio::time::timeout(PATIENCE, shared::greet(settings)).await {
        Ok(None) => Finding::ok(check, "None is set: each node counts for itself."),
        Ok(Some(Ok(()))) => Finding::ok(check, "It answers."),
        Ok(Some(Err(error))) => Finding::failure(check, format!("It does not answer: {error}"), action),
        Err(_) => Finding::failure(check, "It does not answer in time.", action),
    }
}

/// What went wrong, for whoever runs the installation.
fn sentence(error: &Error) -> String {
    match error.source().and_then(|source| source.downcast_ref::<DbError>()) {
        Some(error) => told(error),
        None => error.detail.clone(),
    }
}

/// What the database said, in a sentence.
fn told(error: &DbError) -> String {
    format!("{error}: {}", error.told())
}
