//! The book over HTTP.

use axum::Json as Answer;
use axum::extract::State;
use keyward::audit::{EventFilter, EventRow};
use keyward::page::PageRequest;
use keyward_core::access::Permission::AuditRead;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::caller::{Caller, In, Params, Target};
use super::page::List;
use super::route::{Access::Needs, Route, get};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    vec![
        get("/audit-events", Needs(AuditRead), "List events, newest first", list)
            .query::<EventParams>()
            .answers::<List<EventView>>(200),
        get("/audit-events/{id}", Needs(AuditRead), "Read an event", show).answers::<EventView>(200),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventParams {
    limit: Option<u32>,
    cursor: Option<String>,
    event_type: Option<String>,
    action: Option<String>,
    /// The actor's id.
    actor: Option<String>,
    /// The resource's id.
    resource: Option<String>,
    success: Option<bool>,
    from: Option<String>,
    to: Option<String>,
}

/// Something that happened.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventView {
    #[schemars(with = "String")]
    id: Id<id::Event>,
    event_type: String,
    action: String,
    actor: PartyView,
    resource: PartyView,
    success: bool,
    error_message: Option<String>,
    details: Value,
    ip_address: Option<String>,
    user_agent: Option<String>,
    #[schemars(with = "String")]
    occurred_at: Timestamp,
    #[schemars(with = "String")]
    logged_at: Timestamp,
    #[schemars(with = "Option<String>")]
    organization_id: Option<Id<id::Organization>>,
    request_id: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct PartyView {
    r#type: String,
    id: String,
    name: Option<String>,
}

impl From<EventRow> for EventView {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id,
            event_type: row.event_type,
            action: row.action,
            actor: PartyView { r#type: row.actor_type, id: row.actor_id, name: row.actor_name },
            resource: PartyView { r#type: row.resource_type, id: row.resource_id, name: row.resource_name },
            success: row.success,
            error_message: row.error_message,
            details: row.details.0,
            ip_address: row.ip_address,
            user_agent: row.user_agent,
            occurred_at: row.occurred_at,
            logged_at: row.logged_at,
            organization_id: row.organization_id,
            request_id: row.request_id,
        }
    }
}

async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<EventParams>,
) -> Result<Answer<List<EventView>>, Problem> {
    let page = PageRequest::new(params.limit, params.cursor.as_deref())?;
    let instant = |text: Option<String>| -> Result<Option<Timestamp>, Problem> {
        let bad = |error| Problem::new(Code::MalformedRequest, format!("from and to: {error}."));
        text.map(|text| text.parse().map_err(bad)).transpose()
    };
    let filter = EventFilter {
        event_type: params.event_type,
        action: params.action,
        actor: params.actor,
        resource: params.resource,
        success: params.success,
        from: instant(params.from)?,
        to: instant(params.to)?,
    };
    Ok(List::of(app.keyward.audit.list(&caller.context, Some(organization), &filter, &page).await?, EventView::from))
}

async fn show(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Event>,
) -> Result<Answer<EventView>, Problem> {
    Ok(Answer(app.keyward.audit.get(&caller.context, id).await?.into()))
}
