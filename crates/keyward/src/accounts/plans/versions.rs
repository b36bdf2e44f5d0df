//! Changes of a plan: each is a version, in force at once or at an appointed time, for all or only for newcomers.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::limit::{LimitRule, QuotaRule};
use keyward_core::problem::Code;
use keyward_core::quota::Calendar;
use keyward_core::time::Timestamp;
use serde_json::json;

use super::{Plan, PlanTerms, Plans, find, is_built_in, statements};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{Json, Tx, row, sql};
use crate::error::{Error, Result};

/// Most organizations that a preview lists; all are counted.
const MAX_LISTED: usize = 200;

/// When and for whom a change takes effect.
#[derive(Debug, Clone, Copy)]
pub struct Effect {
    pub at: Timestamp,
    /// Whether organizations that are on the plan by then stay on the version that they have.
    pub grandfathers: bool,
}

impl Effect {
    pub fn now(now: Timestamp) -> Self {
        Self { at: now, grandfathers: false }
    }
}

row! {
    #[derive(Debug, Clone)]
    pub struct PlanVersion {
        pub version: i64,
        pub key_limit: i64,
        pub requests_per_minute: i64,
        pub quota_per_month: i64,
        pub limits: Json<Vec<LimitRule>>,
        pub effective_at: Timestamp,
        /// Whether it waits for `effective_at`.
        pub scheduled: bool,
        pub grandfathers: bool,
        /// Organizations that are on it.
        pub organizations: i64,
        pub created_at: Timestamp,
    }
}

row! {
    struct DueVersion { plan_id: Id<id::Plan>, version: i64, key_limit: i64, grandfathers: bool }
}

row! {
    struct Follower {
        organization_id: Id<id::Organization>,
        name: String,
        timezone: String,
        active_keys: i64,
        month: Option<Timestamp>,
        used: Option<i64>,
    }
}

/// Who would be affected by a change of a plan.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Organizations that follow the plan's present version.
    pub organizations: usize,
    /// Those that use more than the new terms allow.
    pub over: usize,
    /// The first of them, those above the new terms first.
    pub items: Vec<Affected>,
}

/// One organization under the new terms.
#[derive(Debug, Clone)]
pub struct Affected {
    pub organization: Id<id::Organization>,
    pub name: String,
    pub active_keys: i64,
    pub used_this_month: i64,
    /// Names of the terms that it is above.
    pub over: Vec<&'static str>,
}

