//! Finding events: every field, a time range, free text, what details contain. Newest first, in the book's own order, which later
//! writes do not move.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use serde_json::Value;

use super::{Audit, EventRow, sql as statements};
use crate::context::{Context, Whose};
use crate::db::dialect::Pair;
use crate::db::{Json, Parts, parts, sql};
use crate::error::Result;
use crate::page::{Page, PageRequest, Position};

/// Which events are wanted; an absent field wants all.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub event_type: Option<String>,
    pub action: Option<String>,
    pub actor: Option<String>,
    pub resource: Option<String>,
    pub success: Option<bool>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub ip_address: Option<String>,
    /// Looked for in action, resource, actor and error, whatever its case.
    pub text: Option<String>,
    /// What the details must contain: a JSON object.
    pub details: Option<Value>,
}

/// A LIKE pattern for a text, in small letters; `\\` escapes.
fn pattern_of(text: &str) -> String {
    let escaped = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

impl Audit {
    /// Events of an organization, newest first; with `None`, of the whole instance.
    pub async fn list(
        &self,
        context: &Context,
        organization: Option<Id<id::Organization>>,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<EventRow>> {
        let whose = readable(context, organization)?;
        self.sequence().await?;
        let list = parts(statements::LIST).with(statements::BEFORE, page.before_sequence());
        let list = self.narrow(list, organization, whose, filter).with(statements::NEWEST_FIRST, page.fetch()).end();
        let rows: Vec<EventRow> = list.all(&self.ground.db).await?;
        Ok(page.page(rows, |row| Position::of_sequence(row.sequence)))
    }

    /// Events from a place in the book on, oldest first, at most so many.
    pub async fn list_from(
        &self,
        context: &Context,
        organization: Option<Id<id::Organization>>,
        filter: &EventFilter,
        from: i64,
        most: i64,
    ) -> Result<Vec<EventRow>> {
        let whose = readable(context, organization)?;
        let list = parts(statements::LIST).with(statements::FROM_PLACE, from);
        let list = self.narrow(list, organization, whose, filter).with(statements::OLDEST_FIRST, most).end();
        Ok(list.all(&self.ground.db).await?)
    }

    /// The places, from one up to another, of events whose id stands in the book already: ids are one organization's own matter.
    pub(crate) async fn namesakes(&self, from: i64, to: i64) -> Result<Vec<i64>> {
        let places: Vec<(i64,)> = sql(statements::NAMESAKES).bind(from).bind(to).all(&self.ground.db).await?;
        Ok(places.into_iter().map(|(place,)| place).collect())
    }

    /// Events that a person did, or that were done to them, newest first.
    pub async fn list_of_person(
        &self,
        person: Id<id::User>,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<EventRow>> {
        self.sequence().await?;
        let list = parts(statements::LIST).with(statements::BEFORE, page.before_sequence());
        let list = list.with(statements::OF_PERSON.text(&self.ground.db), person.to_string());
        let list = self.narrow(list, None, Whose::Everyones, filter).with(statements::NEWEST_FIRST, page.fetch()).end();
        let rows: Vec<EventRow> = list.all(&self.ground.db).await?;
        Ok(page.page(rows, |row| Position::of_sequence(row.sequence)))
    }

    fn narrow(
        &self,
        list: Parts,
        organization: Option<Id<id::Organization>>,
        whose: Whose,
        filter: &EventFilter,
    ) -> Parts {
        let of = |pair: Pair| pair.text(&self.ground.db);
        let list = match (organization, filter.event_type.as_ref()) {
            (Some(organization), Some(event_type)) => {
                list.with(of(statements::OF_ORGANIZATION_AND), organization).with(of(statements::AND_TYPE), event_type)
            }
            (organization, event_type) => {
                list.when(of(statements::OF_ORGANIZATION), organization).when(statements::OF_TYPE, event_type)
            }
        };
        let (since, until) = match filter.details {
            Some(_) => (of(statements::SINCE_BESIDE_DETAILS), of(statements::UNTIL_BESIDE_DETAILS)),
            None => (statements::SINCE, statements::UNTIL),
        };
        list.when(statements::OF_ACTION, filter.action.as_ref())
            .when(of(statements::OF_ACTOR), filter.actor.as_ref())
            .when(of(statements::OF_ACTOR), whose.owner().map(|user| user.to_string()))
            .when(of(statements::OF_RESOURCE), filter.resource.as_ref())
            .when(statements::OF_OUTCOME, filter.success)
            .when(since, filter.from)
            .when(until, filter.to)
            .when(statements::FROM_ADDRESS, filter.ip_address.as_ref())
            .when(statements::WITH_TEXT, filter.text.as_deref().map(pattern_of))
            .when(of(statements::CONTAINS), filter.details.as_ref().map(|details| Json(details.clone())))
    }
}

fn readable(context: &Context, organization: Option<Id<id::Organization>>) -> Result<Whose> {
    match organization {
        Some(organization) => context.require(organization, Permission::AuditRead),
        None => context.require_at_instance(Permission::AuditRead).map(|()| Whose::Everyones),
    }
}
