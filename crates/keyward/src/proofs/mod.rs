//! What can be proven about the book to somebody who trusts neither its keeper nor its database: signed checkpoints, that an event
//! is in the book, and that the book has only grown (RFC 9162; C2SP tlog-checkpoint and tlog-tiles).
//!
//! Checkpoints are also written beside the database, so that a book that was cut off is found out.

mod export;
mod offline;
mod signer;
mod sql;
mod witnesses;

pub use export::ExportLine;
pub use offline::verify_export;
pub use signer::Signer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::note::{Checkpoint, NoteKey, SignedCheckpoint};
use keyward_core::problem::Code;
use keyward_core::tree::{self, Hash, Tile};

use crate::audit::{Audit, EventRow, Findings};
use crate::config::AuditSettings;
use crate::context::Context;
use crate::db::{row, sql as statement};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::keys::peppers::Peppers;

/// The latest checkpoint, in the data folder.
const CHECKPOINT_FILE: &str = "audit-checkpoint";
const HOUR_SECONDS: i64 = 3_600;

row! {
    struct CheckpointRow { size: i64, note: String }
}

/// That an event is in the book.
#[derive(Debug, Clone)]
pub struct Inclusion {
    pub event: Id<id::Event>,
    /// Its sequence: the leaf's place in the tree.
    pub leaf_index: u64,
    /// The bytes whose hash is the leaf (keyward-core, `leaf`).
    pub entry: Vec<u8>,
    pub leaf_hash: Hash,
    /// From the leaf upwards (RFC 9162, 2.1.3).
    pub hashes: Vec<Hash>,
    /// The tree in which it is.
    pub checkpoint: SignedCheckpoint,
}

/// That the book of one size is the beginning of that of another.
#[derive(Debug, Clone)]
pub struct Consistency {
    pub from: u64,
    pub to: u64,
    pub from_root: Hash,
    pub to_root: Hash,
    /// RFC 9162, 2.1.4.
    pub hashes: Vec<Hash>,
}

/// Signs and proves. Cheap to clone.
#[derive(Clone)]
pub struct Proofs {
    ground: Ground,
    audit: Audit,
    signer: Arc<Signer>,
    witnesses: Arc<Vec<witnesses::Witness>>,
    checkpoint_file: PathBuf,
}

impl Proofs {
    pub(crate) async fn open(
        ground: Ground,
        audit: Audit,
        peppers: Arc<Peppers>,
        settings: &AuditSettings,
        public_url: &str,
        data_dir: &std::path::Path,
    ) -> Result<Self> {
        let signer = Arc::new(Signer::open(&ground, peppers, settings, public_url).await?);
        let witnesses = Arc::new(witnesses::configured(settings)?);
        Ok(Self { ground, audit, signer, witnesses, checkpoint_file: data_dir.join(CHECKPOINT_FILE) })
    }

    /// By what checkpoints are checked.
    pub fn public_key(&self) -> NoteKey {
        self.signer.key().clone()
    }

    /// A signed checkpoint of all events that there are.
    pub async fn checkpoint(&self) -> Result<SignedCheckpoint> {
        let size = self.audit.sequence().await? as u64;
        self.covering(size).await
    }

    /// A signed checkpoint of at least so many events; a new one where the latest is of fewer.
    async fn covering(&self, size: u64) -> Result<SignedCheckpoint> {
        if let Some(latest) = self.latest().await?
            && latest.checkpoint.size >= size
        {
            return Ok(latest);
        }
        let size = self.audit.head().await?.map_or(0, |head| head.size) as u64;
        let root = self.audit.root(size).await?;
        let signed = self.signer.sign(Checkpoint { origin: self.signer.key().name.clone(), size, root });
        self.keep(&signed).await?;
        Ok(signed)
    }

    /// The newest that was signed.
    pub(crate) async fn latest(&self) -> Result<Option<SignedCheckpoint>> {
        let row: Option<CheckpointRow> = statement(sql::LATEST).optional(&self.ground.db).await?;
        Ok(row.and_then(|row| SignedCheckpoint::parse(&row.note)))
    }

