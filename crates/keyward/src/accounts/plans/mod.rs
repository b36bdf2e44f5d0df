//! Plans: named, versioned limits that organizations are on. Three are built in.

mod versions;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::limit::{LimitRule, MAX_COUNT, Per, REQUESTS};
use keyward_core::problem::Code;
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::sql as statements;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{Json, On, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::limits::check_limits;
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
        /// Beside the requests a minute.
        pub limits: Json<Vec<LimitRule>>,
        /// Grows with every change.
        pub version: i64,
        pub created_at: Timestamp,
        pub updated_at: Timestamp,
    }
}

pub use versions::{Affected, Effect, PlanVersion, Preview};

/// The limits of a plan as they are given.
#[derive(Debug, Clone, Serialize)]
pub struct PlanTerms {
    pub name: String,
    pub key_limit: i64,
    pub requests_per_minute: i64,
    pub quota_per_month: i64,
    pub limits: Vec<LimitRule>,
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
        if let Some(index) = self.limits.iter().position(is_every_call) {
            return Err(Error::field(format!("/limits/{index}"), "is what requests_per_minute says"));
        }
        check_limits(&self.limits, Per::Organization)
    }
}

/// Whether the rule is the one that every plan has.
fn is_every_call(rule: &LimitRule) -> bool {
    rule.counts_as(&LimitRule::plain(REQUESTS, rule.limit, 60), Per::Organization)
}

impl Plan {
    fn terms(&self) -> PlanTerms {
        PlanTerms {
            name: self.name.clone(),
            key_limit: self.key_limit,
            requests_per_minute: self.requests_per_minute,
            quota_per_month: self.quota_per_month,
            limits: self.limits.0.clone(),
        }
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
        for (name, key_limit, requests_per_minute, quota_per_month) in BUILT_IN {
            let mut tx = self.ground.db.begin().await?;
            let (id, now) = (self.ground.new_id::<id::Plan>(), self.ground.now());
            if sql(statements::ENSURE_PLAN).bind(id).bind(name).bind(now).execute(&mut tx).await? == 1 {
                let limits = Vec::new();
                let terms = PlanTerms { name: name.into(), key_limit, requests_per_minute, quota_per_month, limits };
                versions::insert(&mut tx, id, 1, &terms, &Effect::now(now), now).await?;
                tx.commit().await?;
            }
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
        let id = self.ground.new_id::<id::Plan>();
        sql(statements::INSERT_PLAN).bind(id).bind(&terms.name).bind(now).execute(change.tx()).await?;
        versions::insert(change.tx(), id, 1, &terms, &Effect::now(now), now).await?;
        let plan = find(change.tx(), &id.to_string()).await?.ok_or_else(Error::not_found)?;
        let event = Event::new(EventType::Admin, "plan_created", "plan", plan.id).named(&plan.name);
        change.commit(event.details(json!({ "after": terms }))).await?;
        Ok(plan)
    }

    pub async fn delete(&self, context: &Context, id_or_name: &str) -> Result<()> {
        context.require_at_instance(Permission::PlansManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let plan = find(change.tx(), id_or_name).await?.ok_or_else(Error::not_found)?;
        if is_built_in(&plan.name) {
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

/// Others find these plans by name: a new organization `free`, set-up `enterprise`.
fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(built_in, ..)| *built_in == name)
}

/// A plan by its id or name.
pub(crate) async fn find<'a>(on: impl Into<On<'a>>, id_or_name: &str) -> Result<Option<Plan>> {
    let id = id_or_name.parse::<Id<id::Plan>>().ok();
    Ok(sql(statements::FIND_PLAN).bind(id).bind(id_or_name).optional(on).await?)
}
