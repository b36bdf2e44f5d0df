//! Reservations: use that is taken when a call begins and settled when its price is known. What was taken too much is
//! given back; what nobody settles in time is given back whole.

mod sql;

use std::sync::Arc;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::limit::{self, MAX_COUNT, REQUESTS};
use keyward_core::problem::Code;
use keyward_core::quota::Unit;
use keyward_core::record::KeyRecord;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{Request, Verdict};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::context::Context;
use crate::db::{Json, row, sql as statement};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::limits::Limits;
use crate::verify::Verifier;

/// Longest life of a reservation, in seconds.
pub const MAX_TTL_SECONDS: u64 = 86_400;
/// Reservations that are ended in one round.
const ROUND: i64 = 500;

/// Taking, settling and giving back.
#[derive(Clone)]
pub struct Reservations {
    pub(crate) ground: Ground,
    pub(crate) limits: Arc<Limits>,
    pub(crate) verifier: Arc<Verifier>,
}

/// What became of a wish to reserve.
pub struct Reserved {
    /// Absent when the key was refused; then nothing was taken.
    pub id: Option<Id<id::Reservation>>,
    pub verdict: Verdict,
}

/// What a reservation turned out to cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub id: Id<id::Reservation>,
    /// What is counted in the end.
    pub cost: u64,
    /// What was given back; negative when more was used than reserved.
    pub refunded: i64,
}

