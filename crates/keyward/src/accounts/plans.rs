//! Plans: named limits that organizations are on. Three are built in.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::limit::MAX_COUNT;
use keyward_core::problem::Code;
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde_json::json;

use super::sql as statements;
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{On, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::page::{Page, PageRequest, Position};

row! {
    #[derive(Debug, Clone)]
    pub struct Plan {
        pub id: Id<id::Plan>,
        pub name: String,
        /// Most keys that are neither revoked nor expired.
        pub key_limit: i64,
        pub requests_per_minute: i64,
        pub quota_per_month: i64,
        /// Grows with every change.
        pub version: i64,
        pub created_at: Timestamp,
        pub updated_at: Timestamp,
    }
}

/// The limits of a plan as they are given.
#[derive(Debug, Clone)]
pub struct PlanTerms {
    pub name: String,
    pub key_limit: i64,
    pub requests_per_minute: i64,
    pub quota_per_month: i64,
}

/// Name, keys, requests a minute, requests a month.
const BUILT_IN: [(&str, i64, i64, i64); 3] =
    [("free", 1, 100, 10_000), ("pro", 5, 1_000, 100_000), ("enterprise", 50, 10_000, 1_000_000)];

impl PlanTerms {
    fn check(&self) -> Result<()> {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        text::label(&self.name, 64).map_err(|fault| Error::field("/name", fault))?;
        if !self.name.bytes().all(word) {
            return Err(Error::field("/name", "must be of a–z, 0–9, - and _"));
        }
        for (pointer, value) in [
            ("/key_limit", self.key_limit),
            ("/requests_per_minute", self.requests_per_minute),
            ("/quota_per_month", self.quota_per_month),
        ] {
            if !(1..=MAX_COUNT as i64).contains(&value) {
                return Err(Error::field(pointer, format!("must be between 1 and {MAX_COUNT}")));
            }
        }
        Ok(())
    }
}

impl Plan {
    fn terms(&self) -> serde_json::Value {
        json!({"name": self.name, "key_limit": self.key_limit, "requests_per_minute": self.requests_per_minute, "quota_per_month": self.quota_per_month})
    }
}

/// Reading and changing plans.
#[derive(Clone)]
pub struct Plans {
    pub(crate) ground: Ground,
}

impl Plans {
    /// Makes the built-in plans where they are missing. Safe from several nodes at once.
    pub(crate) async fn ensure_built_in(&self) -> Result<()> {
        for (name, keys, minute, month) in BUILT_IN {
            let statement = sql(statements::ENSURE_PLAN).bind(self.ground.new_id::<id::Plan>()).bind(name).bind(keys);
            statement.bind(minute).bind(month).bind(self.ground.now()).execute(&self.ground.db).await?;
        }
        Ok(())
    }

    pub async fn list(&self, context: &Context, page: &PageRequest) -> Result<Page<Plan>> {
        context.require_anywhere(Permission::PlansRead)?;
        let before = page.before();
        let statement = sql(statements::LIST_PLANS).bind(before.at).bind(before.id).bind(page.fetch());
        let plans = statement.all(&self.ground.db).await?;
        Ok(page.page(plans, |plan: &Plan| Position { at: plan.created_at, id: plan.id.uuid() }))
    }

    /// A plan by its id or name.
    pub async fn get(&self, context: &Context, id_or_name: &str) -> Result<Plan> {
        context.require_anywhere(Permission::PlansRead)?;
        find(&self.ground.db, id_or_name).await?.ok_or_else(Error::not_found)
    }

    pub async fn create(&self, context: &Context, terms: PlanTerms) -> Result<Plan> {
        context.require_at_instance(Permission::PlansManage)?;
        terms.check()?;
        let mut change = Change::begin(&self.ground, context).await?;
        let now = change.now();
        let plan = Plan {
            id: self.ground.new_id(),
            name: terms.name,
            key_limit: terms.key_limit,
            requests_per_minute: terms.requests_per_minute,
            quota_per_month: terms.quota_per_month,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let insert = sql(statements::INSERT_PLAN).bind(plan.id).bind(&plan.name).bind(plan.key_limit);
        let insert = insert.bind(plan.requests_per_minute).bind(plan.quota_per_month).bind(now);
        insert.execute(change.tx()).await?;
        let event = Event::new(EventType::Admin, "plan_created", "plan", plan.id).named(&plan.name);
        change.commit(event.details(json!({ "after": plan.terms() }))).await?;
        Ok(plan)
    }

    /// Changes the terms; every organization on the plan is under the new ones at once.
    pub async fn update(&self, context: &Context, id_or_name: &str, edit: impl FnOnce(&mut PlanTerms)) -> Result<Plan> {
        context.require_at_instance(Permission::PlansManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let before = find(change.tx(), id_or_name).await?.ok_or_else(Error::not_found)?;
        let mut terms = PlanTerms {
            name: before.name.clone(),
            key_limit: before.key_limit,
            requests_per_minute: before.requests_per_minute,
            quota_per_month: before.quota_per_month,
        };
        edit(&mut terms);
        terms.check()?;
        let update = sql(statements::UPDATE_PLAN).bind(before.id).bind(&terms.name).bind(terms.key_limit);
        let update = update.bind(terms.requests_per_minute).bind(terms.quota_per_month).bind(change.now());
        update.execute(change.tx()).await?;
        let after = find(change.tx(), &before.id.to_string()).await?.ok_or_else(Error::not_found)?;
        let organizations: Vec<(Id<id::Organization>,)> =
            sql(statements::ORGANIZATIONS_ON_PLAN).bind(before.id).all(change.tx()).await?;
        organizations.into_iter().for_each(|(id,)| change.touch(Subject::Organization(id)));
        let event = Event::new(EventType::Admin, "plan_updated", "plan", after.id).named(&after.name);
        change.commit(event.change(&before.terms(), &after.terms())).await?;
        Ok(after)
    }

    pub async fn delete(&self, context: &Context, id_or_name: &str) -> Result<()> {
        context.require_at_instance(Permission::PlansManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let plan = find(change.tx(), id_or_name).await?.ok_or_else(Error::not_found)?;
        if BUILT_IN.iter().any(|(name, ..)| *name == plan.name) {
            return Err(Error::new(Code::Conflict, "A built-in plan cannot be deleted."));
        }
        let organizations: Vec<(Id<id::Organization>,)> =
            sql(statements::ORGANIZATIONS_ON_PLAN).bind(plan.id).all(change.tx()).await?;
        if !organizations.is_empty() {
            return Err(Error::new(Code::Conflict, format!("{} organizations are on this plan.", organizations.len())));
        }
        sql(statements::DELETE_PLAN).bind(plan.id).execute(change.tx()).await?;
        let event = Event::new(EventType::Admin, "plan_deleted", "plan", plan.id).named(&plan.name);
        change.commit(event.details(json!({ "before": plan.terms() }))).await?;
        Ok(())
    }
}

/// A plan by its id or name.
pub(crate) async fn find<'a>(on: impl Into<On<'a>>, id_or_name: &str) -> Result<Option<Plan>> {
    let id = id_or_name.parse::<Id<id::Plan>>().ok();
    Ok(sql(statements::FIND_PLAN).bind(id).bind(id_or_name).optional(on).await?)
}
