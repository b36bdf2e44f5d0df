//! Organizations: the operator's customers. Suspending one stops every key of it at once, activating resumes them.

use keyward_core::access::Permission;
use keyward_core::hours;
use keyward_core::id::{self, Id};
use keyward_core::problem::{Code, FieldFault};
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde_json::json;

use super::{plans, sql as statements};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{On, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::page::{Page, PageRequest, Position};

/// Up to which number a slug that is made of a name is tried.
const NUMBERED_SLUGS: usize = 20;

row! {
    #[derive(Debug, Clone)]
    pub struct Organization {
        pub id: Id<id::Organization>,
        pub name: String,
        pub slug: String,
        pub email: String,
        /// The plan's name.
        pub plan: String,
        /// `active` or `suspended`.
        pub status: String,
        /// IANA name; calendar quotas follow it.
        pub timezone: String,
        pub created_at: Timestamp,
        pub updated_at: Timestamp,
    }
}

/// What is given of an organization.
#[derive(Debug, Clone)]
pub struct OrganizationTerms {
    pub name: String,
    pub slug: String,
    pub email: String,
    /// A plan's id or name.
    pub plan: String,
    pub timezone: String,
}

impl OrganizationTerms {
    fn check(&self) -> Result<()> {
        text::label(&self.name, 200).map_err(|fault| Error::field("/name", fault))?;
        if !is_slug(&self.slug) {
            return Err(Error::field("/slug", "must be 1–63 of a–z, 0–9 and -, not at an end"));
        }
        if !is_email(&self.email) {
            return Err(Error::field("/email", "is not an e-mail address"));
        }
        if hours::is_zone(&self.timezone) { Ok(()) } else { Err(Error::field("/timezone", "is not an IANA time zone")) }
    }
}

fn is_slug(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A slug made of a name: letters and digits kept, the rest joined by hyphens.
pub fn slug_of(name: &str) -> String {
    let lower: String =
        name.to_lowercase().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let slug = lower.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    let slug: String = slug.chars().take(63).collect();
    slug.trim_matches('-').to_owned()
}

/// One `@` between two parts that can be an address; whether it exists only mail can tell.
pub(crate) fn is_email(text: &str) -> bool {
    text.len() <= 254
        && text.bytes().all(|b| b.is_ascii_graphic() || b >= 0x80)
        && keyward_core::text::label(text, 254).is_ok()
        && text.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty()
                && user.len() <= 64
                && !host.contains('@')
                && host.split('.').count() > 1
                && host.split('.').all(|part| !part.is_empty())
        })
}

impl Organization {
    fn terms(&self) -> serde_json::Value {
        json!({"name": self.name, "slug": self.slug, "email": self.email, "plan": self.plan, "status": self.status, "timezone": self.timezone})
    }

    pub fn is_suspended(&self) -> bool {
        self.status == "suspended"
    }
}

/// Reading and changing organizations.
#[derive(Clone)]
pub struct Organizations {
    pub(crate) ground: Ground,
}

impl Organizations {
    /// All organizations for the operator's staff; for others, their own.
    pub async fn list(&self, context: &Context, page: &PageRequest) -> Result<Page<Organization>> {
        context.require_anywhere(Permission::OrganizationsRead)?;
        let only = context
            .grant
            .as_ref()
            .filter(|grant| !grant.at_instance(Permission::OrganizationsRead))
            .map(|grant| grant.organization);
        let before = page.before();
        let statement =
            sql(statements::LIST_ORGANIZATIONS).bind(only).bind(before.at).bind(before.id).bind(page.fetch());
        let organizations = statement.all(&self.ground.db).await?;
        Ok(page.page(organizations, |one: &Organization| Position { at: one.created_at, id: one.id.uuid() }))
    }

    pub async fn get(&self, context: &Context, id: Id<id::Organization>) -> Result<Organization> {
        context.require(id, Permission::OrganizationsRead)?;
        find(&self.ground.db, id).await?.ok_or_else(Error::not_found)
    }

    pub async fn exists(&self, id: Id<id::Organization>) -> Result<bool> {
        Ok(find(&self.ground.db, id).await?.is_some())
    }