/// What was taken of what, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Draws {
    limits: Vec<LimitDraw>,
    quotas: Vec<QuotaDraw>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LimitDraw {
    name: String,
    /// The counter's number in hex.
    counter: String,
    limit: u64,
    window_seconds: u64,
    cost: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct QuotaDraw {
    /// The organization's or key's UUID.
    subject: String,
    monthly: bool,
    bucket: Timestamp,
}

row! {
    struct ReservationRow {
        organization_id: Id<id::Organization>,
        cost: i64,
        draws: Json<Draws>,
        taken_at: Timestamp,
    }
}

impl Reservations {
    /// Verifies a key and takes what the call may cost at most.
    ///
    /// # Errors
    /// When the key cannot be judged, or `ttl_seconds` is not 1–86,400.
    pub async fn reserve(&self, presented: &str, asked: &Request<'_>, ttl_seconds: u64) -> Result<Reserved> {
        if !(1..=MAX_TTL_SECONDS).contains(&ttl_seconds) {
            return Err(Error::field("/ttl_seconds", format!("must be between 1 and {MAX_TTL_SECONDS}")));
        }
        let now = self.ground.now();
        let verdict = self
            .verifier
            .verify_at(presented, asked, now)
            .await
            .map_err(|error| Error::new(Code::NotReady, "The key could not be judged.").with_source(error))?;
        let record = verdict.record.as_ref().filter(|_| verdict.is_valid() && verdict.unknown_limit.is_none());
        let Some(record) = record else { return Ok(Reserved { id: None, verdict }) };
        let draws = Draws::of(record, asked, now);
        let id = self.ground.new_id::<id::Reservation>();
        let insert = statement(sql::INSERT).bind(id).bind(record.tenant.id).bind(record.key_id);
        let insert = insert.bind(asked.cost as i64).bind(Json(&draws)).bind(now);
        let written = insert.bind(now.plus_seconds(ttl_seconds as i64)).execute(&self.ground.db).await;
        if let Err(error) = written {
            // Nobody could ever settle it.
            self.give_back(&draws, now, |draw| draw.cost as i64, asked.cost as i64);
            return Err(error.into());
        }
        Ok(Reserved { id: Some(id), verdict })
    }

    /// Settles a reservation at what the call cost: the rest is given back, and what it cost more is counted.
    /// `limits` tells the cost of named limits where it is not what was reserved.
    pub async fn commit(
        &self,
        context: &Context,
        id: Id<id::Reservation>,
        cost: u64,
        limits: &[(String, u64)],
    ) -> Result<Settled> {
        for (pointer, cost) in std::iter::once(("/cost".to_owned(), cost))
            .chain(limits.iter().enumerate().map(|(index, (_, cost))| (format!("/limits/{index}/cost"), *cost)))
        {
            if cost > MAX_COUNT {
                return Err(Error::field(pointer, "is too large"));
            }
        }
        let row = self.take(context, id).await?;
        let named = |draw: &LimitDraw| limits.iter().find(|(name, _)| *name == draw.name).map(|(_, cost)| *cost);
        let settled = |draw: &LimitDraw| {
            let own = if draw.name == REQUESTS { Some(cost) } else { None };
            named(draw).or(own).unwrap_or(draw.cost)
        };
        let refunded = row.cost - cost as i64;
        self.give_back(&row.draws.0, row.taken_at, |draw| draw.cost as i64 - settled(draw) as i64, refunded);
        Ok(Settled { id, cost, refunded })
    }

    /// Gives a reservation back whole.
    pub async fn release(&self, context: &Context, id: Id<id::Reservation>) -> Result<Settled> {
        let row = self.take(context, id).await?;
        self.give_back(&row.draws.0, row.taken_at, |draw| draw.cost as i64, row.cost);
        Ok(Settled { id, cost: 0, refunded: row.cost })
    }

    /// Ends a reservation: whoever gets the row is the one to settle it.
    async fn take(&self, context: &Context, id: Id<id::Reservation>) -> Result<ReservationRow> {
        let mut tx = self.ground.db.begin().await?;
        let row: Option<ReservationRow> =
            statement(sql::TAKE).bind(id).bind(self.ground.now()).optional(&mut tx).await?;
        let row = row.ok_or_else(Error::not_found)?;
        context.require(row.organization_id, Permission::KeysVerify)?;
        tx.commit().await?;
        Ok(row)
    }

    /// Gives back what nobody has settled in time.
    pub(crate) async fn expire(&self) -> Result<()> {
        loop {
            let mut tx = self.ground.db.begin().await?;
            let rows: Vec<ReservationRow> =
                statement(sql::EXPIRE).bind(self.ground.now()).bind(ROUND).all(&mut tx).await?;
            tx.commit().await?;
            for row in &rows {
                self.give_back(&row.draws.0, row.taken_at, |draw| draw.cost as i64, row.cost);
            }
            if rows.len() < ROUND as usize {
                return Ok(());
            }
        }
    }

    /// `of_limit` tells what goes back to each limit, `of_quota` to each quota; negative numbers are taken.
    fn give_back(&self, draws: &Draws, taken_at: Timestamp, of_limit: impl Fn(&LimitDraw) -> i64, of_quota: i64) {
        let now = self.ground.now();
        for draw in &draws.limits {
            let Ok(number) = u128::from_str_radix(&draw.counter, 16) else { continue };
            let size = (draw.limit, draw.window_seconds);
            self.limits.settle(number, size, taken_at, now, of_limit(draw));
        }
        for draw in draws.quotas.iter().filter(|_| of_quota != 0) {
            let unit = if draw.monthly { Unit::Month } else { Unit::Day };
            let Ok(subject) = draw.subject.parse::<Uuid>() else { continue };
            self.limits.adjust(subject, unit, draw.bucket, -of_quota);
        }
    }
}

impl Draws {
    fn of(record: &KeyRecord, asked: &Request<'_>, now: Timestamp) -> Self {
        let drawn = limit::applicable(record, asked).unwrap_or_default();
        let limits = drawn.iter().map(|draw| LimitDraw {
            name: draw.bound.rule.name.clone(),
            counter: format!("{:032x}", draw.bound.counter.id),
            limit: draw.bound.rule.limit,
            window_seconds: draw.bound.rule.window_seconds,
            cost: draw.cost,
        });
        let quotas = record.quotas().map(|quota| QuotaDraw {
            subject: quota.counter.subject.to_string(),
            monthly: quota.counter.unit == Unit::Month,
            bucket: quota.calendar.bucket(now).start,
        });
        Self { limits: limits.collect(), quotas: quotas.collect() }
    }
}
