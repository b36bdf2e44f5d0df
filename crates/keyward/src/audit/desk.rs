//! The desk at which events get their numbers: one at a time in the whole instance. Whatever waits when its turn comes, in the
//! outbox and from callers, goes into one transaction: rows, tiles, sums, and the new end of the book. Callers are answered after
//! the commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use keyward_core::id::{self, Id};
use keyward_core::leaf::Salt;
use keyward_core::month::Month;
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use keyward_core::tree::{Growth, Hash};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::event::QueuedRow;
use super::leaves::{EventRow, Head};
use super::{months, rollup, sql as statements, tiles};
use crate::db::{Json, Tx, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;

/// Events of the outbox that one transaction takes.
const BATCH: i64 = 1_000;
/// Events of callers after which the next transaction begins.
const MAX_TOGETHER: usize = 8_000;

pub(super) struct Desk {
    ground: Ground,
    waiting: Mutex<Vec<Waiting>>,
    turn: tokio::sync::Mutex<Memory>,
    size: watch::Sender<i64>,
}

/// Events of one call.
struct Waiting {
    events: Vec<EventRow>,
    /// Ids that the caller chose may be known already.
    chosen: bool,
    tell: oneshot::Sender<Result<Places>>,
}

/// Where the events of a call stand, in their order, and how many have a number in all.
pub(super) struct Places {
    pub sequences: Vec<i64>,
    pub size: i64,
}

/// What need not be read again, as long as nobody else wrote.
#[derive(Default)]
struct Memory {
    growth: Growth,
    months: Vec<Month>,
}

row! {
    struct KnownRow { id: Id<id::Event>, organization_id: Option<Id<id::Organization>>, sequence: i64 }
}

impl Desk {
    pub fn new(ground: Ground) -> Self {
        Self { ground, waiting: Mutex::default(), turn: tokio::sync::Mutex::default(), size: watch::Sender::new(0) }
    }

    pub fn watch(&self) -> watch::Receiver<i64> {
        self.size.subscribe()
    }

    /// Gives events their places. Whoever's turn it is works for all who wait; a caller that goes away changes nothing.
    pub async fn submit(self: &Arc<Self>, events: Vec<EventRow>, chosen: bool) -> Result<Places> {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { events, chosen, tell });
        let desk = self.clone();
        tokio::spawn(async move { desk.work().await });
        told.await.unwrap_or_else(|_| Err(Error::new(Code::NotReady, "Keyward is stopping.")))
    }

    /// Numbers what the outbox holds.
    pub async fn settle(self: &Arc<Self>) -> Result<i64> {
        loop {
            let mut memory = self.turn.lock().await;
            let (size, taken) = self.write(&mut memory, &mut []).await?;
            if taken < BATCH as usize {
                return Ok(size);
            }
        }
    }

    async fn work(&self) {
        let mut memory = self.turn.lock().await;
        let mut group = self.next_group();
        if group.is_empty() {
            return;
        }
        match self.write(&mut memory, &mut group).await {
            Ok(_) => {}
            Err(error) if group.len() == 1 => tell_all(group, error),
            // What one caller sent must not be another's trouble.
            Err(_) => {
                for one in group {
                    let mut alone = [one];
                    if let Err(error) = self.write(&mut memory, &mut alone).await {
                        tell_all(alone.into(), error);
                    }
                }
            }
        }
    }

    fn next_group(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = 0;
        let fits = |one: &&Waiting| {
            events += one.events.len();
            events <= MAX_TOGETHER
        };
        let count = waiting.iter().take_while(fits).count().max(usize::from(!waiting.is_empty()));
        waiting.drain(..count).collect()
    }

    /// One transaction; answers the new size and how many events of the outbox it took. Callers are told on success. Whatever else
    /// becomes of it, what was remembered is forgotten.
    async fn write(&self, memory: &mut Memory, group: &mut [Waiting]) -> Result<(i64, usize)> {
        let mut kept = std::mem::take(memory);
        let written = self.write_with(&mut kept, group).await?;
        *memory = kept;
        Ok(written)
    }

    async fn write_with(&self, memory: &mut Memory, group: &mut [Waiting]) -> Result<(i64, usize)> {
        let mut tx = self.ground.db.begin().await?;
        statements::LOCK_ORDER.within(&tx).execute(&mut tx).await?;
        let head = self.head(&mut tx).await?;
        let mut rows = take_queued(&mut tx).await?;
        let taken = rows.len();
        let mut known = known_ids(&mut tx, group).await?;
        let mut places = Vec::with_capacity(group.len());
        let alone = group.len() == 1;
        for waiting in group.iter_mut() {
            // Of several, each may get a second try.
            let events = if alone { std::mem::take(&mut waiting.events) } else { waiting.events.clone() };
            let mut sequences = Vec::with_capacity(events.len());
            for event in events {
                let next = head.size + rows.len() as i64;
                let sequence = match waiting.chosen {
                    true => *known.entry((event.organization_id, event.id)).or_insert(next),
                    false => next,
                };
                sequences.push(sequence);
                if sequence == next {
                    rows.push(event);
                }
            }
            places.push(sequences);
        }
        let size = head.size + rows.len() as i64;
        if !rows.is_empty() {
            let hashes = number(&mut rows, &head)?;
            let last = rows.last().map_or(head.logged_at, |row| row.logged_at);
            let growth = self.grow(&mut tx, memory, head.size).await?;
            let tiles = growth.extend(hashes);
            months::ensure(&mut tx, &mut memory.months, &rows).await?;
            rollup::add(&mut tx, &rows).await?;
            statements::EVENTS.insert(&mut tx, rows.into_iter().map(EventRow::into_values).collect()).await?;
            tiles::write(&mut tx, tiles).await?;
            sql(statements::MOVE_HEAD).bind(size).bind(last).execute(&mut tx).await?;
        }
        tx.commit().await?;
        self.size.send_if_modified(|known| std::mem::replace(known, size.max(*known)) < size);
        for (waiting, sequences) in group.iter_mut().zip(places) {
            let (nobody, _) = oneshot::channel();
            // A caller that went away has its events kept all the same.
            std::mem::replace(&mut waiting.tell, nobody).send(Ok(Places { sequences, size })).ok();
        }
        Ok((size, taken))
    }

    async fn head(&self, tx: &mut Tx) -> Result<Head> {
        if let Some(head) = sql(statements::HEAD).optional(&mut *tx).await? {
            return Ok(head);
        }
        let head = Head { log_id: Uuid::now_v7(), size: 0, logged_at: Timestamp::from_micros(0), kept_from: 0 };
        sql(statements::FIRST_HEAD).bind(head.log_id).bind(head.logged_at).execute(tx).await?;
        Ok(head)
    }

    /// The right edge of the tree, read again when another node wrote meanwhile.
    async fn grow<'a>(&self, tx: &mut Tx, memory: &'a mut Memory, size: i64) -> Result<&'a mut Growth> {
        if memory.growth.size() != size as u64 {
            memory.growth = tiles::edge(tx, size as u64).await?;
        }
        Ok(&mut memory.growth)
    }
}

