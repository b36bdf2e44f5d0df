//! Taking a batch of records in: checked one by one, written with one statement, added to the sums, committed as one.

use std::collections::HashSet;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};

use super::record::{NewRecord, Record, Rejection};
use super::rollup::Rollup;
use super::{Usage, sql as statements};
use crate::context::Context;
use crate::db::{Json, Tx};
use crate::error::{Error, Result};

/// Most records of a batch.
pub const MAX_RECORDS: usize = 1_000;

/// What became of a batch.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    pub accepted: usize,
    /// Records whose id was known before, or stands twice in the batch.
    pub duplicates: usize,
    /// In the order of the batch.
    pub rejected: Vec<Rejection>,
}

impl Usage {
    /// Takes records of calls with keys of an organization. What is accepted has been committed, sums included.
    pub async fn record(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        records: Vec<NewRecord>,
    ) -> Result<Receipt> {
        context.require(organization, Permission::UsageWrite)?;
        self.require_present(context, organization).await?;
        if !(1..=MAX_RECORDS).contains(&records.len()) {
            return Err(Error::field("/records", format!("must hold 1 to {MAX_RECORDS} records")));
        }
        let mut receipt = Receipt::default();
        let mut records = self.check(records, &mut receipt);
        self.keep_known_keys(organization, &mut records, &mut receipt).await?;
        receipt.rejected.sort_by_key(|rejection| rejection.index);
        if records.is_empty() {
            return Ok(receipt);
        }
        // In one order everywhere, so that two batches with the same ids do not wait for each other.
        records.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        let mut tx = self.ground.db.begin().await?;
        let known = write(&mut tx, organization, &records).await?;
        records.retain(|record| !known.contains(&record.id));
        receipt.duplicates += known.len();
        receipt.accepted = records.len();
        let mut rollup = Rollup::default();
        records.iter().for_each(|record| rollup.add(record));
        rollup.add_to(&mut tx, organization).await?;
        tx.commit().await?;
        Ok(receipt)
    }

    /// Keeps the records that are valid and not yet seen in this batch.
    fn check(&self, records: Vec<NewRecord>, receipt: &mut Receipt) -> Vec<Record> {
        let now = self.ground.now();
        let oldest = self.oldest_record(now);
        let (mut kept, mut seen) = (Vec::with_capacity(records.len()), HashSet::with_capacity(records.len()));
        for (index, record) in records.into_iter().enumerate() {
            match record.check(index, now, oldest) {
                Ok(record) if seen.insert(record.id.clone()) => kept.push(record),
                Ok(_) => receipt.duplicates += 1,
                Err(rejection) => receipt.rejected.push(rejection),
            }
        }
        kept
    }

    async fn keep_known_keys(
        &self,
        organization: Id<id::Organization>,
        records: &mut Vec<Record>,
        receipt: &mut Receipt,
    ) -> Result<()> {
        let named: HashSet<Id<id::Key>> = records.iter().map(|record| record.key).collect();
        let named: Vec<String> = named.into_iter().map(|key| key.uuid().simple().to_string()).collect();
        let db = &self.ground.db;
        let known: Vec<(Id<id::Key>,)> =
            statements::KNOWN_KEYS.on(db).bind(organization).bind(Json(named)).all(db).await?;
        let known: HashSet<Id<id::Key>> = known.into_iter().map(|(key,)| key).collect();
        records.retain(|record| {
            let is_known = known.contains(&record.key);
            if !is_known {
                receipt.rejected.push(Rejection::unknown_key(record.index));
            }
            is_known
        });
        Ok(())
    }
}

/// Writes the records that are new; answers the ids of the others.
async fn write(tx: &mut Tx, organization: Id<id::Organization>, records: &[Record]) -> Result<HashSet<String>> {
    let rows: Vec<_> = records
        .iter()
        .map(|record| {
            (
                &record.id,
                record.key.uuid().simple().to_string(),
                record.occurred_at.as_micros(),
                &record.endpoint,
                &record.method,
                record.status,
                record.duration_micros,
                record.request_bytes,
                record.response_bytes,
                record.tokens_in,
                record.tokens_out,
                record.cost.as_nanos(),
                &record.ip,
                &record.user_agent,
                &record.error,
            )
        })
        .collect();
    let insert = statements::INSERT_RECORDS.within(tx).bind(organization).bind(Json(rows));
    let new: Vec<(String,)> = insert.all(tx).await?;
    if new.len() == records.len() {
        return Ok(HashSet::new());
    }
    let new: HashSet<String> = new.into_iter().map(|(id,)| id).collect();
    Ok(records.iter().filter(|record| !new.contains(&record.id)).map(|record| record.id.clone()).collect())
}
