//! Members of an organization: who they are, and what whoever manages them may do beside assigning roles (`people`).

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use serde_json::json;

use super::people::{self, People};
use super::sql as statements;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{row, sql};
use crate::error::{Error, Result};
use crate::page::{Page, PageRequest, Position};

row! {
    /// A member, with the role that they hold there.
    #[derive(Debug, Clone)]
    pub struct Member {
        pub id: Id<id::User>,
        pub email: String,
        pub name: String,
        pub disabled_at: Option<Timestamp>,
        pub role: String,
        pub joined_at: Timestamp,
        pub has_factor: bool,
    }
}

impl People {
    /// Members of an organization, those who came last first.
    pub async fn members(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        page: &PageRequest,
    ) -> Result<Page<Member>> {
        context.require(organization, Permission::MembersRead)?;
        let before = page.before();
        let list = sql(statements::MEMBERS).bind(organization).bind(None::<Id<id::User>>).bind(before.at);
        let rows: Vec<Member> = list.bind(before.id).bind(page.fetch()).all(&self.ground.db).await?;
        Ok(page.page(rows, |row| Position { at: row.joined_at, id: row.id.uuid() }))
    }

    /// One member.
    pub async fn member(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        person: Id<id::User>,
    ) -> Result<Member> {
        context.require(organization, Permission::MembersRead)?;
        let first = PageRequest::new(Some(1), None)?.before();
        let find = sql(statements::MEMBERS).bind(organization).bind(person).bind(first.at).bind(first.id).bind(1i64);
        find.optional(&self.ground.db).await?.ok_or_else(Error::not_found)
    }

    /// Closes or opens a member's account: sessions end, service keys stop. What is so already is left as it is.
    pub async fn set_disabled(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        person: Id<id::User>,
        is_disabled: bool,
    ) -> Result<Member> {
        let member = self.require_whole(context, organization, person).await?;
        if member.disabled_at.is_some() == is_disabled {
            return Ok(member);
        }
        let mut change = Change::begin(&self.ground, context).await?;
        let now = change.now();
        if is_disabled {
            for place in self.places_owned(&mut change, person).await? {
                if let Err(refused) = self.keep_another_owner(&mut change, place, person).await {
                    // Somebody closed it meanwhile: then no owner leaves now.
                    let member = self.member(context, organization, person).await?;
                    return if member.disabled_at.is_some() { Ok(member) } else { Err(refused) };
                }
            }
            people::hold(&mut change, person).await?;
            // An account that is opened again finds nobody signed in.
            sql(statements::END_SESSIONS_OF).bind(person).bind(now).execute(change.tx()).await?;
        }
        let set = sql(statements::SET_DISABLED).bind(person).bind(is_disabled.then_some(now)).bind(now);
        // Of two at the same time, one finds nothing left to do.
        if set.execute(change.tx()).await? == 1 {
            change.touch_owner(person).await?;
            let action = if is_disabled { "person_disabled" } else { "person_enabled" };
            change.commit(Event::new(EventType::UserManagement, action, "user", person).of(organization)).await?;
        }
        self.member(context, organization, person).await
    }

    /// Refuses where the account is more than this organization's affair: another's member is not closed from here.
    pub async fn require_whole(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        person: Id<id::User>,
    ) -> Result<Member> {
        context.require(organization, Permission::MembersManage)?;
        let member = self.member(context, organization, person).await?;
        if context.user() == Some(person) {
            return Err(Error::new(Code::Forbidden, "Nobody does this to themselves."));
        }
        let elsewhere = sql(statements::COUNT_PLACES_BUT).bind(person).bind(organization);
        let (elsewhere,): (i64,) = elsewhere.one(&self.ground.db).await?;
        if elsewhere > 0 && context.require_at_instance(Permission::MembersManage).is_err() {
            let detail = "They belong to other organizations as well; remove them from this one instead.";
            return Err(Error::new(Code::Forbidden, detail));
        }
        Ok(member)
    }

    /// Whether every member of the organization needs a second factor.
    pub async fn factor_policy(&self, context: &Context, organization: Id<id::Organization>) -> Result<bool> {
        context.require(organization, Permission::OrganizationsRead)?;
        let row: Option<(bool,)> = sql(statements::FACTOR_POLICY).bind(organization).optional(&self.ground.db).await?;
        row.map(|(required,)| required).ok_or_else(Error::not_found)
    }

    /// Sets it; in force with everybody's next call.
    pub async fn set_factor_policy(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        required: bool,
    ) -> Result<()> {
        context.require(organization, Permission::SettingsManage)?;
        let before = self.factor_policy(context, organization).await?;
        let mut change = Change::begin(&self.ground, context).await?;
        let now = change.now();
        sql(statements::SET_FACTOR_POLICY).bind(organization).bind(required).bind(now).execute(change.tx()).await?;
        let members: Vec<(Id<id::User>,)> = sql(statements::MEMBERS_OF).bind(organization).all(change.tx()).await?;
        for (member,) in members {
            change.touch(crate::announce::Subject::Person(member));
        }
        let event = Event::new(EventType::Admin, "second_factor_policy_changed", "organization", organization);
        let event = event.of(organization).details(json!({ "before": before, "after": required }));
        change.commit(event).await?;
        Ok(())
    }
}
