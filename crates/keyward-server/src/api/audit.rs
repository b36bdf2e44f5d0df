//! Events over HTTP: sent, found, watched.

mod live;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use keyward::audit::{EventFilter, EventRow, NewEvent, Party, event_id};
use keyward::page::PageRequest;
use keyward_core::access::Permission::{AuditRead, AuditWrite};
use keyward_core::id::{self, Id};
use keyward_core::problem::{Code, FieldFault};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::caller::{Caller, In, Named, Params};
use super::json::{self, JsonText};
use super::page::List;
use super::route::{Access::Needs, Route, get, post};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    vec![
        get("/audit-events", Needs(AuditRead), "List events, newest first", list)
            .query::<EventParams>()
            .answers::<List<EventView>>(200),
        get(
            "/v1/audit-log/instance-events",
            Needs(AuditRead),
            "List events of the whole instance, newest first",
            list_instance,
        )
        .query::<EventParams>()
        .answers::<List<EventView>>(200),
        post("/audit-events", Needs(AuditWrite), "Send one event, or up to 1,000", take)
            .takes::<EventsBody>()
            .answers::<TakenView>(201),
        get("/audit-events/live", Needs(AuditRead), "Watch new events over a WebSocket", live::live)
            .query::<EventParams>(),
        get("/audit-events/{id}", Needs(AuditRead), "Read an event", show).answers::<EventView>(200),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventParams {
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
    ip_address: Option<String>,
    /// Looked for in action, resource, actor and error.
    q: Option<String>,
    /// A JSON object that the details must contain; a list contains another as a set does, in any order.
    details: Option<String>,
}

impl EventParams {
    pub(super) fn filter(self) -> Result<EventFilter, Problem> {
        let instant = |text: Option<String>| -> Result<Option<Timestamp>, Problem> {
            let bad = |error| Problem::new(Code::MalformedRequest, format!("from and to: {error}."));
            text.map(|text| text.parse().map_err(bad)).transpose()
        };
        Ok(EventFilter {
            event_type: self.event_type,
            action: self.action,
            actor: self.actor,
            resource: self.resource,
            success: self.success,
            from: instant(self.from)?,
            to: instant(self.to)?,
            ip_address: self.ip_address,
            text: self.q.filter(|text| !text.is_empty()),
            details: self.details.map(|text| contained(&text)).transpose()?,
        })
    }

    /// Where there are no pages.
    pub(super) fn whole_filter(self) -> Result<EventFilter, Problem> {
        if self.limit.is_some() || self.cursor.is_some() {
            return Err(Problem::new(Code::MalformedRequest, "limit and cursor play no part here."));
        }
        self.filter()
    }
}

/// Something that happened.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventView {
    /// Its place in the book, from 0.
    sequence: i64,
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
            sequence: row.sequence,
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

/// One event, or `events` of up to 1,000. Only for the reference: which of the two it is, is told apart by hand.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum EventsBody {
    Many(ManyBody),
    One(Box<EventBody>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ManyBody {
    events: Vec<EventBody>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PartyBody {
    r#type: String,
    id: String,
    name: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventBody {
    /// `aud_…`, a UUID, or a name of your own, from which the id is made; an event with a known id is kept once.
    id: Option<String>,
    /// E.g. `FILE_ACCESS`, or a word of your own.
    event_type: String,
    action: String,
    actor: PartyBody,
    resource: PartyBody,
    #[serde(default = "yes")]
    success: bool,
    error_message: Option<String>,
    #[serde(default, deserialize_with = "json::object")]
    details: Map<String, Value>,
    ip_address: Option<String>,
    user_agent: Option<String>,
    #[schemars(with = "Option<String>")]
    occurred_at: Option<Timestamp>,
    /// The organization of the path, where it is given at all.
    organization_id: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, JsonSchema)]
struct KeptView {
    #[schemars(with = "String")]
    id: Id<id::Event>,
    sequence: i64,
}

/// Where the events stand in the book.
#[derive(Debug, Serialize, JsonSchema)]
struct TakenView {
    items: Vec<KeptView>,
    /// Events that are numbered in all.
    checkpoint_size: i64,
}

impl EventBody {
    fn read(self, index: usize, organization: Id<id::Organization>) -> Result<NewEvent, keyward::Error> {
        let fault = |field: &str, why: &str| keyward::Error::field(format!("/events/{index}/{field}"), why);
        if self.organization_id.is_some_and(|id| id != organization.to_string()) {
            return Err(fault("organization_id", "is not the organization of the path"));
        }
        let named = |text: String| {
            event_id(organization, &text)
                .ok_or_else(|| fault("id", "is neither aud_…, a UUID nor 1–200 plain characters"))
        };
        let party = |PartyBody { r#type, id, name }: PartyBody| Party { kind: r#type, id, name };
        Ok(NewEvent {
            id: self.id.map(named).transpose()?,
            event_type: self.event_type,
            action: self.action,
            actor: party(self.actor),
            resource: party(self.resource),
            success: self.success,
            error_message: self.error_message,
            details: self.details,
            ip_address: self.ip_address,
            user_agent: self.user_agent,
            occurred_at: self.occurred_at,
        })
    }
}

async fn take(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    JsonText(body): JsonText,
) -> Result<(StatusCode, Answer<TakenView>), Problem> {
    // Where the events are the only list, none stands in an object's place.
    let is_plain = body.iter().filter(|byte| **byte == b'[').count() == 1;
    let (bodies, alone) = match json::at_once::<ManyBody>(&body).filter(|_| is_plain) {
        Some(many) => (many.events, false),
        None => {
            // So a fault points at the field.
            let body = json::strict(&body)?;
            match body.get("events") {
                Some(_) => (json::typed::<ManyBody>(&body)?.events, false),
                None => (vec![json::typed(&body)?], true),
            }
        }
    };
    let events = bodies.into_iter().enumerate().map(|(index, body)| body.read(index, organization));
    let taken = match events.collect::<Result<Vec<_>, _>>() {
        Ok(events) => app.keyward.audit.take(&caller.context, organization, events).await,
        Err(fault) => Err(fault),
    };
    let (kept, size) = taken.map_err(|error| if alone { of_one(error) } else { error })?;
    let items = kept.into_iter().map(|kept| KeptView { id: kept.id, sequence: kept.sequence }).collect();
    Ok((StatusCode::CREATED, Answer(TakenView { items, checkpoint_size: size })))
}

/// Faults of an event that was sent alone stand at the top of the body.
fn of_one(error: keyward::Error) -> keyward::Error {
    if error.faults.is_empty() {
        return error;
    }
    let at_top = |fault: FieldFault| FieldFault {
        pointer: fault.pointer.strip_prefix("/events/0").unwrap_or(&fault.pointer).to_owned(),
        ..fault
    };
    keyward::Error::fields(error.code, error.faults.into_iter().map(at_top).collect())
}

/// A JSON object that details must contain.
fn contained(text: &str) -> Result<Value, Problem> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = json::object(&mut reader).and_then(|details| reader.end().map(|()| details.into()));
    let detail = "details must be a JSON object, each name in it once, without U+0000.";
    read.map_err(|_| Problem::new(Code::MalformedRequest, detail))
}

async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<EventParams>,
) -> Result<Answer<List<EventView>>, Problem> {
    let page = PageRequest::new(params.limit, params.cursor.as_deref())?;
    let filter = params.filter()?;
    Ok(List::of(app.keyward.audit.list(&caller.context, Some(organization), &filter, &page).await?, EventView::from))
}

/// What belongs to no organization is here alone: gaps, and calls of nobody known.
async fn list_instance(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(params): Params<EventParams>,
) -> Result<Answer<List<EventView>>, Problem> {
    let page = PageRequest::new(params.limit, params.cursor.as_deref())?;
    let filter = params.filter()?;
    Ok(List::of(app.keyward.audit.list(&caller.context, None, &filter, &page).await?, EventView::from))
}

async fn show(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Named(name): Named,
) -> Result<Answer<EventView>, Problem> {
    let id = event_id(organization, &name).ok_or_else(keyward::Error::not_found)?;
    Ok(Answer(app.keyward.audit.get(&caller.context, id).await?.into()))
}
