//! The whole platform, opened once: the slices as fields, and the work that runs beside the requests.

use std::sync::Arc;
use std::time::Duration;

use keyward_core::time::Clock;

use crate::accounts::organizations::Organizations;
use crate::accounts::passwords::Passwords;
use crate::accounts::people::People;
use crate::accounts::plans::Plans;
use crate::accounts::setup::Setup;
use crate::audit::{Audit, Classes};
use crate::checkup;
use crate::config::Settings;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::idempotency::Idempotency;
use crate::jobs::Jobs;
use crate::keys::Keys;
use crate::keys::keyspaces::Keyspaces;
use crate::keys::peppers::Peppers;
use crate::limits::Limits;
use crate::limits::callers::CallerLimits;
use crate::limits::shared::Shared;
use crate::mail::Mailer;
use crate::maintenance::{self, Maintenance};
use crate::metrics::Metrics;
use crate::oidc::Oidc;
use crate::proofs::Proofs;
use crate::reservations::Reservations;
use crate::sessions::{Parts, Sessions};
use crate::sinks::Sinks;
use crate::tasks::{self, Tasks, Work};
use crate::usage::Usage;
use crate::verify::{Counting, Haste, Verifier};

/// One node of Keyward.
pub struct Keyward {
    pub settings: Settings,
    pub clock: Clock,
    pub organizations: Organizations,
    pub plans: Plans,
    pub people: People,
    pub setup: Setup,
    pub keyspaces: Keyspaces,
    pub keys: Keys,
    pub audit: Audit,
    pub proofs: Proofs,
    pub sinks: Sinks,
    pub idempotency: Idempotency,
    pub usage: Usage,
    pub limits: Arc<Limits>,
    pub caller_limits: CallerLimits,
    pub verifier: Arc<Verifier>,
    pub reservations: Reservations,
    pub jobs: Jobs,
    pub maintenance: Maintenance,
    pub sessions: Arc<Sessions>,
    /// Absent where no identity provider is set.
    pub oidc: Option<Oidc>,
    pub metrics: Arc<Metrics>,
    classes: Arc<Classes>,
    ground: Ground,
}

impl Keyward {
    /// Opens the database that the settings name, brings its schema up to date, and makes what must exist.
    pub async fn open(settings: Settings, clock: Clock) -> Result<Self> {
        let db = open_database(&settings).await?;
        db.migrate().await?;
        let ground = Ground { db, clock: clock.clone(), board: Arc::default() };
        let audit = Audit::new(ground.clone());
        let plans = Plans { ground: ground.clone() };
        plans.ensure_built_in().await?;
        let keyspaces = Keyspaces { ground: ground.clone() };
        keyspaces.ensure_default().await?;
        let peppers = Arc::new(Peppers::open(&ground, &settings.keys.peppers).await?);
        let metrics = Arc::new(Metrics::default());
        let shared = Shared::new(&settings.redis, clock.clone(), ground.board.clone())?;
        let limits = Arc::new(Limits::new(ground.prompt(), audit.clone(), shared));
        let usage = Usage::new(ground.clone(), settings.usage.clone(), metrics.clone());
        let classes = Arc::new(Classes::new(audit.clone(), settings.audit_classes, &metrics));
        let counting = Counting {
            metrics: metrics.clone(),
            limits: limits.clone(),
            meter: usage.meter(),
            classes: classes.clone(),
        };
        let verifier =
            Verifier::open(ground.prompt(), peppers.clone(), &settings.keys, settings.verify.clone(), counting);
        let verifier = Arc::new(verifier.await?);
        let passwords = Arc::new(Passwords::new(&settings.people));
        let jobs = Jobs::new(ground.clone(), settings.jobs.retention_days);
        let maintenance = Maintenance {
            ground: ground.clone(),
            owner: maintenance::connect_owner(&ground.db, &settings.maintenance)?,
            jobs: jobs.clone(),
            settings: settings.maintenance.clone(),
            data_dir: settings.database.data_dir.clone(),
            audit: audit.clone(),
            needs_witness: !settings.audit.witnesses.is_empty(),
        };
        let parts = Parts {
            audit: audit.clone(),
            peppers: peppers.clone(),
            passwords: passwords.clone(),
            mailer: Mailer::new(&settings.mail)?,
            metrics: metrics.clone(),
            public_url: settings.server.public_url.trim_end_matches('/').to_owned(),
            address: settings.server.address(),
            provider: settings.oidc.issuer.clone(),
        };
        let proofs = Proofs::open(
            ground.clone(),
            audit.clone(),
            peppers.clone(),
            &settings.audit,
            &settings.server.public_url,
            &settings.database.data_dir,
        )
        .await?;
        let sinks = Sinks::open(&ground, &audit, &proofs, &metrics, &settings.audit)?;
        let sessions = Arc::new(Sessions::open(ground.clone(), settings.people.clone(), parts).await?);
        let people = People { ground: ground.clone(), passwords };
        let oidc = Oidc::open(ground.clone(), &settings, people.clone(), sessions.clone())?;
        Ok(Self {
            organizations: Organizations { ground: ground.clone() },
            plans,
            people,
            setup: Setup { ground: ground.clone() },
            keyspaces,
            keys: Keys::new(ground.clone(), peppers, &settings, verifier.clone()),
            audit,
            proofs,
            sinks,
            idempotency: Idempotency { ground: ground.clone() },
            reservations: Reservations { ground: ground.clone(), limits: limits.clone(), verifier: verifier.clone() },
            jobs,
            maintenance,
            sessions,
            oidc,
            usage,
            limits,
            caller_limits: CallerLimits::new(settings.caller_limits.clone(), ground.board.clone()),
            verifier,
            metrics,
            classes,
            settings,
            clock,
            ground,
        })
    }

