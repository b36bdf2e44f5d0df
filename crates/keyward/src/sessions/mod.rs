//! Signing in: passwords and second factors become sessions, sessions give access and refresh tokens, and every call is
//! checked against the session as it stands now.
//!
//! What is known of a session is held in memory and forgotten when its person is announced (`announce`), so a warm check
//! reads no database, and a logout or a changed role is in force with the next call.

mod attempts;
mod backup_codes;
mod csrf;
mod current;
mod factors;
mod hold;
mod identities;
mod login;
mod outbox;
pub mod passkeys;
mod password;
mod refresh;
mod shown;
mod sql;
mod sweep;
pub mod tokens;
mod totp;
pub(crate) mod vault;
pub(crate) mod vouched;

use std::sync::Arc;

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use keyward_core::time::Timestamp;

use crate::accounts::passwords::Passwords;
use crate::accounts::people;
use crate::audit::{Audit, Event, EventType};
use crate::change::Change;
use crate::config::PeopleSettings;
use crate::context::{Actor, ActorKind, Context};
use crate::db::{Tx, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::keys::peppers::Peppers;
use crate::mail::Mailer;
use crate::metrics::Metrics;
use current::Memory;
use outbox::Outbox;
use passkeys::RelyingParty;
pub(crate) use shown::Asked;
use shown::Shown;
use sql as statements;
use tokens::Tokens;
use vault::Vault;
pub(crate) use vault::new_token;

pub use csrf::CSRF_SECONDS;
pub use current::Present;
pub use factors::Proof;
pub use identities::IdentityRow;
pub use login::{Credentials, PENDING_SECONDS, SignedIn};
pub use password::Resettable;
pub use totp::Enrolment;

/// How long a proof of identity counts as fresh (statement T-07).
pub const FRESH_SECONDS: i64 = 5 * 60;

row! {
    /// A session as it is stored.
    #[derive(Debug, Clone)]
    pub struct SessionRow {
        pub id: Id<id::Session>,
        pub person_id: Id<id::User>,
        pub browser: bool,
        pub ip_address: Option<String>,
        pub user_agent: Option<String>,
        pub created_at: Timestamp,
        pub last_seen_at: Timestamp,
        pub expires_at: Timestamp,
        pub authenticated_at: Timestamp,
        /// When the password was last shown; a sign-in by passkey shows none.
        pub password_at: Option<Timestamp>,
        pub factor_at: Option<Timestamp>,
        /// Which second factor was shown last.
        pub factor: Option<String>,
        /// How an identity provider has asked, where one vouches (`Asked`).
        pub vouched_methods: Option<String>,
        pub vouched_class: Option<String>,
        pub generation: i64,
        pub refreshed_at: Timestamp,
        pub confirmed: bool,
        pub ended_at: Option<Timestamp>,
    }
}

row! {
    /// A person as sign-in sees them.
    #[derive(Debug, Clone)]
    struct PersonRow {
        id: Id<id::User>,
        email: String,
        name: String,
        password_hash: Option<String>,
        disabled_at: Option<Timestamp>,
    }
}

/// The tokens of a session.
pub struct IssuedTokens {
    pub session: Id<id::Session>,
    pub access: Secret<String>,
    pub access_seconds: i64,
    pub refresh: Secret<String>,
    pub refresh_seconds: i64,
}

/// What signing in stands on.
pub struct Sessions {
    ground: Ground,
    audit: Audit,
    settings: PeopleSettings,
    /// Who vouches for people; empty where nobody does.
    provider: String,
    /// Before links in mails; a request never says what stands there.
    address: String,
    vault: Vault,
    /// `None`: no passkey can be made for the address that the settings name.
    relying_party: Option<RelyingParty>,
    pub tokens: Tokens,
    passwords: Arc<Passwords>,
    outbox: Outbox,
    metrics: Arc<Metrics>,
    memory: Memory,
}

/// What the sessions are opened with.
pub(crate) struct Parts {
    pub audit: Audit,
    pub peppers: Arc<Peppers>,
    pub passwords: Arc<Passwords>,
    pub mailer: Mailer,
    pub metrics: Arc<Metrics>,
    pub public_url: String,
    pub address: String,
    /// `oidc.issuer`.
    pub provider: String,
}

impl Sessions {
    pub(crate) async fn open(ground: Ground, settings: PeopleSettings, parts: Parts) -> Result<Self> {
        let Parts { audit, peppers, passwords, mailer, metrics, public_url, address, provider } = parts;
        let vault = Vault::new(peppers);
        let tokens = Tokens::open(ground.clone(), vault.clone(), &settings, &public_url).await?;
        Ok(Self {
            audit,
            memory: Memory::default(),
            outbox: Outbox::new(ground.clone(), vault.clone(), mailer),
            ground,
            settings,
            provider,
            relying_party: passkeys::relying_party(&public_url),
            address,
            vault,
            tokens,
            passwords,
            metrics,
        })
    }

    /// Sends the mails that are due.
    pub async fn deliver(&self) -> Result<()> {
        self.outbox.deliver().await
    }

    /// Returns when a mail was written.
    pub(crate) async fn delivery_wanted(&self) {
        self.outbox.wanted().await;
    }

    /// The sessions of a person that are in force, newest first.
    pub async fn list(&self, person: Id<id::User>) -> Result<Vec<SessionRow>> {
        let now = self.ground.now();
        let idle = now.plus_seconds(-self.idle_seconds());
        let list = sql(statements::LIST_SESSIONS).bind(person).bind(now).bind(idle);
        Ok(list.all(&self.ground.db).await?)
    }

    /// Ends a session of that person; another's looks absent.
    pub async fn end(&self, context: &Context, person: Id<id::User>, session: Id<id::Session>) -> Result<()> {
        let mut change = Change::begin(&self.ground, context).await?;
        let row: Option<SessionRow> = sql(statements::FIND_SESSION).bind(session).optional(change.tx()).await?;
        let row = row.filter(|row| row.person_id == person && row.ended_at.is_none()).ok_or_else(Error::not_found)?;
        self.end_within(&mut change, row.id, person, "revoked").await?;
        change.commit(Event::new(EventType::Security, "session_revoked", "session", session)).await?;
        Ok(())
    }

    /// Ends the session of the call itself.
    pub async fn log_out(&self, context: &Context, present: &Present) -> Result<()> {
        let mut change = Change::begin(&self.ground, context).await?;
        self.end_within(&mut change, present.session, present.person, "logout").await?;
        change.commit(Event::new(EventType::Security, "logout", "session", present.session)).await?;
        Ok(())
    }

    /// Ends every session of the person but the one that is kept; answers how many.
    pub async fn end_others(
        &self,
        context: &Context,
        person: Id<id::User>,
        kept: Option<Id<id::Session>>,
    ) -> Result<u64> {
        let mut change = Change::begin(&self.ground, context).await?;
        let ended = end_all_within(&mut change, person, kept, "revoked").await?;
        let event = Event::new(EventType::Security, "sessions_revoked", "user", person);
        change.commit(event.details(serde_json::json!({ "sessions": ended }))).await?;
        Ok(ended)
    }

    async fn end_within(
        &self,
        change: &mut Change<'_>,
        session: Id<id::Session>,
        person: Id<id::User>,
        why: &str,
    ) -> Result<u64> {
        let now = change.now();
        let ended = sql(statements::END_SESSION).bind(session).bind(now).bind(why).execute(change.tx()).await?;
        change.touch(crate::announce::Subject::Person(person));
        Ok(ended)
    }

    async fn person(&self, id: Id<id::User>) -> Result<PersonRow> {
        let row = sql(statements::PERSON_BY_ID).bind(id).optional(&self.ground.db).await?;
        row.ok_or_else(|| Error::new(Code::Unauthenticated, Code::Unauthenticated.meaning()))
    }

    async fn person_by_email(&self, email: &str) -> Result<Option<PersonRow>> {
        Ok(sql(statements::PERSON_BY_EMAIL).bind(address_of(email)).optional(&self.ground.db).await?)
    }

    /// What an answer that is kept for a person's repeated call is sealed under; the same for all of their sessions.
    pub fn seal_of(&self, person: Id<id::User>) -> Secret<String> {
        let mac = self.vault.macs("idempotency", person.uuid().as_bytes()).next().expect("there is a current pepper");
        Secret::new(vault::token_of("kws", &mac))
    }

    fn idle_seconds(&self) -> i64 {
        i64::from(self.settings.refresh_idle_seconds.clamp(60, 604_800))
    }

    fn session_seconds(&self) -> i64 {
        i64::from(self.settings.session_seconds.clamp(60, 2_592_000))
    }

    /// A link in a mail, on the address that the settings name.
    fn link(&self, path: &str, token: &str) -> String {
        format!("{}{path}?token={token}", self.address)
    }

    /// Opens a session within a change.
    async fn open_session(
        &self,
        change: &mut Change<'_>,
        person: Id<id::User>,
        client: &Client,
        shown: Shown,
    ) -> Result<IssuedTokens> {
        let (session, now) = (self.ground.new_id::<id::Session>(), change.now());
        let insert = sql(statements::INSERT_SESSION).bind(session).bind(person).bind(client.browser);
        let insert = insert.bind(client.ip.clone()).bind(client.user_agent.clone()).bind(now);
        let insert = insert.bind(shown.until.unwrap_or_else(|| now.plus_seconds(self.session_seconds())));
        let insert = insert.bind(shown.authenticated_at).bind(shown.password_at);
        let insert = insert.bind(shown.factor_at).bind(shown.factor).bind(false);
        let insert = insert.bind(shown.asked.methods).bind(shown.asked.class);
        insert.execute(change.tx()).await?;
        let refresh = vault::new_token(refresh::PREFIX);
        insert_refresh(change.tx(), &refresh, session, 1).await?;
        let row: SessionRow = sql(statements::FIND_SESSION).bind(session).one(change.tx()).await?;
        self.issue(&row, refresh, now)
    }

    /// The tokens of a session's present generation, as old as its last refresh.
    fn issue(&self, row: &SessionRow, refresh: String, now: Timestamp) -> Result<IssuedTokens> {
        let access_seconds = self.tokens.access_seconds;
        let expires_at = row.refreshed_at.plus_seconds(access_seconds).min(row.expires_at).as_seconds();
        let claims = tokens::Claims {
            iss: self.tokens.issuer.clone(),
            aud: self.tokens.issuer.clone(),
            sub: row.person_id.to_string(),
            client_id: "keyward".to_owned(),
            sid: row.id.to_string(),
            r#gen: row.generation,
            jti: vault::new_token("jti"),
            iat: row.refreshed_at.as_seconds(),
            exp: expires_at,
            auth_time: row.authenticated_at.as_seconds(),
            amr: row.methods(),
            acr: row.vouched_class.clone(),
        };
        let left = (row.expires_at.as_seconds() - now.as_seconds()).max(0);
        Ok(IssuedTokens {
            session: row.id,
            access: Secret::new(self.tokens.sign(&claims, now)?),
            access_seconds: (expires_at - now.as_seconds()).clamp(0, access_seconds),
            refresh: Secret::new(refresh),
            refresh_seconds: self.idle_seconds().min(left),
        })
    }
}

/// Where a sign-in comes from, and what it is bound to.
#[derive(Debug, Clone, Default)]
pub struct Client {
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    /// It keeps its tokens in cookies.
    pub browser: bool,
}

impl Client {
    /// A sign-in in two steps must end where it began.
    fn mark(&self) -> Vec<u8> {
        vault::digest(&format!("{}\n{}", self.user_agent.as_deref().unwrap_or_default(), self.browser))
    }
}

async fn insert_refresh(tx: &mut Tx, token: &str, session: Id<id::Session>, generation: i64) -> Result<()> {
    let insert = sql(statements::INSERT_REFRESH).bind(vault::digest(token)).bind(session).bind(generation);
    insert.execute(tx).await?;
    Ok(())
}

/// Ends every session of a person, as a change of their own standing does.
pub(crate) async fn end_all_within(
    change: &mut Change<'_>,
    person: Id<id::User>,
    kept: Option<Id<id::Session>>,
    why: &str,
) -> Result<u64> {
    people::hold(change, person).await?;
    let now = change.now();
    let end = sql(statements::END_SESSIONS).bind(person).bind(now).bind(why).bind(kept);
    let ended = end.execute(change.tx()).await?;
    change.touch(crate::announce::Subject::Person(person));
    Ok(ended)
}

/// One account, however its address is written.
pub(crate) fn address_of(email: &str) -> String {
    email.trim_start().trim_end_matches(|letter: char| letter == '.' || letter.is_whitespace()).to_lowercase()
}

/// The context of somebody who has just shown who they are.
fn as_person(context: &Context, person: &PersonRow) -> Context {
    let actor = Actor { kind: ActorKind::User, id: person.id.to_string(), name: Some(person.email.clone()) };
    Context { actor, ..context.clone() }
}
