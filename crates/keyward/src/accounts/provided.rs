//! Accounts and roles that come from an identity provider. It gives and takes back its own roles only: what was given by hand
//! stays, and so does the last owner.

use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::text;
use serde_json::json;

use super::organizations::is_email;
use super::people::{BindingRow, People};
use super::sql as statements;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{row, sql};
use crate::error::Result;

/// What stands at a role that a provider gave.
const ORIGIN: &str = "oidc";

type Place = Option<Id<id::Organization>>;

row! {
    struct ProvidedRow { organization_id: Option<Id<id::Organization>>, role: String }
}

impl People {
    /// Adds somebody whom the provider knows, without a password and without a role. `None` where the address is none.
    pub(crate) async fn create_provided(
        &self,
        context: &Context,
        email: &str,
        name: Option<&str>,
    ) -> Result<Option<Id<id::User>>> {
        if !is_email(email) {
            return Ok(None);
        }
        let mut change = Change::begin(&self.ground, context).await?;
        let (person, now) = (self.ground.new_id::<id::User>(), change.now());
        let name = name.filter(|name| text::label(name, 200).is_ok()).unwrap_or(email);
        let insert = sql(statements::INSERT_PERSON).bind(person).bind(email).bind(name);
        insert.bind(None::<String>).bind(now).execute(change.tx()).await?;
        let event = Event::new(EventType::UserManagement, "person_created", "user", person).named(name);
        change.commit(event.details(json!({ "origin": ORIGIN }))).await?;
        Ok(Some(person))
    }

    /// The account with that address.
    pub(crate) async fn find_by_email(&self, email: &str) -> Result<Option<Id<id::User>>> {
        let found: Option<(Id<id::User>,)> =
            sql(statements::FIND_BY_EMAIL).bind(email).optional(&self.ground.db).await?;
        Ok(found.map(|(person,)| person))
    }

    /// Makes the provider's roles of a person these, and no others. A role that was given by hand in the same place stays as it
    /// is, and the last owner of a place stays its owner.
    pub(crate) async fn provide_roles(
        &self,
        context: &Context,
        person: Id<id::User>,
        wanted: &[(Place, Role)],
    ) -> Result<()> {
        let held: Vec<ProvidedRow> =
            sql(statements::PROVIDED_ROLES).bind(person).bind(ORIGIN).all(&self.ground.db).await?;
        for (place, role) in wanted {
            if !held.iter().any(|row| row.organization_id == *place && row.role == role.as_str()) {
                self.provide_role(context, person, *place, Some(*role)).await?;
            }
        }
        for row in held.iter().filter(|row| wanted.iter().all(|(place, _)| *place != row.organization_id)) {
            self.provide_role(context, person, row.organization_id, None).await?;
        }
        Ok(())
    }

    async fn provide_role(
        &self,
        context: &Context,
        person: Id<id::User>,
        place: Place,
        role: Option<Role>,
    ) -> Result<()> {
        let mut change = Change::begin(&self.ground, context).await?;
        let before = self.binding(&mut change, person, place).await?;
        let is_by_hand = before.as_ref().is_some_and(|binding| binding.origin.as_deref() != Some(ORIGIN));
        let is_there = before.as_ref().map(|binding| binding.role.as_str()) == role.map(Role::as_str);
        if is_by_hand || is_there {
            return Ok(());
        }
        if role != Some(Role::Owner) {
            match self.keep_an_owner(&mut change, place, person, before.as_ref()).await {
                Err(error) if error.code == Code::LastOwner => {
                    tracing::warn!(%person, "the provider takes back the role of the last owner; it stays");
                    return Ok(());
                }
                kept => kept?,
            }
        }
        let now = change.now();
        let statement = match (&before, role) {
            (Some(BindingRow { id, .. }), Some(role)) => {
                sql(statements::UPDATE_BINDING).bind(*id).bind(role.as_str()).bind(ORIGIN)
            }
            (Some(BindingRow { id, .. }), None) => sql(statements::DELETE_BINDING).bind(*id),
            (None, Some(role)) => {
                let insert = sql(statements::INSERT_BINDING).bind(self.ground.new_id::<id::Binding>()).bind(person);
                insert.bind(place).bind(role.as_str()).bind(now).bind(ORIGIN)
            }
            (None, None) => return Ok(()),
        };
        statement.execute(change.tx()).await?;
        change.touch_owner(person).await?;
        let action = if role.is_some() { "role_assigned" } else { "role_removed" };
        let mut event = Event::new(EventType::UserManagement, action, "user", person);
        event.organization = place;
        let before = before.map(|binding| binding.role);
        change
            .commit(event.details(json!({ "before": before, "after": role.map(Role::as_str), "origin": ORIGIN })))
            .await?;
        Ok(())
    }
}
