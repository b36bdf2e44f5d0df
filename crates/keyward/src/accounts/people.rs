//! People and their roles. Signing in comes with sessions; here is who somebody is and what role they have.

use std::sync::Arc;

use keyward_core::access::{Extent, Permission, Role};
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde_json::json;

use super::organizations::is_email;
use super::passwords::Passwords;
use super::sql as statements;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;

row! {
    /// A person's standing when a service key of theirs is judged.
    #[derive(Debug, Clone)]
    pub(crate) struct Standing { pub disabled_at: Option<Timestamp>, pub home_role: Option<String>, pub instance_role: Option<String> }
}

row! {
    /// origin: the provider that gave the role, where nobody did by hand.
    pub(super) struct BindingRow { pub id: Id<id::Binding>, pub role: String, pub origin: Option<String> }
}

/// Roles of people.
#[derive(Clone)]
pub struct People {
    pub(crate) ground: Ground,
    pub(crate) passwords: Arc<Passwords>,
}

impl People {
    /// Adds a person, without a role and without a way to sign in.
    pub async fn create(&self, context: &Context, email: &str, name: &str) -> Result<Id<id::User>> {
        context.require_at_instance(Permission::MembersManage)?;
        text::label(name, 200).map_err(|fault| Error::field("/name", fault))?;
        if !is_email(email) {
            return Err(Error::field("/email", "is not an e-mail address"));
        }
        let mut change = Change::begin(&self.ground, context).await?;
        let (person, now) = (self.ground.new_id::<id::User>(), change.now());
        let insert = sql(statements::INSERT_PERSON).bind(person).bind(email.to_lowercase()).bind(name);
        insert.bind(None::<String>).bind(now).execute(change.tx()).await?;
        change.commit(Event::new(EventType::UserManagement, "person_created", "user", person).named(name)).await?;
        Ok(person)
    }

    /// Gives a person a role in an organization, or at the instance with `None`; replaces the one they have.
    /// The last owner keeps the role: one must always be left.
    pub async fn assign_role(
        &self,
        context: &Context,
        person: Id<id::User>,
        organization: Option<Id<id::Organization>>,
        role: Role,
    ) -> Result<()> {
        let own = rank_of(context, organization, Permission::RolesAssign)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let before = self.binding(&mut change, person, organization).await?;
        own.may_change(context, person, before.as_ref(), Some(role))?;
        if role != Role::Owner {
            self.keep_an_owner(&mut change, organization, person, before.as_ref()).await?;
        }
        match &before {
            Some(binding) => {
                sql(statements::UPDATE_BINDING)
                    .bind(binding.id)
                    .bind(role.as_str())
                    .bind(None::<String>)
                    .execute(change.tx())
                    .await?;
            }
            None => {
                let insert = sql(statements::INSERT_BINDING).bind(self.ground.new_id::<id::Binding>()).bind(person);
                let insert = insert.bind(organization).bind(role.as_str()).bind(change.now()).bind(None::<String>);
                insert.execute(change.tx()).await?;
            }
        }
        self.commit(change, "role_assigned", person, organization, before, Some(role)).await
    }

