//! API keys over HTTP.

mod bodies;
mod views;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use keyward::keys::{KeyFilter, RevokeAll, Sort};
use keyward::limits::callers::Call::{
    Create, Health, Import as Imports, List as Lists, Revoke, RevokeAll as RevokesAll, Rotate, Stats,
};
use keyward::page::PageRequest;
use keyward_core::access::Permission::{
    KeysCreate, KeysDelete, KeysRead, KeysRevoke, KeysRotate, KeysUpdate, UsageRead,
};
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, In, Params, Target};
use super::json::{Json, OptionalJson};
use super::page::{List, PageParams};
use super::route::{Access::Needs, Route, delete, get, patch, post};
use crate::app::SharedApp;
use crate::problem::Problem;
use bodies::{CleanupBody, ImportBody, KeyPatch, NewKeyBody, ReasonBody, RevokeAllBody, RotateBody};
use views::{HealthView, ImportView, IssuedView, KeyStatsView, KeyView, StatsView};

pub fn routes() -> Vec<Route> {
    vec![
        post("/api-keys", Needs(KeysCreate), "Create a key; the answer holds it once", create)
            .takes::<NewKeyBody>()
            .answers::<IssuedView>(201)
            .limited(Create),
        get("/api-keys", Needs(KeysRead), "List keys", list)
            .query::<ListParams>()
            .answers::<List<KeyView>>(200)
            .limited(Lists),
        get("/api-keys/stats", Needs(UsageRead), "How many keys stand how, and their usage", stats)
            .answers::<StatsView>(200)
            .limited(Stats),
        get("/api-keys/expiring", Needs(KeysRead), "List keys that expire soon", expiring)
            .query::<ExpiringParams>()
            .answers::<List<KeyView>>(200)
            .limited(Lists),
        get("/api-keys/health", Needs(KeysRead), "What a careful owner would change", health)
            .query::<PageParams>()
            .answers::<List<HealthView>>(200)
            .limited(Health),
        post("/api-keys/cleanup-expired", Needs(KeysDelete), "Delete expired keys", cleanup)
            .may_take::<CleanupBody>()
            .answers::<Count>(200),
        post("/api-keys/import", Needs(KeysCreate), "Import hashes of another system", import)
            .takes::<ImportBody>()
            .answers::<ImportView>(200)
            .limited(Imports),
        post("/api-keys/revoke-all", Needs(KeysRevoke), "Emergency: revoke every key but the caller's", revoke_all)
            .query::<WaitParams>()
            .takes::<RevokeAllBody>()
            .answers::<Count>(200)
            .limited(RevokesAll),
        get("/api-keys/{id}", Needs(KeysRead), "Read a key", show).answers::<KeyView>(200),
        patch("/api-keys/{id}", Needs(KeysUpdate), "Change a key's settings", update)
            .takes::<KeyPatch>()
            .answers::<KeyView>(200),
        delete("/api-keys/{id}", Needs(KeysDelete), "Delete a key", remove).answers_nothing(),
        get("/api-keys/{id}/stats", Needs(UsageRead), "Usage of a key", key_stats)
            .answers::<KeyStatsView>(200)
            .limited(Stats),
        post(
            "/api-keys/{id}/rotate",
            Needs(KeysRotate),
            "A new secret for the same key; the answer holds it once",
            rotate,
        )
        .may_take::<RotateBody>()
        .answers::<IssuedView>(200)
        .limited(Rotate),
        post("/api-keys/{id}/disable", Needs(KeysRevoke), "Pause a key", disable)
            .may_take::<ReasonBody>()
            .answers::<KeyView>(200)
            .limited(Revoke),
        post("/api-keys/{id}/enable", Needs(KeysRevoke), "Resume a key", enable)
            .answers::<KeyView>(200)
            .limited(Revoke),
        post("/api-keys/{id}/revoke", Needs(KeysRevoke), "End a key for good", revoke)
            .query::<WaitParams>()
            .may_take::<ReasonBody>()
            .answers::<KeyView>(200)
            .limited(Revoke),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListParams {
    limit: Option<u32>,
    cursor: Option<String>,
    /// `active`, `disabled`, `expired` or `revoked`.
    status: Option<String>,
    environment: Option<String>,
    /// A user's id.
    owner: Option<String>,
    scope: Option<String>,
    /// Id or name.
    keyspace: Option<String>,
    expiring_within_days: Option<i64>,
    unused_for_days: Option<i64>,
    /// Looked for in name and external id.
    q: Option<String>,
    /// `-created_at` (the default) or `created_at`.
    sort: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExpiringParams {
    /// 7 when absent.
    days: Option<i64>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WaitParams {
    /// Answer only when the change is in force on every live node.
    #[serde(default)]
    wait: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Count {
    count: u64,
}

fn malformed(detail: &str) -> Problem {
    Problem::new(Code::MalformedRequest, detail)
}

impl ListParams {
    fn filter(self) -> Result<(KeyFilter, PageRequest), Problem> {
        if self.status.as_deref().is_some_and(|status| !["active", "disabled", "expired", "revoked"].contains(&status))
        {
            return Err(malformed("status must be active, disabled, expired or revoked."));
        }
        let sort = match self.sort.as_deref() {
            None | Some("-created_at") => Sort::NewestFirst,
            Some("created_at") => Sort::OldestFirst,
            Some(_) => return Err(malformed("sort must be created_at or -created_at.")),
        };
        let owner =
            self.owner.map(|text| text.parse().map_err(|_| malformed("owner must be a user's id."))).transpose()?;
        let page = PageRequest::new(self.limit, self.cursor.as_deref())?;
        let Self { status, environment, scope, keyspace, expiring_within_days, unused_for_days, q, .. } = self;
        Ok((
            KeyFilter { status, environment, owner, scope, keyspace, expiring_within_days, unused_for_days, q, sort },
            page,
        ))
    }
}

async fn create(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Json(body): Json<NewKeyBody>,
) -> Result<impl IntoResponse, Problem> {
    let issued: IssuedView = app.keyward.keys.issue(&caller.context, organization, body.read()?).await?.into();
    let location = [(header::LOCATION, format!("/v1/organizations/{organization}/api-keys/{}", issued.view.id))];
    Ok((StatusCode::CREATED, location, Answer(issued)))
}

async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<ListParams>,
) -> Result<Answer<List<KeyView>>, Problem> {
    let (filter, page) = params.filter()?;
    Ok(List::of(app.keyward.keys.list(&caller.context, organization, &filter, &page).await?, KeyView::from))
}

async fn expiring(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<ExpiringParams>,
) -> Result<Answer<List<KeyView>>, Problem> {
    let days = params.days.unwrap_or(7);
    if !(0..=3650).contains(&days) {
        return Err(malformed("days must be between 0 and 3650."));
    }
    let filter = KeyFilter { expiring_within_days: Some(days), ..KeyFilter::default() };
    let page = PageRequest::new(params.limit, params.cursor.as_deref())?;
    Ok(List::of(app.keyward.keys.list(&caller.context, organization, &filter, &page).await?, KeyView::from))
}

async fn health(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(page): Params<PageParams>,
) -> Result<Answer<List<HealthView>>, Problem> {
    Ok(List::of(app.keyward.keys.health(&caller.context, organization, &page.read()?).await?, HealthView::from))
}

async fn stats(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
) -> Result<Answer<StatsView>, Problem> {
    let counts = app.keyward.keys.counts(&caller.context, organization).await?;
    let month = app.keyward.usage.this_month();
    let usage = app.keyward.usage.summary(&caller.context, organization, month).await?;
    Ok(Answer(StatsView::of(counts, usage.into())))
}

async fn key_stats(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(key): Target<id::Key>,
) -> Result<Answer<KeyStatsView>, Problem> {
    let last_use = app.keyward.keys.stats(&caller.context, organization, key).await?;
    let month = app.keyward.usage.this_month();
    let usage = app.keyward.usage.summary_of_key(&caller.context, organization, key, month).await?;
    Ok(Answer(KeyStatsView::of(last_use, usage.into())))
}

async fn cleanup(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    OptionalJson(body): OptionalJson<CleanupBody>,
) -> Result<Answer<Count>, Problem> {
    let count =
        app.keyward.keys.cleanup_expired(&caller.context, organization, body.older_than_days.unwrap_or(0)).await?;
    Ok(Answer(Count { count }))
}

async fn import(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Json(body): Json<ImportBody>,
) -> Result<Answer<ImportView>, Problem> {
    Ok(Answer(app.keyward.keys.import(&caller.context, organization, body.read()).await?.into()))
}

async fn show(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(key): Target<id::Key>,
) -> Result<Answer<KeyView>, Problem> {
    Ok(Answer(app.keyward.keys.get(&caller.context, organization, key).await?.into()))
}

async fn update(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(key): Target<id::Key>,
    Json(patch): Json<KeyPatch>,
) -> Result<Answer<KeyView>, Problem> {
    let expiry = patch.expiry()?;
    let updated = app.keyward.keys.update(&caller.context, organization, key, expiry, |terms| patch.apply(terms));
    Ok(Answer(updated.await?.into()))
}

async fn remove(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(key): Target<id::Key>,
) -> Result<StatusCode, Problem> {
    app.keyward.keys.delete(&caller.context, organization, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(key): Target<id::Key>,
    OptionalJson(body): OptionalJson<RotateBody>,
) -> Result<Answer<IssuedView>, Problem> {
    let overlap = body.overlap_seconds.unwrap_or(0);
    Ok(Answer(app.keyward.keys.rotate(&caller.context, organization, key, overlap).await?.into()))
}

async fn disable(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(key): Target<id::Key>,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Answer<KeyView>, Problem> {
    Ok(Answer(app.keyward.keys.disable(&caller.context, organization, key, body.reason).await?.into()))
}

async fn enable(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(key): Target<id::Key>,
) -> Result<Answer<KeyView>, Problem> {
    Ok(Answer(app.keyward.keys.enable(&caller.context, organization, key).await?.into()))
}

async fn revoke(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(key): Target<id::Key>,
    Params(params): Params<WaitParams>,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Answer<KeyView>, Problem> {
    let (revoked, announced) = app.keyward.keys.revoke(&caller.context, organization, key, body.reason).await?;
    if params.wait {
        app.keyward.keys.wait_everywhere(announced).await?;
    }
    Ok(Answer(revoked.into()))
}

async fn revoke_all(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<WaitParams>,
    Json(body): Json<RevokeAllBody>,
) -> Result<Answer<Count>, Problem> {
    if !body.confirm {
        return Err(keyward::Error::field("/confirm", "must be true: this ends every key").into());
    }
    let owner: Option<Id<id::User>> = match body.owner_id {
        Some(text) => Some(text.parse().map_err(|error| Problem::from(keyward::Error::field("/owner_id", error)))?),
        None => None,
    };
    let wanted = RevokeAll { owner, keyspace: body.keyspace, reason: body.reason, except: caller.key };
    let (count, announced) = app.keyward.keys.revoke_all(&caller.context, organization, wanted).await?;
    if params.wait {
        app.keyward.keys.wait_everywhere(announced).await?;
    }
    Ok(Answer(Count { count }))
}
