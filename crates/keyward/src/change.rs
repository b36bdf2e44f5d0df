//! The only way to save a change: what was written, its line in the book, and its announcement commit together.

use std::collections::HashSet;

use keyward_core::id::{self, Announcement, Id};
use keyward_core::key::KeyDigest;
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;

use crate::announce::{Subject, nodes};
use crate::audit::{self, Event};
use crate::context::Context;
use crate::db::{DbError, Tx, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;

/// A change in progress. Dropped without `commit`, nothing of it happened.
pub struct Change<'a> {
    ground: &'a Ground,
    context: &'a Context,
    tx: Tx,
    now: Timestamp,
    subjects: HashSet<Subject>,
    waited_for: bool,
}

const DIGESTS_OF_KEY: &str = "SELECT digest AS value FROM key_secret WHERE key_id = $1 AND digest IS NOT NULL";
const DIGESTS_OF_OWNER: &str = "SELECT s.digest AS value FROM key_secret s JOIN api_key k ON k.id = s.key_id
    WHERE k.owner_id = $1 AND k.permissions <> '' AND s.digest IS NOT NULL";

impl<'a> Change<'a> {
    pub async fn begin(ground: &'a Ground, context: &'a Context) -> Result<Self> {
        let tx = ground.db.begin().await?;
        Ok(Self { ground, context, tx, now: ground.now(), subjects: HashSet::new(), waited_for: false })
    }

    /// Where the change's statements run.
    pub fn tx(&mut self) -> &mut Tx {
        &mut self.tx
    }

    /// The one instant of everything in this change.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn touch(&mut self, subject: Subject) {
        self.subjects.insert(subject);
    }

    /// Whatever is remembered of this key is out of date. Call it before its secrets are deleted.
    pub async fn touch_key(&mut self, key: Id<id::Key>) -> Result<()> {
        self.touch_digests(DIGESTS_OF_KEY, key).await
    }

    /// Whatever is remembered of this person, their sessions and their service keys is out of date.
    pub async fn touch_owner(&mut self, user: Id<id::User>) -> Result<()> {
        self.touch(Subject::Person(user));
        self.touch_digests(DIGESTS_OF_OWNER, user).await
    }

    async fn touch_digests<K: id::Kind>(&mut self, statement: &'static str, id: Id<K>) -> Result<()> {
        let digests: Vec<(Vec<u8>,)> = sql(statement).bind(id).all(&mut self.tx).await?;
        // Only our own digests, of 32 bytes, are ever remembered; imported ones are looked up each time.
        let slots = digests.into_iter().filter_map(|(bytes,)| <[u8; 32]>::try_from(bytes).ok());
        self.subjects.extend(slots.map(|bytes| Subject::Secret(KeyDigest::from_bytes(bytes).slot())));
        Ok(())
    }

    /// Asks the other nodes to acknowledge this change.
    pub fn ask_acknowledgement(&mut self) {
        self.waited_for = true;
    }

    /// Writes the event, commits, and announces. Returns what can be waited for on several nodes.
    pub async fn commit(mut self, event: Event) -> Result<Option<Id<Announcement>>> {
        audit::append(&mut self.tx, self.ground, self.context, event, self.now).await?;
        let announced = nodes::announce(self.ground, &mut self.tx, &self.subjects, self.waited_for).await?;
        let (tx, subjects, board) = (self.tx, self.subjects, self.ground.board.clone());
        // On a task of its own: a caller that goes away meanwhile must not leave a commit that nobody announces.
        let committing = tokio::spawn(async move {
            tx.commit().await?;
            board.post(subjects);
            Ok::<_, DbError>(())
        });
        committing.await.map_err(|ended| Error::new(Code::Internal, Code::Internal.meaning()).with_source(ended))??;
        Ok(announced)
    }
}