impl Plans {
    /// Changes the terms, for every organization on the plan or as `effect` says.
    pub async fn update(
        &self,
        context: &Context,
        id_or_name: &str,
        effect: Option<Effect>,
        edit: impl FnOnce(&mut PlanTerms),
    ) -> Result<Plan> {
        context.require_at_instance(Permission::PlansManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let before = hold(&mut change, id_or_name).await?.ok_or_else(Error::not_found)?;
        let mut terms = before.terms();
        edit(&mut terms);
        terms.check()?;
        if is_built_in(&before.name) && terms.name != before.name {
            return Err(Error::field("/name", "cannot change: this plan is built in"));
        }
        let now = change.now();
        let effect = effect.unwrap_or(Effect::now(now));
        let waiting: Option<(i64,)> = sql(statements::SCHEDULED_VERSION).bind(before.id).optional(change.tx()).await?;
        if waiting.is_some() {
            return Err(Error::new(Code::Conflict, "A change of this plan is scheduled already. Cancel it first."));
        }
        if !effect.grandfathers && effect.at <= now {
            refuse_below_use(&mut change, &before, &terms).await?;
        }
        sql(statements::RENAME_PLAN).bind(before.id).bind(&terms.name).bind(now).execute(change.tx()).await?;
        let (last,) = sql(statements::LAST_PLAN_VERSION).bind(before.id).one::<(i64,)>(change.tx()).await?;
        insert(change.tx(), before.id, last + 1, &terms, &effect, now).await?;
        let mut action = "plan_change_scheduled";
        if effect.at <= now {
            let version = (last + 1, terms.key_limit, effect.grandfathers);
            take_effect(&mut change, &before, version).await?;
            action = "plan_updated";
        } else if terms.name != before.name {
            touch_organizations(&mut change, before.id).await?;
        }
        let after = find(change.tx(), &before.id.to_string()).await?.ok_or_else(Error::not_found)?;
        let event = Event::new(EventType::Admin, action, "plan", after.id).named(&after.name);
        change.commit(event.change(&json!(before.terms()), &json!(terms))).await?;
        Ok(after)
    }

    pub async fn versions(&self, context: &Context, id_or_name: &str) -> Result<Vec<PlanVersion>> {
        let plan = self.get(context, id_or_name).await?;
        Ok(sql(statements::PLAN_VERSIONS).bind(plan.id).all(&self.ground.db).await?)
    }

    /// Takes back a change that waits for its time.
    pub async fn cancel(&self, context: &Context, id_or_name: &str, version: i64) -> Result<()> {
        context.require_at_instance(Permission::PlansManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let plan = find(change.tx(), id_or_name).await?.ok_or_else(Error::not_found)?;
        if sql(statements::CANCEL_VERSION).bind(plan.id).bind(version).execute(change.tx()).await? == 0 {
            return Err(Error::not_found());
        }
        let event = Event::new(EventType::Admin, "plan_change_cancelled", "plan", plan.id).named(&plan.name);
        change.commit(event.details(json!({ "version": version }))).await?;
        Ok(())
    }

    /// Who is affected if the terms change; changes nothing.
    pub async fn preview(
        &self,
        context: &Context,
        id_or_name: &str,
        edit: impl FnOnce(&mut PlanTerms),
    ) -> Result<Preview> {
        context.require_at_instance(Permission::PlansManage)?;
        let plan = find(&self.ground.db, id_or_name).await?.ok_or_else(Error::not_found)?;
        let mut terms = plan.terms();
        edit(&mut terms);
        terms.check()?;
        let now = self.ground.now();
        let followers: Vec<Follower> = sql(statements::FOLLOWERS).bind(plan.id).bind(now).all(&self.ground.db).await?;
        let mut items: Vec<Affected> = followers.into_iter().map(|follower| follower.under(&terms, now)).collect();
        items.sort_by_key(|item| item.over.is_empty());
        let (organizations, over) = (items.len(), items.iter().filter(|item| !item.over.is_empty()).count());
        items.truncate(MAX_LISTED);
        Ok(Preview { organizations, over, items })
    }

    /// Puts into force what is due. Organizations above the new number of keys stay on the version that they have.
    pub(crate) async fn apply_due(&self) -> Result<()> {
        let due: Vec<DueVersion> = sql(statements::DUE_VERSIONS).bind(self.ground.now()).all(&self.ground.db).await?;
        for version in due {
            let context = Context::system("plans");
            let mut change = Change::begin(&self.ground, &context).await?;
            let Some(plan) = hold(&mut change, &version.plan_id.to_string()).await? else { continue };
            let terms = (version.version, version.key_limit, version.grandfathers);
            // Another node may have been faster.
            if take_effect(&mut change, &plan, terms).await? {
                let event = Event::new(EventType::Admin, "plan_updated", "plan", plan.id).named(&plan.name);
                change.commit(event.details(json!({ "version": version.version, "scheduled": true }))).await?;
            }
        }
        Ok(())
    }
}

/// A plan as it is once it is held until the change ends: no key is made under it and no other version in between.
async fn hold(change: &mut Change<'_>, id_or_name: &str) -> Result<Option<Plan>> {
    let Some(named) = find(change.tx(), id_or_name).await? else { return Ok(None) };
    sql(statements::LOCK_PLAN).bind(named.id).execute(change.tx()).await?;
    find(change.tx(), &named.id.to_string()).await
}

/// Whatever is remembered of the organizations on the plan is out of date.
async fn touch_organizations(change: &mut Change<'_>, plan: Id<id::Plan>) -> Result<()> {
    let organizations: Vec<(Id<id::Organization>,)> =
        sql(statements::ORGANIZATIONS_ON_PLAN).bind(plan).all(change.tx()).await?;
    organizations.into_iter().for_each(|(id,)| change.touch(Subject::Organization(id)));
    Ok(())
}

pub(super) async fn insert(
    tx: &mut Tx,
    plan: Id<id::Plan>,
    version: i64,
    terms: &PlanTerms,
    effect: &Effect,
    now: Timestamp,
) -> Result<()> {
    let insert = sql(statements::INSERT_PLAN_VERSION).bind(plan).bind(version).bind(terms.key_limit);
    let insert = insert.bind(terms.requests_per_minute).bind(terms.quota_per_month).bind(Json(&terms.limits));
    // A version that is in force at once waits for nothing, but passes through the same door: see `take_effect`.
    let waits = version > 1;
    insert.bind(effect.at).bind(waits).bind(effect.grandfathers).bind(now).execute(tx).await?;
    Ok(())
}

/// Makes a waiting version the present one. Answers whether it still was waiting.
async fn take_effect(
    change: &mut Change<'_>,
    plan: &Plan,
    (version, key_limit, grandfathers): (i64, i64, bool),
) -> Result<bool> {
    let taken = sql(statements::TAKE_EFFECT).bind(plan.id).bind(version).execute(change.tx()).await?;
    if taken == 0 {
        return Ok(false);
    }
    let now = change.now();
    let above = if grandfathers { -1 } else { key_limit };
    let keep = sql(statements::KEEP_ON_VERSION).bind(plan.id).bind(plan.version).bind(above).bind(now);
    keep.execute(change.tx()).await?;
    sql(statements::SET_PLAN_VERSION).bind(plan.id).bind(version).bind(now).execute(change.tx()).await?;
    touch_organizations(change, plan.id).await?;
    Ok(true)
}

/// A plan does not shrink below what organizations use of it.
async fn refuse_below_use(change: &mut Change<'_>, plan: &Plan, terms: &PlanTerms) -> Result<()> {
    let now = change.now();
    // Held, so that no key is made between counting and shrinking.
    sql(statements::LOCK_ORGANIZATIONS_ON_PLAN).bind(plan.id).execute(change.tx()).await?;
    let followers: Vec<Follower> = sql(statements::FOLLOWERS).bind(plan.id).bind(now).all(change.tx()).await?;
    match followers.iter().filter(|follower| follower.active_keys > terms.key_limit).count() {
        0 => Ok(()),
        over => Err(Error::new(
            Code::PlanBelowUse,
            format!("{over} organizations on this plan have more than {} active keys.", terms.key_limit),
        )),
    }
}

impl Follower {
    fn under(self, terms: &PlanTerms, now: Timestamp) -> Affected {
        let month = Calendar::of(&QuotaRule::per_month(1), &self.timezone).bucket(now);
        let used_this_month = if self.month == Some(month.start) { self.used.unwrap_or(0) } else { 0 };
        let mut over = Vec::new();
        if self.active_keys > terms.key_limit {
            over.push("key_limit");
        }
        if used_this_month > terms.quota_per_month {
            over.push("quota_per_month");
        }
        Affected {
            organization: self.organization_id,
            name: self.name,
            active_keys: self.active_keys,
            used_this_month,
            over,
        }
    }
}