    /// Takes away the role that a person has.
    pub async fn remove_role(
        &self,
        context: &Context,
        person: Id<id::User>,
        organization: Option<Id<id::Organization>>,
    ) -> Result<()> {
        let own = rank_of(context, organization, Permission::MembersManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let before = self.binding(&mut change, person, organization).await?.ok_or_else(Error::not_found)?;
        if context.user() != Some(person) {
            own.may_change(context, person, Some(&before), None)?;
        }
        self.keep_an_owner(&mut change, organization, person, Some(&before)).await?;
        sql(statements::DELETE_BINDING).bind(before.id).execute(change.tx()).await?;
        self.commit(change, "role_removed", person, organization, Some(before), None).await
    }

    /// Deletes a person. Their service keys stop with the next call. The last owner of a place stays.
    pub async fn delete(&self, context: &Context, person: Id<id::User>) -> Result<()> {
        context.require_at_instance(Permission::MembersManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        for place in self.places_owned(&mut change, person).await? {
            self.keep_another_owner(&mut change, place, person).await?;
        }
        change.touch_owner(person).await?;
        if sql(statements::DELETE_PERSON).bind(person).execute(change.tx()).await? == 0 {
            return Err(Error::not_found());
        }
        change.commit(Event::new(EventType::UserManagement, "person_deleted", "user", person)).await?;
        Ok(())
    }

    /// Where the person is an owner.
    pub(super) async fn places_owned(
        &self,
        change: &mut Change<'_>,
        person: Id<id::User>,
    ) -> Result<Vec<Option<Id<id::Organization>>>> {
        let owned: Vec<(Option<Id<id::Organization>>,)> =
            sql(statements::PLACES_OWNED).bind(person).all(change.tx()).await?;
        Ok(owned.into_iter().map(|(place,)| place).collect())
    }

    /// Refuses unless the place has another owner who can sign in, and whose row is held until the change ends.
    pub(super) async fn keep_another_owner(
        &self,
        change: &mut Change<'_>,
        organization: Option<Id<id::Organization>>,
        leaving: Id<id::User>,
    ) -> Result<()> {
        sql(statements::LOCK_OWNERS).bind(organization).execute(change.tx()).await?;
        let others = sql(statements::COUNT_OTHER_OWNERS).bind(organization).bind(leaving);
        let (others,) = others.one::<(i64,)>(change.tx()).await?;
        if others > 0 { Ok(()) } else { Err(Error::new(Code::LastOwner, Code::LastOwner.meaning())) }
    }

    /// Refuses a role that the caller could not give.
    pub(super) fn may_assign(&self, context: &Context, organization: Id<id::Organization>, role: Role) -> Result<()> {
        let own = rank_of(context, Some(organization), Permission::MembersManage)?;
        if role == Role::Owner && own.0 != Role::Owner {
            return Err(Error::new(Code::Forbidden, "Only an owner makes or unmakes one."));
        }
        Ok(())
    }

    pub(super) async fn binding(
        &self,
        change: &mut Change<'_>,
        person: Id<id::User>,
        organization: Option<Id<id::Organization>>,
    ) -> Result<Option<BindingRow>> {
        // Holds the owners' rows until the change ends: two parallel changes cannot both be the last but one.
        sql(statements::LOCK_OWNERS).bind(organization).execute(change.tx()).await?;
        Ok(sql(statements::FIND_BINDING).bind(person).bind(organization).optional(change.tx()).await?)
    }

    pub(super) async fn keep_an_owner(
        &self,
        change: &mut Change<'_>,
        organization: Option<Id<id::Organization>>,
        person: Id<id::User>,
        leaving: Option<&BindingRow>,
    ) -> Result<()> {
        if leaving.is_none_or(|binding| binding.role != Role::Owner.as_str()) {
            return Ok(());
        }
        self.keep_another_owner(change, organization, person).await
    }

    async fn commit(
        &self,
        mut change: Change<'_>,
        action: &'static str,
        person: Id<id::User>,
        organization: Option<Id<id::Organization>>,
        before: Option<BindingRow>,
        after: Option<Role>,
    ) -> Result<()> {
        change.touch_owner(person).await?;
        let mut event = Event::new(EventType::UserManagement, action, "user", person);
        event.organization = organization;
        let details = json!({ "before": before.map(|binding| binding.role), "after": after.map(Role::as_str) });
        change.commit(event.details(details)).await?;
        Ok(())
    }
}

/// What the caller may do to others' roles: nothing above their own, and never to themselves (statement Z-04).
struct Rank(Role);

/// The caller's own rank in an organization, or at the instance; refuses without the permission.
fn rank_of(context: &Context, organization: Option<Id<id::Organization>>, permission: Permission) -> Result<Rank> {
    match organization {
        Some(organization) => drop(context.require(organization, permission)?),
        None => context.require_at_instance(permission)?,
    }
    let Some(grant) = &context.grant else { return Ok(Rank(Role::Owner)) };
    // Only an owner manages settings: that tells the two roles apart that may assign any.
    let is_owner = match organization {
        Some(organization) => grant.extent_in(organization, Permission::SettingsManage) == Extent::All,
        None => grant.at_instance(Permission::SettingsManage),
    };
    Ok(Rank(if is_owner { Role::Owner } else { Role::Admin }))
}

impl Rank {
    fn may_change(
        &self,
        context: &Context,
        person: Id<id::User>,
        before: Option<&BindingRow>,
        after: Option<Role>,
    ) -> Result<()> {
        if context.user() == Some(person) {
            return Err(Error::new(Code::Forbidden, "Nobody assigns a role to themselves."));
        }
        let touches_owner =
            after == Some(Role::Owner) || before.is_some_and(|binding| binding.role == Role::Owner.as_str());
        if touches_owner && self.0 != Role::Owner {
            return Err(Error::new(Code::Forbidden, "Only an owner makes or unmakes one."));
        }
        Ok(())
    }
}

/// Holds a person until the change ends. Everything of theirs is locked after them, so that no two changes wait for each other.
pub(crate) async fn hold(change: &mut Change<'_>, person: Id<id::User>) -> Result<()> {
    sql(statements::HOLD).bind(person).execute(change.tx()).await?;
    Ok(())
}

/// A person's standing in an organization, read when a service key of theirs is loaded.
pub(crate) async fn standing(
    ground: &Ground,
    person: Id<id::User>,
    organization: Id<id::Organization>,
) -> Result<Option<Standing>, crate::db::DbError> {
    sql(statements::STANDING).bind(person).bind(organization).optional(&ground.db).await
}
