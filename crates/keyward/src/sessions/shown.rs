//! What somebody has shown, here or at their identity provider, and how access tokens tell it (RFC 8176, RFC 9068).

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;

use super::{SessionRow, sql as statements, vouched};
use crate::change::Change;
use crate::db::sql;
use crate::error::Result;

/// Where a provider does not say how it has asked. There is no registered word for it; this one is in use elsewhere.
const FEDERATED: &str = "fed";
const PASSWORD: &str = "pwd";

/// How an identity provider has asked whoever it vouches for; nothing where nobody vouches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Its words, separated by spaces; `fed` where it gives none.
    pub methods: Option<String>,
    /// `acr`.
    pub class: Option<String>,
    /// `auth_time`.
    pub at: Option<Timestamp>,
}

impl Asked {
    /// As the provider's claims say it.
    pub fn with(methods: &[&str], class: Option<&str>, at: Option<Timestamp>) -> Self {
        let methods = if methods.is_empty() { FEDERATED.to_owned() } else { methods.join(" ") };
        Self { methods: Some(methods), class: class.map(str::to_owned), at }
    }
}

/// What somebody has shown when a session opens, and until when it may last; a sign-in's may last as long as any.
pub(super) struct Shown {
    pub authenticated_at: Timestamp,
    pub password_at: Option<Timestamp>,
    pub factor_at: Option<Timestamp>,
    /// Its name, as `Proof::method` has it.
    pub factor: Option<String>,
    pub asked: Asked,
    pub until: Option<Timestamp>,
}

impl Shown {
    /// To sign in.
    pub fn now(now: Timestamp, password: bool, factor: Option<&str>) -> Self {
        let (password_at, factor_at) = (password.then_some(now), factor.map(|_| now));
        let factor = factor.map(str::to_owned);
        Self { authenticated_at: now, password_at, factor_at, factor, asked: Asked::default(), until: None }
    }

    /// To a provider, if to one: whom it asked an hour ago has shown nothing since. No provider has asked in the future.
    pub fn to(self, asked: Asked) -> Self {
        let authenticated_at = asked.at.map_or(self.authenticated_at, |at| at.min(self.authenticated_at));
        Self { authenticated_at, asked, ..self }
    }

    /// Beside what was shown in the session that this one continues; what was not shown anew stays as it was.
    pub fn beside(before: SessionRow, now: Timestamp, password: bool, factor: Option<&str>) -> Self {
        let methods = before.vouched_methods.map(|words| match password {
            true if words.split(' ').all(|word| word != PASSWORD) => format!("{words} {PASSWORD}"),
            _ => words,
        });
        Self {
            authenticated_at: if password { now } else { before.authenticated_at },
            password_at: if password { Some(now) } else { before.password_at },
            factor_at: factor.map(|_| now).or(before.factor_at),
            factor: factor.map(str::to_owned).or(before.factor),
            asked: Asked { methods, class: before.vouched_class, at: None },
            until: Some(before.expires_at),
        }
    }
}

impl SessionRow {
    /// What was shown within the session, as RFC 8176 calls it. A passkey proves possession of a key, and its authenticator has
    /// verified the person: two factors in one. A provider's words are passed on as they are.
    pub(super) fn methods(&self) -> Vec<String> {
        let first = match (&self.vouched_methods, self.password_at) {
            (Some(words), _) => words.as_str(),
            (None, Some(_)) => PASSWORD,
            (None, None) => "",
        };
        let factor: &[&str] = match (self.factor_at, self.factor.as_deref()) {
            (None, _) | (_, Some(vouched::METHOD)) => &[],
            (Some(_), Some("passkey")) => &["pop", "mfa"],
            (Some(_), _) => &["otp"],
        };
        let first: Vec<&str> = first.split(' ').filter(|word| !word.is_empty()).collect();
        let factor = factor.iter().copied().filter(|word| !first.contains(word));
        first.iter().copied().chain(factor).map(str::to_owned).collect()
    }
}

/// Notes with a session what was shown within it just now.
pub(super) async fn note_shown(
    change: &mut Change<'_>,
    session: Id<id::Session>,
    password: bool,
    factor: Option<&'static str>,
) -> Result<()> {
    let now = change.now();
    let note = sql(statements::NOTE_SHOWN).bind(session).bind(password.then_some(now));
    note.bind(factor.map(|_| now)).bind(factor).execute(change.tx()).await?;
    Ok(())
}
