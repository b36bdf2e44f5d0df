//! The set-up of a new instance: the first organization, its owner, and a service key to begin with.
//!
//! It happens once. From a terminal on the database directly, or through a link that is good for one use.

use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use keyward_core::text;
use sha2::{Digest, Sha256};

use super::organizations::{self, Organization, OrganizationTerms, is_email};
use super::{passwords, sql as statements};
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::sql;
use crate::error::{Error, Result};
use crate::ground::Ground;

/// How long a set-up link is good for.
const LINK_SECONDS: i64 = 15 * 60;

/// Who sets the instance up.
pub struct SetupRequest {
    pub email: String,
    pub organization: String,
    pub password: Option<Secret<String>>,
}

/// Set-up and its link.
#[derive(Clone)]
pub struct Setup {
    pub(crate) ground: Ground,
}

impl Setup {
    /// Whether the instance has an organization already.
    pub async fn is_done(&self) -> Result<bool> {
        let (count,) = sql(statements::COUNT_PEOPLE).one::<(i64,)>(&self.ground.db).await?;
        Ok(count > 0)
    }

    /// A token for the set-up link: one use, 15 minutes. Earlier ones end.
    pub async fn new_token(&self, context: &Context) -> Result<Secret<String>> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).expect("the operating system gives randomness");
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut change = Change::begin(&self.ground, context).await?;
        sql(statements::FORGET_SETUP_TOKENS).execute(change.tx()).await?;
        let expires_at = change.now().plus_seconds(LINK_SECONDS);
        sql(statements::INSERT_SETUP_TOKEN).bind(digest(&token)).bind(expires_at).execute(change.tx()).await?;
        change.commit(Event::new(EventType::System, "setup_link_issued", "instance", "setup")).await?;
        Ok(Secret::new(token))
    }

    /// Whether a link is still good.
    pub async fn check_token(&self, token: &str) -> Result<()> {
        let good: Option<(i64,)> = sql(statements::CHECK_SETUP_TOKEN)
            .bind(digest(token))
            .bind(self.ground.now())
            .optional(&self.ground.db)
            .await?;
        good.map(|_| ()).ok_or_else(|| Error::new(Code::Gone, Code::Gone.meaning()))
    }

    /// Makes the first organization and its owner within a change that also makes the first key.
    /// With a token, uses it up; a second set-up is refused.
    pub(crate) async fn found(
        &self,
        change: &mut Change<'_>,
        request: &SetupRequest,
        token: Option<&str>,
    ) -> Result<(Organization, Id<id::User>)> {
        if let Some(token) = token {
            let now = change.now();
            if sql(statements::USE_SETUP_TOKEN).bind(digest(token)).bind(now).execute(change.tx()).await? == 0 {
                return Err(Error::new(Code::Gone, Code::Gone.meaning()));
            }
        }
        text::label(&request.organization, 200).map_err(|fault| Error::field("/organization", fault))?;
        if !is_email(&request.email) {
            return Err(Error::field("/email", "is not an e-mail address"));
        }
        let password_hash = match &request.password {
            Some(password) => {
                passwords::check(password.expose(), &[&request.email, &request.organization], false, "/password")?;
                Some(passwords::hash_now(password.expose().as_bytes())?)
            }
            None => None,
        };
        let (count,) = sql(statements::COUNT_PEOPLE).one::<(i64,)>(change.tx()).await?;
        if count > 0 {
            return Err(Error::new(Code::Conflict, "This instance is set up already."));
        }
        let slug = match organizations::slug_of(&request.organization) {
            empty if empty.is_empty() => "organization".to_owned(),
            slug => slug,
        };
        let terms = OrganizationTerms {
            name: request.organization.clone(),
            slug,
            email: request.email.clone(),
            plan: "enterprise".to_owned(),
            timezone: "UTC".to_owned(),
        };
        let organization = organizations::insert(change, &self.ground, terms).await?;
        let (person, now) = (self.ground.new_id::<id::User>(), change.now());
        let insert =
            sql(statements::INSERT_PERSON).bind(person).bind(request.email.to_lowercase()).bind(&request.email);
        insert.bind(password_hash).bind(now).execute(change.tx()).await?;
        for place in [Some(organization.id), None] {
            let insert = sql(statements::INSERT_BINDING).bind(self.ground.new_id::<id::Binding>()).bind(person);
            insert.bind(place).bind(Role::Owner.as_str()).bind(now).bind(None::<String>).execute(change.tx()).await?;
        }
        Ok((organization, person))
    }
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
