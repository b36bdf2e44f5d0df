//! Several nodes on one PostgreSQL: follow each other's announcements, acknowledge them, wait for acknowledgement.
//!
//! A node promises not to judge from memory later than `stale_bound` after the start of its last complete re-read.
//! So a revocation is in force everywhere once every node has acknowledged it, or has not beaten for that long.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use keyward_core::id::{Announcement, Id, Node};
use keyward_core::problem::Code;
use sqlx::postgres::PgListener;

use super::{Subject, sql as statements};
use crate::db::{Db, Tx, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;

/// A node that has not beaten for so long no longer counts when limits are shared out.
const SILENT_SECONDS: i64 = 10;

row! {
    struct AnnouncementRow { id: Id<Announcement>, subject: String, wants_acknowledgement: bool }
}

row! {
    struct SilentNode { id: Id<Node>, beat: i64 }
}

/// Writes the subjects into the change's own transaction. Returns the last announcement, which can be waited for.
pub async fn announce(
    ground: &Ground,
    tx: &mut Tx,
    subjects: &HashSet<Subject>,
    wait: bool,
) -> Result<Option<Id<Announcement>>> {
    if !ground.db.is_postgres() || subjects.is_empty() {
        return Ok(None);
    }
    let mut last = None;
    for subject in subjects {
        let id = ground.new_id();
        let statement = sql(statements::ANNOUNCE).bind(id).bind(subject.to_string()).bind(wait).bind(ground.now());
        statement.execute(&mut *tx).await?;
        last = Some(id);
    }
    sql(statements::NOTIFY).execute(&mut *tx).await?;
    Ok(last)
}

/// One node's place in following the announcements.
pub struct Follower {
    ground: Ground,
    node: Id<Node>,
    horizon: String,
    /// Announcements at or after the horizon that were posted already.
    seen: HashSet<Id<Announcement>>,
    stale_bound: Duration,
}

impl Follower {
    /// Joins the nodes. From here on memory is trusted only for `stale_bound` after each re-read.
    pub async fn join(ground: Ground, stale_bound: Duration) -> Result<Self> {
        let (horizon,) = sql(statements::HORIZON).one::<(String,)>(&ground.db).await?;
        let node = ground.new_id();
        let mut follower = Self { ground, node, horizon, seen: HashSet::new(), stale_bound };
        follower.read().await?;
        Ok(follower)
    }

    /// One re-read: post what is new, acknowledge it, beat, and trust memory for another while.
    pub async fn read(&mut self) -> Result<()> {
        let (ground, started) = (&self.ground, self.ground.now());
        // The horizon is taken before the rows: what commits in between is read again next time.
        let (horizon,) = sql(statements::HORIZON).one::<(String,)>(&ground.db).await?;
        let rows: Vec<AnnouncementRow> = sql(statements::SINCE).bind(&self.horizon).all(&ground.db).await?;
        let fresh: Vec<&AnnouncementRow> = rows.iter().filter(|row| !self.seen.contains(&row.id)).collect();
        if !fresh.is_empty() {
            ground.board.post(fresh.iter().filter_map(|row| row.subject.parse().ok()));
        }
        for row in fresh.iter().filter(|row| row.wants_acknowledgement) {
            sql(statements::ACKNOWLEDGE).bind(row.id).bind(self.node).execute(&ground.db).await?;
        }
        sql(statements::BEAT).bind(self.node).bind(started).execute(&ground.db).await?;
        let alive = started.plus_seconds(-SILENT_SECONDS);
        let (nodes,) = sql(statements::LIVE_NODES).bind(alive).one::<(i64,)>(&ground.db).await?;
        ground.board.set_live_nodes(u32::try_from(nodes).unwrap_or(1));
        self.seen = rows.iter().map(|row| row.id).collect();
        self.horizon = horizon;
        ground.board.trust_until(keyward_core::time::Timestamp::from_micros(
            started.as_micros() + self.stale_bound.as_micros() as i64,
        ));
        Ok(())
    }

    /// Says goodbye, so that nobody waits for this node.
    pub async fn leave(&self) {
        if let Err(error) = sql(statements::LEAVE).bind(self.node).execute(&self.ground.db).await {
            tracing::warn!(%error, "could not sign off this node");
        }
    }
}

/// Hears NOTIFY; what it hears is only a hint to re-read now.
pub struct Hint(Option<PgListener>);

impl Hint {
    pub async fn listen(db: &Db) -> Self {
        let Db::Postgres { pool, .. } = db else { return Self(None) };
        let listener = async {
            let mut listener = PgListener::connect_with(pool).await?;
            listener.listen("keyward").await?;
            Ok::<_, sqlx::Error>(listener)
        };
        match listener.await {
            Ok(listener) => Self(Some(listener)),
            Err(error) => {
                tracing::warn!(%error, "no notification channel; changes of other nodes arrive with the re-read");
                Self(None)
            }
        }
    }

    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Returns when something was announced; never, when there is no channel.
    pub async fn next(&mut self) {
        let Some(listener) = &mut self.0 else { return std::future::pending().await };
        if let Err(error) = listener.recv().await {
            tracing::warn!(%error, "the notification channel is down");
            self.0 = None;
        }
    }
}

/// Waits until every live node has acknowledged the announcement, or has stood still for longer than it may trust
/// its memory. Bounded by a few times `stale_bound`.
pub async fn wait_acknowledged(db: &Db, announcement: Id<Announcement>, stale_bound: Duration) -> Result<()> {
    let mut first_beats: HashMap<Id<Node>, (i64, Instant)> = HashMap::new();
    let patience = patience(stale_bound);
    let deadline = Instant::now() + patience * 4;
    loop {
        let silent: Vec<SilentNode> = sql(statements::SILENT).bind(announcement).all(db).await?;
        // Each is watched from the beginning: the patience with several that stand still is the same time, not one after the other.
        let mut is_any_live = false;
        for node in &silent {
            let watched = first_beats.entry(node.id).or_insert((node.beat, Instant::now()));
            if watched.0 != node.beat {
                *watched = (node.beat, Instant::now());
            }
            is_any_live |= watched.1.elapsed() < patience;
        }
        if !is_any_live {
            return Ok(());
        }
        if Instant::now() > deadline {
            let detail =
                "The change is made, and in force on this node; another that is alive has not confirmed it in time.";
            return Err(Error::new(Code::NotReady, detail));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until no node trusts what it remembered before now.
pub async fn wait_out(db: &Db, stale_bound: Duration) {
    if db.is_postgres() {
        tokio::time::sleep(patience(stale_bound)).await;
    }
}

/// A beat is written after the re-read has begun, so a little more than the bound is waited for.
fn patience(stale_bound: Duration) -> Duration {
    stale_bound + stale_bound / 2
}

/// Drops what no node needs any more.
pub async fn forget(ground: &Ground) -> Result<()> {
    if ground.db.is_postgres() {
        let hour_ago = ground.now().plus_seconds(-3600);
        sql(statements::FORGET_ANNOUNCEMENTS).bind(hour_ago).execute(&ground.db).await?;
        sql(statements::FORGET_NODES).bind(hour_ago).execute(&ground.db).await?;
    }
    Ok(())
}