    /// Keeps the latest of each hour, in the database and as a file beside it.
    async fn keep(&self, signed: &SignedCheckpoint) -> Result<()> {
        let now = self.ground.now();
        let hour = now.plus_seconds(-now.as_seconds().rem_euclid(HOUR_SECONDS));
        let (size, note) = (signed.checkpoint.size as i64, signed.note());
        let mut tx = self.ground.db.begin().await?;
        statement(sql::FORGET_SINCE).bind(hour).bind(size).execute(&mut tx).await?;
        statement(sql::KEEP).bind(size).bind(&note).bind(now).execute(&mut tx).await?;
        tx.commit().await?;
        let beside = self.checkpoint_file.with_extension("new");
        let written = async {
            if let Some(folder) = beside.parent() {
                tokio::fs::create_dir_all(folder).await?;
            }
            tokio::fs::write(&beside, &note).await?;
            tokio::fs::rename(&beside, &self.checkpoint_file).await
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, file = %self.checkpoint_file.display(), "the checkpoint could not be written beside the database");
        }
        Ok(())
    }

    /// Numbers what waits, signs if there is something new, and asks the witnesses. Run from time to time.
    pub async fn sign_new(&self) -> Result<()> {
        let before = self.latest().await?.map_or(0, |latest| latest.checkpoint.size);
        let signed = self.checkpoint().await?;
        if signed.checkpoint.size > before {
            let (size, note) = (signed.checkpoint.size, signed.note());
            tracing::info!(size, note, "audit checkpoint signed");
        }
        self.ask_witnesses(signed).await
    }

    /// Proves that an event is in the book.
    pub async fn inclusion(&self, context: &Context, id: Id<id::Event>) -> Result<Inclusion> {
        let event = self.audit.get(context, id).await?;
        let leaf_index = event.sequence as u64;
        let checkpoint = self.covering(leaf_index + 1).await?;
        let hashes = self.audit.hashes(&tree::inclusion(leaf_index, checkpoint.checkpoint.size)).await?;
        let entry = self.entry(&event).await?;
        let leaf_hash = tree::hash_leaf(&entry);
        Ok(Inclusion { event: event.id, leaf_index, leaf_hash, entry, hashes, checkpoint })
    }

    async fn entry(&self, event: &EventRow) -> Result<Vec<u8>> {
        let log = self.audit.head().await?.map(|head| head.log_id).unwrap_or_default();
        let details = event.details.0.to_string();
        let unreadable = || Error::new(Code::Internal, Code::Internal.meaning());
        Ok(event.leaf(log, &details).ok_or_else(unreadable)?.entry())
    }

    /// Proves that the book has only grown between two sizes; `to` is all that there is where it is absent.
    pub async fn consistency(&self, from: u64, to: Option<u64>) -> Result<Consistency> {
        let size = self.audit.sequence().await? as u64;
        let to = to.unwrap_or(size);
        if from > to || to > size {
            let detail = format!("from and to are sizes of the book: 0 ≤ from ≤ to ≤ {size}.");
            return Err(Error::new(Code::MalformedRequest, detail));
        }
        let hashes = self.audit.hashes(&tree::consistency(from, to)).await?;
        let (from_root, to_root) = (self.audit.root(from).await?, self.audit.root(to).await?);
        Ok(Consistency { from, to, from_root, to_root, hashes })
    }

    /// The hashes of a tile, one behind the other: all 256 or, of a tile that still grows, as many as are asked for.
    pub async fn tile(&self, tile: Tile, width: usize) -> Result<Vec<u8>> {
        let hashes = self.audit.tile(tile).await?.unwrap_or_default();
        let hashes = hashes.get(..width).filter(|hashes| !hashes.is_empty()).ok_or_else(Error::not_found)?;
        Ok(hashes.as_flattened().to_vec())
    }

    /// The entries of a tile of leaves, each behind its length in two bytes (C2SP tlog-tiles). They name every organization.
    pub async fn entries(&self, context: &Context, index: u64, width: usize) -> Result<Vec<u8>> {
        context.require_at_instance(Permission::AuditRead)?;
        let from = index.saturating_mul(tree::TILE_WIDTH);
        let filter = Default::default();
        let from = i64::try_from(from).map_err(|_| Error::not_found())?;
        let rows = self.audit.list_from(context, None, &filter, from, width as i64).await?;
        if rows.len() < width || rows.iter().zip(from..).any(|(row, sequence)| row.sequence != sequence) {
            return Err(Error::not_found());
        }
        let mut bytes = Vec::new();
        for row in &rows {
            let entry = self.entry(row).await?;
            bytes.extend_from_slice(&(entry.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&entry);
        }
        Ok(bytes)
    }

    /// Compares the whole book with its hashes, its signed checkpoints, the one beside the database, and one that the caller has.
    pub async fn verify(&self, held: Option<&str>, progress: impl FnMut(u64, u64)) -> Result<Findings> {
        let rows: Vec<CheckpointRow> = statement(sql::ALL).all(&self.ground.db).await?;
        let beside = std::fs::read_to_string(&self.checkpoint_file).ok();
        let mut signed = BTreeMap::new();
        for row in &rows {
            let checkpoint = self.signer.check(&row.note).filter(|checkpoint| checkpoint.size == row.size as u64);
            let forged =
                || Error::new(Code::Conflict, format!("The stored checkpoint of {} events is not ours.", row.size));
            let checkpoint = checkpoint.ok_or_else(forged)?;
            signed.insert(checkpoint.size, checkpoint.root);
        }
        let forged = || Error::new(Code::Conflict, "The given checkpoint is not signed with this book's key.");
        let held = held.map(|note| self.signer.check(note).ok_or_else(forged)).transpose()?;
        // One of another database that used the folder says nothing about this book.
        let beside = beside.and_then(|note| self.signer.check(&note));
        for checkpoint in held.into_iter().chain(beside).filter(|checkpoint| checkpoint.size > 0) {
            if signed.insert(checkpoint.size, checkpoint.root).is_some_and(|root| root != checkpoint.root) {
                let fault = Some(crate::audit::Fault::Root { size: checkpoint.size });
                return Ok(Findings { compared: 0, erased: 0, retired: 0, fault });
            }
        }
        self.audit.verify(&signed, progress).await
    }
}
