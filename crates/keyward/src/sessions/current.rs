//! Who calls with an access token, as their session and their roles stand now. On a warm check: one look into memory, no SQL.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use keyward_core::access::{Grant, Role};
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;

use super::sql as statements;
use super::{PersonRow, SessionRow, Sessions};
use crate::db::{row, sql};
use crate::error::Result;

/// How often the time of the last use is written, in seconds.
const SEEN_SECONDS: i64 = 60;
/// Sessions that are held in memory; beyond it everything is forgotten once.
const MAX_SESSIONS: usize = 100_000;

row! {
    struct RoleRow { organization_id: Option<Id<id::Organization>>, role: String, second_factor_required: Option<bool> }
}

/// A person with a session in force.
#[derive(Debug)]
pub struct Present {
    pub session: Id<id::Session>,
    pub person: Id<id::User>,
    pub email: String,
    pub name: String,
    pub grant: Grant,
    pub roles: Vec<(Option<Id<id::Organization>>, Role)>,
    pub created_at: Timestamp,
    pub authenticated_at: Timestamp,
    /// When the password was last shown; a sign-in by passkey shows none.
    password_at: Option<Timestamp>,
    pub factor_at: Option<Timestamp>,
    pub has_factor: bool,
    /// An organization of theirs, or the instance, asks for a second factor that they do not have, here or at their provider.
    pub must_enrol: bool,
    pub expires_at: Timestamp,
    pub browser: bool,
    generation: i64,
    confirmed: AtomicBool,
    seen_at: AtomicI64,
}

impl Present {
    /// Whether they have shown a second factor within the last five minutes.
    pub fn has_fresh_factor(&self, now: Timestamp) -> bool {
        self.factor_at.is_some_and(|at| at.plus_seconds(super::FRESH_SECONDS) > now)
    }

    /// Whether they have shown the password, and the second factor where they have one, within the last five minutes.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.password_at.is_some_and(|at| at.plus_seconds(super::FRESH_SECONDS) > now)
            && (!self.has_factor || self.has_fresh_factor(now))
    }
}

type SessionsOfOne = HashMap<Id<id::Session>, Arc<Present>>;

/// Sessions in memory, by their person.
#[derive(Default)]
pub(super) struct Memory {
    applied: AtomicU64,
    people: Mutex<HashMap<Id<id::User>, SessionsOfOne>>,
}

