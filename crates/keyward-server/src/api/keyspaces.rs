//! Keyspaces over HTTP.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use keyward::keys::keyspaces::{Keyspace, KeyspaceTerms};
use keyward_core::access::Permission::{KeysRead, OrganizationsManage};
use keyward_core::id::{self, Id};
use keyward_core::key::Style;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Named, Params};
use super::json::{Json, given, present};
use super::page::{List, PageParams};
use super::route::{Access::Needs, Route, delete, get, patch, post};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let (read, manage) = (Needs(KeysRead), Needs(OrganizationsManage));
    vec![
        get("/v1/keyspaces", read, "List keyspaces", list).query::<PageParams>().answers::<List<KeyspaceView>>(200),
        post("/v1/keyspaces", manage, "Create a keyspace", create).takes::<NewKeyspace>().answers::<KeyspaceView>(201),
        get("/v1/keyspaces/{id}", read, "Read a keyspace, by id or name", show).answers::<KeyspaceView>(200),
        patch("/v1/keyspaces/{id}", manage, "Change what new keys look like", update)
            .takes::<KeyspacePatch>()
            .answers::<KeyspaceView>(200),
        delete("/v1/keyspaces/{id}", manage, "Delete a keyspace without keys", remove).answers_nothing(),
    ]
}

/// How the keys of one API look and how long they live.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyspaceView {
    #[schemars(with = "String")]
    id: Id<id::Keyspace>,
    name: String,
    prefix: String,
    style: String,
    environments: Vec<String>,
    default_expiry_days: Option<i64>,
    max_expiry_days: Option<i64>,
}

impl From<Keyspace> for KeyspaceView {
    fn from(one: Keyspace) -> Self {
        let Keyspace { id, name, prefix, style, environments, default_expiry_days, max_expiry_days, .. } = one;
        Self { id, name, prefix, style, environments: environments.0, default_expiry_days, max_expiry_days }
    }
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StyleName {
    Checksummed,
    Plain,
}

impl From<StyleName> for Style {
    fn from(name: StyleName) -> Self {
        match name {
            StyleName::Checksummed => Self::Checksummed,
            StyleName::Plain => Self::Plain,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewKeyspace {
    name: String,
    /// 1–16 of a–z and 0–9.
    prefix: String,
    /// `checksummed` when absent.
    style: Option<StyleName>,
    /// `live` and `test` when absent; the first is the default.
    environments: Option<Vec<String>>,
    default_expiry_days: Option<i64>,
    max_expiry_days: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyspacePatch {
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    prefix: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "StyleName")]
    style: Option<StyleName>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Vec<String>")]
    environments: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<i64>")]
    default_expiry_days: Option<Option<i64>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<i64>")]
    max_expiry_days: Option<Option<i64>>,
}

async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(page): Params<PageParams>,
) -> Result<Answer<List<KeyspaceView>>, Problem> {
    Ok(List::of(app.keyward.keyspaces.list(&caller.context, &page.read()?).await?, KeyspaceView::from))
}

async fn create(
    State(app): State<SharedApp>,
    caller: Caller,
    Json(new): Json<NewKeyspace>,
) -> Result<impl IntoResponse, Problem> {
    let terms = KeyspaceTerms {
        name: new.name,
        prefix: new.prefix,
        style: new.style.unwrap_or(StyleName::Checksummed).into(),
        environments: new.environments.unwrap_or_else(|| vec!["live".to_owned(), "test".to_owned()]),
        default_expiry_days: new.default_expiry_days,
        max_expiry_days: new.max_expiry_days,
    };
    let made: KeyspaceView = app.keyward.keyspaces.create(&caller.context, terms).await?.into();
    let location = [(header::LOCATION, format!("/v1/keyspaces/{}", made.id))];
    Ok((StatusCode::CREATED, location, Answer(made)))
}

async fn show(State(app): State<SharedApp>, caller: Caller, Named(id): Named) -> Result<Answer<KeyspaceView>, Problem> {
    Ok(Answer(app.keyward.keyspaces.get(&caller.context, &id).await?.into()))
}

async fn update(
    State(app): State<SharedApp>,
    caller: Caller,
    Named(id): Named,
    Json(patch): Json<KeyspacePatch>,
) -> Result<Answer<KeyspaceView>, Problem> {
    let edit = |terms: &mut KeyspaceTerms| {
        terms.name = patch.name.unwrap_or_else(|| std::mem::take(&mut terms.name));
        terms.prefix = patch.prefix.unwrap_or_else(|| std::mem::take(&mut terms.prefix));
        terms.style = patch.style.map_or(terms.style, Style::from);
        terms.environments = patch.environments.unwrap_or_else(|| std::mem::take(&mut terms.environments));
        terms.default_expiry_days = patch.default_expiry_days.unwrap_or(terms.default_expiry_days);
        terms.max_expiry_days = patch.max_expiry_days.unwrap_or(terms.max_expiry_days);
    };
    Ok(Answer(app.keyward.keyspaces.update(&caller.context, &id, edit).await?.into()))
}

async fn remove(State(app): State<SharedApp>, caller: Caller, Named(id): Named) -> Result<StatusCode, Problem> {
    app.keyward.keyspaces.delete(&caller.context, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
