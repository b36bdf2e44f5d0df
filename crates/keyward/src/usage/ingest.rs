//! Taking a batch of records in: checked one by one, written with one statement, together with what they add to the sums.

use std::collections::HashSet;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};

use super::record::{NewRecord, Record, Rejection};
use super::rollup::{self, Rollup};
use super::{Usage, sql as statements};
use crate::context::Context;
use crate::db::{Bind as _, DbError, Json, Tx, Value, sql};
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
    /// Takes records of calls with keys of an organization. What is accepted has been committed, with what it adds to the sums.
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
        if !self.write_if_all_are_new(organization, &records).await? {
            receipt.duplicates += self.write_new(organization, &mut records).await?;
        }
        receipt.accepted = records.len();
        Ok(receipt)
    }

    /// How it is almost always: sums are made before the database is held, and nothing is read back.
    async fn write_if_all_are_new(&self, organization: Id<id::Organization>, records: &[Record]) -> Result<bool> {
        let (rows, sums) = (rows(organization, records), Rollup::of(records).to_bytes());
        let mut tx = self.begin(organization).await?;
        match statements::NEW_RECORDS.insert(&mut tx, rows).await {
            Err(DbError::Taken { .. }) => return Ok(false),
            inserted => inserted?,
        }
        self.write_sums(&mut tx, organization, sums).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Writes and keeps the records that are new; answers how many were not.
    async fn write_new(&self, organization: Id<id::Organization>, records: &mut Vec<Record>) -> Result<usize> {
        let given = records.len();
        let rows = rows(organization, records);
        let mut tx = self.begin(organization).await?;
        let new: Vec<(String,)> = statements::RECORDS_IF_NEW.tell(&mut tx, rows).await?;
        let new: HashSet<String> = new.into_iter().map(|(id,)| id).collect();
        records.retain(|record| new.contains(&record.id));
        if !records.is_empty() {
            self.write_sums(&mut tx, organization, Rollup::of(records).to_bytes()).await?;
        }
        tx.commit().await?;
        Ok(given - records.len())
    }

    /// Begins to write records; nobody makes the sums of this organization anew until that ends.
    async fn begin(&self, organization: Id<id::Organization>) -> Result<Tx> {
        let mut tx = self.ground.db.begin().await?;
        let join = statements::JOIN_RECORDS.within(&tx).bind(rollup::mark_of_records(organization));
        join.execute(&mut tx).await?;
        Ok(tx)
    }

    /// Writes down what the records add to the sums; `add_up` adds it.
    async fn write_sums(&self, tx: &mut Tx, organization: Id<id::Organization>, sums: Vec<u8>) -> Result<()> {
        let write = sql(statements::WRITE_SUMS).bind(organization).bind(self.ground.new_id::<id::UsageBatch>());
        write.bind(sums).execute(tx).await?;
        Ok(())
    }

    /// Keeps the records that are valid, the first of those with the same id, in the order of their ids: in one order
    /// everywhere two batches do not wait for each other.
    fn check(&self, records: Vec<NewRecord>, receipt: &mut Receipt) -> Vec<Record> {
        let now = self.ground.now();
        let oldest = self.oldest_record(now);
        let mut kept = Vec::with_capacity(records.len());
        for (index, record) in records.into_iter().enumerate() {
            match record.check(index, now, oldest) {
                Ok(record) => kept.push(record),
                Err(rejection) => receipt.rejected.push(rejection),
            }
        }
        let valid = kept.len();
        kept.sort_by(|one, other| one.id.cmp(&other.id));
        kept.dedup_by(|later, first| later.id == first.id);
        receipt.duplicates = valid - kept.len();
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

/// The records as the table takes them.
fn rows(organization: Id<id::Organization>, records: &[Record]) -> Vec<[Value; 16]> {
    let row = |record: &Record| {
        [
            organization.into_value(),
            (&record.id).into_value(),
            record.key.into_value(),
            record.occurred_at.into_value(),
            (&record.endpoint).into_value(),
            (&record.method).into_value(),
            record.status.into_value(),
            record.duration_micros.into_value(),
            record.request_bytes.into_value(),
            record.response_bytes.into_value(),
            record.tokens_in.into_value(),
            record.tokens_out.into_value(),
            record.cost.as_nanos().into_value(),
            record.ip.as_ref().into_value(),
            record.user_agent.as_ref().into_value(),
            record.error.as_ref().into_value(),
        ]
    };
    records.iter().map(row).collect()
}