impl Sessions {
    /// Who presents this access token; `None` when it is not one of ours, or no longer in force.
    pub async fn identify(&self, token: &str) -> Result<Option<Arc<Present>>> {
        let Some(claims) = self.tokens.read(token).await? else { return Ok(None) };
        let now = self.ground.now();
        let (Ok(session), Ok(person)) = (claims.sid.parse(), claims.sub.parse()) else { return Ok(None) };
        if claims.exp <= now.as_seconds() {
            return Ok(None);
        }
        let mut present = self.present(person, session, now).await?;
        // Another node has given out newer tokens than the session in memory knows of.
        if present.as_ref().is_some_and(|present| claims.r#gen > present.generation) {
            present = self.load(person, session, now).await?;
        }
        // A token of an earlier generation is good until it runs out; one of a later cannot be.
        let present = present.filter(|present| claims.r#gen <= present.generation && present.expires_at > now);
        let Some(present) = present else { return Ok(None) };
        if claims.r#gen == present.generation && !present.confirmed.load(Ordering::Acquire) {
            let confirm = sql(statements::CONFIRM).bind(session).bind(present.generation).bind(true);
            confirm.execute(&self.ground.db).await?;
            // Only what is written down is known: a use that could not be written is tried again with the next.
            present.confirmed.store(true, Ordering::Release);
        }
        let seen_at = present.seen_at.load(Ordering::Relaxed);
        if now.as_seconds() - seen_at >= SEEN_SECONDS
            && present.seen_at.compare_exchange(seen_at, now.as_seconds(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            sql(statements::SEEN).bind(session).bind(now).execute(&self.ground.db).await?;
        }
        Ok(Some(present))
    }

    /// The session as it stands now, from memory where that may be trusted.
    async fn present(
        &self,
        person: Id<id::User>,
        session: Id<id::Session>,
        now: Timestamp,
    ) -> Result<Option<Arc<Present>>> {
        self.take_announcements();
        let is_fresh = self.ground.board.is_fresh(now);
        let known = is_fresh.then(|| self.memory.find(person, session)).flatten();
        let present = match known {
            Some(present) => Some(present),
            None => self.load(person, session, now).await?,
        };
        Ok(present.filter(|present| present.expires_at > now))
    }

    fn take_announcements(&self) {
        let posted = self.ground.board.people_posted();
        if self.memory.applied.load(Ordering::Acquire) == posted {
            return;
        }
        let mut people = self.memory.people.lock().expect("no one panics while holding sessions");
        let (posted, touched) = self.ground.board.take_people();
        for person in touched {
            people.remove(&person);
        }
        self.memory.applied.store(posted, Ordering::Release);
    }

    async fn load(
        &self,
        person: Id<id::User>,
        session: Id<id::Session>,
        now: Timestamp,
    ) -> Result<Option<Arc<Present>>> {
        let posted = self.ground.board.people_posted();
        let row: Option<SessionRow> = sql(statements::FIND_SESSION).bind(session).optional(&self.ground.db).await?;
        let Some(row) = row.filter(|row| row.ended_at.is_none() && row.person_id == person) else { return Ok(None) };
        let standing: Option<PersonRow> = sql(statements::PERSON_BY_ID).bind(person).optional(&self.ground.db).await?;
        let Some(standing) = standing.filter(|person| person.disabled_at.is_none()) else { return Ok(None) };
        let bindings: Vec<RoleRow> = sql(statements::ROLES).bind(person).all(&self.ground.db).await?;
        let has_factor = self.has_factor(person).await?;
        let asked = self.settings.second_factor_required
            || bindings.iter().any(|binding| binding.second_factor_required == Some(true));
        let roles: Vec<_> = bindings
            .iter()
            .filter_map(|binding| Some((binding.organization_id, binding.role.parse::<Role>().ok()?)))
            .collect();
        let members: Vec<_> = roles.iter().filter_map(|(place, role)| Some(((*place)?, *role))).collect();
        let at_instance = roles.iter().find(|(place, _)| place.is_none()).map(|(_, role)| *role);
        // Without an organization, calls that name none reach nothing.
        let home = members.first().map_or_else(|| Id::from_uuid(uuid::Uuid::nil()), |(home, _)| *home);
        let present = Arc::new(Present {
            session,
            person,
            grant: Grant::of_person(person, home, &members, at_instance),
            email: standing.email,
            name: standing.name,
            roles,
            created_at: row.created_at,
            authenticated_at: row.authenticated_at,
            password_at: row.password_at,
            factor_at: row.factor_at,
            has_factor,
            must_enrol: asked && !has_factor && row.factor.as_deref() != Some(super::vouched::METHOD),
            expires_at: row.expires_at,
            browser: row.browser,
            generation: row.generation,
            confirmed: AtomicBool::new(row.confirmed),
            seen_at: AtomicI64::new(row.last_seen_at.as_seconds()),
        });
        if self.ground.board.is_fresh(now) {
            self.memory.remember(&present, posted, || self.ground.board.people_posted());
        }
        Ok(Some(present))
    }
}

impl Memory {
    fn find(&self, person: Id<id::User>, session: Id<id::Session>) -> Option<Arc<Present>> {
        let people = self.people.lock().expect("no one panics while holding sessions");
        people.get(&person)?.get(&session).cloned()
    }

    /// Keeps what was read, unless something was posted since the read began; decided under the lock.
    fn remember(&self, present: &Arc<Present>, posted: u64, posted_now: impl Fn() -> u64) {
        let mut people = self.people.lock().expect("no one panics while holding sessions");
        if posted_now() != posted {
            return;
        }
        if people.len() >= MAX_SESSIONS {
            people.clear();
        }
        people.entry(present.person).or_default().insert(present.session, present.clone());
    }
}