    /// Starts the work beside the requests: flush, follow the other nodes, sweep. `Tasks::stop` ends it and flushes.
    pub async fn start_tasks(&self) -> Result<Tasks> {
        let stale_bound = Duration::from_millis(self.settings.verify.stale_bound_millis);
        let flush_every = Duration::from_millis(self.settings.verify.flush_millis.max(10));
        let work = Work {
            ground: self.ground.clone(),
            audit: self.audit.clone(),
            classes: self.classes.clone(),
            proofs: self.proofs.clone(),
            sinks: self.sinks.clone(),
            checkpoint_every: Duration::from_secs(self.settings.audit.checkpoint_seconds.max(1).into()),
            verifier: self.verifier.clone(),
            limits: self.limits.clone(),
            plans: self.plans.clone(),
            idempotency: self.idempotency.clone(),
            reservations: self.reservations.clone(),
            usage: self.usage.clone(),
            jobs: self.jobs.clone(),
            maintenance: self.maintenance.clone(),
            workers: self.settings.jobs.workers,
            sessions: self.sessions.clone(),
        };
        let meter_every = Duration::from_millis(self.settings.usage.flush_millis.max(10));
        Tasks::start(work, flush_every, meter_every, stale_bound).await
    }

    /// Writes what is held in memory: the use of quotas, warnings, last uses, events of the classes. What the database does not
    /// take is kept. It is to be run to its end, not dropped.
    pub async fn flush(&self) -> Result<()> {
        let outcomes = [
            tasks::flush(&self.limits, &self.verifier, Haste::Yes).await,
            self.usage.flush().await,
            self.classes.write().await,
        ];
        outcomes.into_iter().collect()
    }

    /// Does what is due by now: scheduled changes of plans, reservations that nobody settled.
    pub async fn settle_due(&self) -> Result<()> {
        tasks::settle_due(&self.plans, &self.reservations).await
    }

    /// Makes the jobs that are due, and does all that wait.
    pub async fn work_off_jobs(&self) -> Result<()> {
        tasks::work_off(&self.jobs, &self.maintenance).await
    }

    /// Whether the database answers.
    pub async fn is_ready(&self) -> bool {
        checkup::answers(&self.ground.db.prompt()).await
    }

    /// Nodes that serve from this database, this one included.
    pub fn live_nodes(&self) -> u32 {
        self.ground.board.live_nodes()
    }

    /// `sqlite` or `postgres`.
    pub fn database_kind(&self) -> &'static str {
        self.ground.db.kind()
    }

    /// Closes the database; call it after the tasks have stopped.
    pub async fn close(&self) {
        self.ground.db.close().await;
    }
}

async fn open_database(settings: &Settings) -> Result<Db> {
    let database = &settings.database;
    if !database.url.is_empty() {
        return Ok(Db::open_postgres(&database.url, database.connections).await?);
    }
    let unusable = |error: std::io::Error| {
        let detail = format!("The folder {} cannot be used: {error}", database.data_dir.display());
        Error::new(keyward_core::problem::Code::NotReady, detail)
    };
    std::fs::create_dir_all(&database.data_dir).map_err(unusable)?;
    restrict_to_owner(&database.data_dir).map_err(unusable)?;
    Ok(Db::open_sqlite(&database.data_dir.join("keyward.db")).await?)
}

/// The folder holds the pepper and every digest.
fn restrict_to_owner(folder: &std::path::Path) -> std::io::Result<()> {
    #[cfg(unix)]
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}