    /// A slug for an organization whose maker gives none: made of the name, with a number behind it where another has it already.
    /// A name without a–z and 0–9, or that very many have, gets an end of its own.
    pub async fn slug_for(&self, name: &str) -> Result<String> {
        let slug = slug_of(name);
        let start = if slug.is_empty() { "organization" } else { &slug[..slug.len().min(54)] }.trim_end_matches('-');
        let first = Some(slug.clone()).filter(|slug| !slug.is_empty());
        let numbered = (2..=NUMBERED_SLUGS).map(|number| format!("{start}-{number}")).filter(|_| !slug.is_empty());
        for wanted in first.into_iter().chain(numbered) {
            let (taken,) = sql(statements::COUNT_SLUGS).bind(&wanted).one::<(i64,)>(&self.ground.db).await?;
            if taken == 0 {
                return Ok(wanted);
            }
        }
        let id = self.ground.new_id::<id::Organization>().to_string();
        Ok(format!("{start}-{}", &id[id.len() - 8..]))
    }

    pub async fn create(&self, context: &Context, terms: OrganizationTerms) -> Result<Organization> {
        context.require_at_instance(Permission::OrganizationsManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let organization = insert(&mut change, &self.ground, terms).await?;
        let event = Event::new(EventType::Admin, "organization_created", "organization", organization.id);
        let event = event.named(&organization.name).of(organization.id);
        change.commit(event.details(json!({ "after": organization.terms() }))).await?;
        Ok(organization)
    }

    /// Changes what `edit` changes. Only the operator's staff may change the plan.
    pub async fn update(
        &self,
        context: &Context,
        id: Id<id::Organization>,
        edit: impl FnOnce(&mut OrganizationTerms),
    ) -> Result<Organization> {
        context.require(id, Permission::OrganizationsManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        // Held before it is read: of two changes at once the second keeps what the first has made.
        lock(&mut change, id).await?;
        let before = find(change.tx(), id).await?.ok_or_else(Error::not_found)?;
        let mut terms = OrganizationTerms {
            name: before.name.clone(),
            slug: before.slug.clone(),
            email: before.email.clone(),
            plan: before.plan.clone(),
            timezone: before.timezone.clone(),
        };
        edit(&mut terms);
        terms.check()?;
        if terms.plan != before.plan {
            context.require_at_instance(Permission::OrganizationsManage)?;
        }
        let plan =
            plans::find(change.tx(), &terms.plan).await?.ok_or_else(|| Error::field("/plan", "is not a plan"))?;
        if plan.name != before.plan {
            let active = count_keys(&mut change, id).await?;
            if active > plan.key_limit {
                let detail = format!("{active} keys are active, the plan allows {}.", plan.key_limit);
                return Err(Error::new(Code::PlanBelowUse, detail));
            }
        }
        if terms.slug != before.slug {
            refuse_taken(&mut change, &terms.slug).await?;
        }
        let update = sql(statements::UPDATE_ORGANIZATION).bind(id).bind(&terms.name).bind(&terms.slug);
        let update = update.bind(terms.email.to_lowercase()).bind(plan.id).bind(&terms.timezone).bind(change.now());
        update.execute(change.tx()).await?;
        let after = find(change.tx(), id).await?.ok_or_else(Error::not_found)?;
        change.touch(Subject::Organization(id));
        let event = Event::new(EventType::Admin, "organization_updated", "organization", id).named(&after.name).of(id);
        change.commit(event.change(&before.terms(), &after.terms())).await?;
        Ok(after)
    }

    /// Stops every key of the organization; only the operator's staff can, and never their own: nothing would be left to
    /// activate it with.
    pub async fn suspend(&self, context: &Context, id: Id<id::Organization>) -> Result<Organization> {
        refuse_own(context, id, "suspend")?;
        self.set_status(context, id, "suspended", "organization_suspended").await
    }

    pub async fn activate(&self, context: &Context, id: Id<id::Organization>) -> Result<Organization> {
        self.set_status(context, id, "active", "organization_activated").await
    }

    /// What is so already is left as it is, and not written down again.
    async fn set_status(
        &self,
        context: &Context,
        id: Id<id::Organization>,
        status: &'static str,
        action: &'static str,
    ) -> Result<Organization> {
        context.require(id, Permission::OrganizationsManage)?;
        context.require_at_instance(Permission::OrganizationsManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        lock(&mut change, id).await?;
        let before = find(change.tx(), id).await?.ok_or_else(Error::not_found)?;
        if before.status == status {
            return Ok(before);
        }
        sql(statements::SET_ORGANIZATION_STATUS).bind(id).bind(status).bind(change.now()).execute(change.tx()).await?;
        let after = find(change.tx(), id).await?.ok_or_else(Error::not_found)?;
        change.touch(Subject::Organization(id));
        let event = Event::new(EventType::Admin, action, "organization", id).named(&after.name).of(id);
        change.commit(event.change(&before.terms(), &after.terms())).await?;
        Ok(after)
    }

    /// Deletes the organization and its keys; refused while a key is active, unless `cascade`.
    pub async fn delete(&self, context: &Context, id: Id<id::Organization>, cascade: bool) -> Result<()> {
        context.require(id, Permission::OrganizationsManage)?;
        context.require_at_instance(Permission::OrganizationsManage)?;
        refuse_own(context, id, "delete")?;
        let mut change = Change::begin(&self.ground, context).await?;
        // Taken before counting, so that no key is made in between.
        lock(&mut change, id).await?;
        let before = find(change.tx(), id).await?.ok_or_else(Error::not_found)?;
        let active = count_keys(&mut change, id).await?;
        if active > 0 && !cascade {
            return Err(Error::new(Code::HasActiveKeys, format!("The organization still has {active} active keys.")));
        }
        sql(statements::DELETE_KEYS_OF).bind(id).execute(change.tx()).await?;
        sql(statements::DELETE_ORGANIZATION).bind(id).execute(change.tx()).await?;
        change.touch(Subject::Organization(id));
        let event = Event::new(EventType::Admin, "organization_deleted", "organization", id).named(&before.name).of(id);
        change
            .commit(event.details(json!({ "before": before.terms(), "deleted_keys": active, "cascade": cascade })))
            .await?;
        Ok(())
    }
}

fn refuse_own(context: &Context, id: Id<id::Organization>, what: &str) -> Result<()> {
    match &context.grant {
        Some(grant) if grant.organization == id && grant.at_instance(Permission::OrganizationsManage) => {
            Err(Error::new(Code::Conflict, format!("A caller cannot {what} its own organization.")))
        }
        _ => Ok(()),
    }
}

pub(crate) async fn find<'a>(on: impl Into<On<'a>>, id: Id<id::Organization>) -> Result<Option<Organization>> {
    Ok(sql(statements::FIND_ORGANIZATION).bind(id).optional(on).await?)
}

/// Writes a new, active organization.
pub(super) async fn insert(change: &mut Change<'_>, ground: &Ground, terms: OrganizationTerms) -> Result<Organization> {
    terms.check()?;
    let plan = plans::find(change.tx(), &terms.plan).await?.ok_or_else(|| Error::field("/plan", "is not a plan"))?;
    refuse_taken(change, &terms.slug).await?;
    let (id, now) = (ground.new_id(), change.now());
    let insert = sql(statements::INSERT_ORGANIZATION).bind(id).bind(&terms.name).bind(&terms.slug);
    let insert = insert.bind(terms.email.to_lowercase()).bind(plan.id).bind(&terms.timezone).bind(now);
    insert.execute(change.tx()).await?;
    find(change.tx(), id).await?.ok_or_else(Error::not_found)
}

/// Refuses a slug that another has. Its constraint would as well; but where the address is taken too, which of the two is told of
/// would be the database's own choice.
async fn refuse_taken(change: &mut Change<'_>, slug: &str) -> Result<()> {
    let (taken,) = sql(statements::COUNT_SLUGS).bind(slug).one::<(i64,)>(change.tx()).await?;
    if taken == 0 {
        return Ok(());
    }
    let fault = FieldFault { pointer: "/slug".to_owned(), detail: "is already taken".to_owned() };
    Err(Error::fields(Code::AlreadyTaken, vec![fault]))
}

/// Holds the organization's row until the change ends, so that counts of its keys stay true.
pub(crate) async fn lock(change: &mut Change<'_>, id: Id<id::Organization>) -> Result<()> {
    match sql(statements::LOCK_ORGANIZATION).bind(id).execute(change.tx()).await? {
        0 => Err(Error::not_found()),
        _ => Ok(()),
    }
}

/// Keys that are neither revoked nor expired: what the plan counts.
pub(crate) async fn count_keys(change: &mut Change<'_>, id: Id<id::Organization>) -> Result<i64> {
    let now = change.now();
    let (count,) = sql(statements::COUNT_KEYS).bind(id).bind(now).one::<(i64,)>(change.tx()).await?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_and_addresses() {
        assert_eq!(slug_of("  Acme, Inc. "), "acme-inc");
        assert!(is_slug("acme-2") && !is_slug("-acme") && !is_slug("Acme") && !is_slug(""));
        assert!(is_email("dev@example.com") && is_email("日本@例え.jp"));
        for bad in ["", "dev", "@example.com", "dev@", "dev@example", "a@b@c.de", "dev @example.com", "dev@.com"] {
            assert!(!is_email(bad), "{bad}");
        }
    }
}