fn tell_all(group: Vec<Waiting>, error: Error) {
    let (code, detail) = (error.code, error.detail.clone());
    tracing::error!(%error, "events could not be written into the book");
    for waiting in group {
        waiting.tell.send(Err(Error::new(code, detail.clone()))).ok();
    }
}

/// Takes what the outbox holds, oldest first.
async fn take_queued(tx: &mut Tx) -> Result<Vec<EventRow>> {
    let queued: Vec<QueuedRow> = sql(statements::QUEUED).bind(BATCH).all(&mut *tx).await?;
    if !queued.is_empty() {
        let ids: Vec<String> = queued.iter().map(|row| row.event_id.uuid().simple().to_string()).collect();
        statements::DELETE_QUEUED.within(tx).bind(Json(ids)).execute(tx).await?;
    }
    Ok(queued.into_iter().map(QueuedRow::into_event).collect())
}

type Name = (Option<Id<id::Organization>>, Id<id::Event>);

/// Where ids that callers chose stand already.
async fn known_ids(tx: &mut Tx, group: &[Waiting]) -> Result<HashMap<Name, i64>> {
    let chosen = group.iter().filter(|waiting| waiting.chosen).flat_map(|waiting| &waiting.events);
    let ids: Vec<String> = chosen.map(|event| event.id.uuid().simple().to_string()).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let known: Vec<KnownRow> = statements::KNOWN_IDS.within(tx).bind(Json(ids)).all(tx).await?;
    Ok(known.into_iter().map(|row| ((row.organization_id, row.id), row.sequence)).collect())
}

/// Gives each row its number and its seals; answers their leaves. Instants never go back.
fn number(rows: &mut [EventRow], head: &Head) -> Result<Vec<Hash>> {
    let mut salts: Vec<[Salt; 2]> = vec![[[0; 16]; 2]; rows.len()];
    getrandom::fill(salts.as_flattened_mut().as_flattened_mut()).expect("the operating system gives randomness");
    let mut last = head.logged_at;
    let mut hashes = Vec::with_capacity(rows.len());
    for ((row, sequence), salts) in rows.iter_mut().zip(head.size..).zip(salts) {
        last = last.max(row.logged_at);
        row.number(sequence, last, salts);
        let impossible = || Error::new(Code::Internal, Code::Internal.meaning());
        hashes.push(row.leaf_hash(head.log_id).ok_or_else(impossible)?);
    }
    Ok(hashes)
}
