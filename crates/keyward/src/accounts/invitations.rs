//! Invitations: a link makes somebody a member, with a role that whoever invites could assign. Of the link's token only a
//! digest is kept.

use keyward_core::access::{Permission, Role};
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::organizations::is_email;
use super::people::People;
use super::{passwords, sql as statements};
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::{Actor, ActorKind, Context};
use crate::db::{row, sql};
use crate::error::{Error, Result};
use crate::page::{Page, PageRequest, Position};

/// How long an invitation is good for.
const DAYS: i64 = 7;

row! {
    /// An invitation that was not accepted yet.
    #[derive(Debug, Clone)]
    pub struct Invitation {
        pub id: Id<id::Invitation>,
        pub organization_id: Option<Id<id::Organization>>,
        pub email: String,
        pub role: String,
        pub created_at: Timestamp,
        pub expires_at: Timestamp,
    }
}

row! {
    /// What an invitation says to whoever holds its link.
    #[derive(Debug, Clone)]
    pub struct Invited {
        pub email: String,
        pub role: String,
        /// Its name; `None`: the instance itself.
        pub organization: Option<String>,
        /// Who has an account with that address.
        pub person: Option<Id<id::User>>,
    }
}

/// What somebody answers who was invited. Who has an account already needs neither.
pub struct Acceptance {
    pub token: String,
    pub name: Option<String>,
    pub password: Option<Secret<String>>,
}

/// A new member.
#[derive(Debug)]
pub struct Accepted {
    pub person: Id<id::User>,
    pub organization: Option<Id<id::Organization>>,
    pub role: String,
}

impl People {
    /// Invites somebody within a change; answers the token of the link, once, and the event to commit.
    pub(crate) async fn invite_within(
        &self,
        change: &mut Change<'_>,
        context: &Context,
        organization: Id<id::Organization>,
        email: &str,
        role: Role,
    ) -> Result<(Invitation, Secret<String>, Event)> {
        context.require(organization, Permission::MembersManage)?;
        if !is_email(email) {
            return Err(Error::field("/email", "is not an e-mail address"));
        }
        self.may_assign(context, organization, role)?;
        let mut random = [0u8; 32];
        getrandom::fill(&mut random).expect("the operating system gives randomness");
        let token = format!("kwi_{}", random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let now = change.now();
        let invitation = Invitation {
            id: self.ground.new_id(),
            organization_id: Some(organization),
            email: email.to_lowercase(),
            role: role.as_str().to_owned(),
            created_at: now,
            expires_at: now.plus_days(DAYS),
        };
        let insert = sql(statements::INSERT_INVITATION).bind(invitation.id).bind(digest(&token)).bind(organization);
        let insert = insert.bind(&invitation.email).bind(role.as_str()).bind(context.user()).bind(now);
        insert.bind(invitation.expires_at).execute(change.tx()).await?;
        let event = Event::new(EventType::UserManagement, "member_invited", "invitation", invitation.id);
        let event = event.named(&invitation.email).of(organization).details(json!({ "role": role.as_str() }));
        Ok((invitation, Secret::new(token), event))
    }

    /// Invitations that were neither accepted nor revoked.
    pub async fn invitations(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        page: &PageRequest,
    ) -> Result<Page<Invitation>> {
        context.require(organization, Permission::MembersRead)?;
        let before = page.before();
        let list = sql(statements::INVITATIONS).bind(organization).bind(before.at).bind(before.id);
        let rows: Vec<Invitation> = list.bind(page.fetch()).all(&self.ground.db).await?;
        Ok(page.page(rows, |row| Position { at: row.created_at, id: row.id.uuid() }))
    }

    /// Ends an invitation.
    pub async fn revoke_invitation(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        invitation: Id<id::Invitation>,
    ) -> Result<()> {
        context.require(organization, Permission::MembersManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let now = change.now();
        let revoke = sql(statements::REVOKE_INVITATION).bind(invitation).bind(organization).bind(now);
        if revoke.execute(change.tx()).await? == 0 {
            return Err(Error::not_found());
        }
        let event = Event::new(EventType::UserManagement, "invitation_revoked", "invitation", invitation);
        change.commit(event.of(organization)).await?;
        Ok(())
    }

    /// What the invitation behind a link says, while it is good.
    pub async fn invited(&self, token: &str) -> Result<Invited> {
        let find = sql(statements::INVITED).bind(digest(token)).bind(self.ground.now());
        let invited: Option<Invited> = find.optional(&self.ground.db).await?;
        invited.ok_or_else(|| Error::new(Code::Gone, Code::Gone.meaning()))
    }

    /// Makes whoever holds the link a member. The link is good for one use.
    pub async fn accept(&self, context: &Context, acceptance: &Acceptance) -> Result<Accepted> {
        let gone = || Error::new(Code::Gone, Code::Gone.meaning());
        let find = || sql(statements::OPEN_INVITATION).bind(digest(&acceptance.token)).bind(self.ground.now());
        let invitation: Invitation = find().optional(&self.ground.db).await?.ok_or_else(gone)?;
        let known: Option<(Id<id::User>,)> =
            sql(statements::FIND_BY_EMAIL).bind(&invitation.email).optional(&self.ground.db).await?;
        let new = match known {
            Some(_) => None,
            None => Some(self.new_account(&invitation, acceptance).await?),
        };
        let person = known.map_or_else(|| self.ground.new_id::<id::User>(), |(person,)| person);
        let actor = Actor { kind: ActorKind::User, id: person.to_string(), name: Some(invitation.email.clone()) };
        let context = Context { actor, ..context.clone() };
        let mut change = Change::begin(&self.ground, &context).await?;
        let now = change.now();
        if sql(statements::ACCEPT_INVITATION).bind(invitation.id).bind(now).execute(change.tx()).await? == 0 {
            return Err(gone());
        }
        if let Some((name, hash)) = new {
            let insert = sql(statements::INSERT_PERSON).bind(person).bind(&invitation.email).bind(name);
            insert.bind(Some(hash)).bind(now).execute(change.tx()).await?;
        }
        if self.binding(&mut change, person, invitation.organization_id).await?.is_some() {
            return Err(Error::new(Code::Conflict, "They are a member already."));
        }
        let insert = sql(statements::INSERT_BINDING).bind(self.ground.new_id::<id::Binding>()).bind(person);
        let insert = insert.bind(invitation.organization_id).bind(&invitation.role).bind(now).bind(None::<String>);
        insert.execute(change.tx()).await?;
        change.touch_owner(person).await?;
        let mut event = Event::new(EventType::UserManagement, "invitation_accepted", "user", person);
        event.organization = invitation.organization_id;
        change.commit(event.named(&invitation.email).details(json!({ "role": invitation.role }))).await?;
        Ok(Accepted { person, organization: invitation.organization_id, role: invitation.role })
    }

    async fn new_account(&self, invitation: &Invitation, acceptance: &Acceptance) -> Result<(String, String)> {
        let name = acceptance.name.clone().unwrap_or_else(|| invitation.email.clone());
        text::label(&name, 200).map_err(|fault| Error::field("/name", fault))?;
        let password = acceptance.password.as_ref().ok_or_else(|| Error::field("/password", "is required"))?;
        passwords::check(password.expose(), &[&invitation.email, &name], false, "/password")?;
        Ok((name, self.passwords.hash(password).await?))
    }
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
