//! Finding events: every field, a time range, free text, what details contain. Newest first, in the book's own order, which later
//! writes do not move.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use serde_json::Value;

use super::{Audit, EventRow, sql as statements};
use crate::context::{Context, Whose};
use crate::db::dialect::Pair;
use crate::db::{Db, Json, Parts, parts, sql};
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
    /// Looked for in action, resource, actor and error, whatever the case of a–z.
    pub text: Option<String>,
    /// What the details must contain: a JSON object.
    pub details: Option<Value>,
}

/// A LIKE pattern for a text, its a–z in small letters; `\\` escapes.
fn pattern_of(text: &str) -> String {
    let escaped = text.to_ascii_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// What is looked for, and in which order: the newest first, or the oldest.
pub(super) struct Search<'a> {
    /// Who did it, or to whom it was done.
    person: Option<Id<id::User>>,
    organization: Option<Id<id::Organization>>,
    whose: Whose,
    pub(super) filter: &'a EventFilter,
    pub(super) newest_first: bool,
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
        self.page(Search { person: None, organization, whose, filter, newest_first: true }, page).await
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
        self.find(Search { person: None, organization, whose, filter, newest_first: false }, from, most).await
    }

    /// Events that a person did, or that were done to them, newest first.
    pub async fn list_of_person(
        &self,
        person: Id<id::User>,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<EventRow>> {
        let (person, whose) = (Some(person), Whose::Everyones);
        self.page(Search { person, organization: None, whose, filter, newest_first: true }, page).await
    }

    /// The places, from one up to another, of events whose id stands in the book already: ids are one organization's own matter.
    pub(crate) async fn namesakes(&self, from: i64, to: i64) -> Result<Vec<i64>> {
        let places: Vec<(i64,)> = sql(statements::NAMESAKES).bind(from).bind(to).all(&self.ground.db).await?;
        Ok(places.into_iter().map(|(place,)| place).collect())
    }

    async fn page(&self, search: Search<'_>, page: &PageRequest) -> Result<Page<EventRow>> {
        self.sequence().await?;
        let rows = self.find(search, page.before_sequence(), page.fetch()).await?;
        Ok(page.page(rows, |row| Position::of_sequence(row.sequence)))
    }

    /// At most so many events, before a place where the newest come first, else from it on.
    async fn find(&self, search: Search<'_>, place: i64, most: i64) -> Result<Vec<EventRow>> {
        let db = &self.ground.db;
        if let Some(details) = search.filter.details.as_ref().filter(|_| !db.is_postgres()) {
            return self.find_containing(&search, details, place, most).await;
        }
        let (bound, order) = match search.newest_first {
            true => (statements::BEFORE, statements::NEWEST_FIRST),
            false => (statements::FROM_PLACE, statements::OLDEST_FIRST),
        };
        let list = search.narrow(parts(statements::LIST).with(bound, place), db).with(order, most);
        Ok(list.end().all(db).await?)
    }
}

impl Search<'_> {
    pub(super) fn narrow(&self, list: Parts, db: &Db) -> Parts {
        let of = |pair: Pair| pair.text(db);
        let filter = self.filter;
        let list = list.when(of(statements::OF_PERSON), self.person.map(|person| person.to_string()));
        let list = match (self.organization, filter.event_type.as_ref()) {
            (Some(organization), Some(event_type)) => {
                list.with(of(statements::OF_ORGANIZATION_AND), organization).with(of(statements::AND_TYPE), event_type)
            }
            (organization, event_type) => {
                list.when(of(statements::OF_ORGANIZATION), organization).when(statements::OF_TYPE, event_type)
            }
        };
        let (since, until) = match filter.details {
            Some(_) => (statements::SINCE_BESIDE_DETAILS, statements::UNTIL_BESIDE_DETAILS),
            None => (statements::SINCE, statements::UNTIL),
        };
        list.when(statements::OF_ACTION, filter.action.as_ref())
            .when(of(statements::OF_ACTOR), filter.actor.as_ref())
            .when(of(statements::OF_ACTOR), self.whose.owner().map(|user| user.to_string()))
            .when(of(statements::OF_RESOURCE), filter.resource.as_ref())
            .when(statements::OF_OUTCOME, filter.success)
            .when(since, filter.from)
            .when(until, filter.to)
            .when(statements::FROM_ADDRESS, filter.ip_address.as_ref())
            .when(of(statements::WITH_TEXT), filter.text.as_deref().map(pattern_of))
            .when(of(statements::CONTAINS), filter.details.as_ref().map(|details| Json(details.clone())))
    }
}

fn readable(context: &Context, organization: Option<Id<id::Organization>>) -> Result<Whose> {
    match organization {
        Some(organization) => context.require(organization, Permission::AuditRead),
        None => context.require_at_instance(Permission::AuditRead).map(|()| Whose::Everyones),
    }
}
