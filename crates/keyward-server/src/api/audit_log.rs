//! The book as a whole: its signed checkpoint, proofs, tiles, reports and exports.

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, header};
use keyward::audit::{DayReport, MonthReport, TopActor, TypeCount, event_id};
use keyward_core::access::Permission::{AuditExport, AuditRead, SettingsManage};
use keyward_core::distinct;
use keyward_core::id;
use keyward_core::note::SignedCheckpoint;
use keyward_core::tree::{Hash, TILE_WIDTH, Tile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::EventParams;
use super::caller::{Caller, In, Named, Params};
use super::json::Json;
use super::page::List;
use super::route::{Access::Needs, Route, get, post};
use super::usage::{MonthParams, read_month};
use crate::app::SharedApp;
use crate::problem::Problem;

const TEXT: (header::HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
const BYTES: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/octet-stream");
const LINES: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/jsonl");

pub fn routes() -> Vec<Route> {
    let read = Needs(AuditRead);
    vec![
        get("/audit-events/{id}/proof", read, "Prove that an event is in the book", proof)
            .answers::<InclusionView>(200),
        get(
            "/v1/audit-log/checkpoint",
            read,
            "The signed size and root of the book; the note alone as text/plain",
            checkpoint,
        )
        .answers::<CheckpointView>(200),
        get("/v1/audit-log/consistency", read, "Prove that the book has only grown", consistency)
            .query::<ConsistencyParams>()
            .answers::<ConsistencyView>(200),
        get(
            "/v1/audit-log/tile/{*path}",
            read,
            "A tile of the tree, or its entries, as C2SP tlog-tiles names them",
            tile,
        ),
        get("/audit-log/reports/daily", read, "The month day by day", daily)
            .query::<MonthParams>()
            .answers::<List<DayView>>(200),
        get("/audit-log/reports/monthly", read, "The month in one picture", monthly)
            .query::<MonthParams>()
            .answers::<MonthView>(200),
        post(
            "/audit-log/erasures",
            Needs(SettingsManage),
            "Erase a person from the events; every proof still holds",
            erase,
        )
        .takes::<ErasureBody>()
        .answers::<ErasedView>(200),
        get(
            "/audit-log/export",
            Needs(AuditExport),
            "Events as lines that `keyward audit verify --file` can check",
            export,
        )
        .query::<EventParams>(),
        get("/v1/audit-log/instance-export", Needs(AuditExport), "The same, of the whole instance", export_instance)
            .query::<EventParams>(),
    ]
}

/// Hashes are base64, as in the note.
#[derive(Debug, Serialize, JsonSchema)]
struct CheckpointView {
    /// The name of the log.
    origin: String,
    size: u64,
    root_hash: String,
    /// C2SP tlog-checkpoint, signatures of witnesses included.
    note: String,
    /// `name+id+key` (C2SP signed-note).
    public_key: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct InclusionView {
    #[schemars(with = "String")]
    event_id: id::Id<id::Event>,
    /// The event's sequence.
    leaf_index: u64,
    tree_size: u64,
    /// Base64 of SHA-256 over a zero byte and the entry (RFC 6962, 2.1).
    leaf_hash: String,
    /// What the leaf says, in bytes, base64.
    entry: String,
    root_hash: String,
    /// From the leaf upwards (RFC 9162, 2.1.3).
    hashes: Vec<String>,
    /// The checkpoint of that size.
    checkpoint: CheckpointView,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConsistencyParams {
    /// The smaller size.
    from: u64,
    /// The larger size; the present one when absent.
    to: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ConsistencyView {
    from: u64,
    to: u64,
    from_root_hash: String,
    to_root_hash: String,
    /// RFC 9162, 2.1.4.
    hashes: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CountView {
    event_type: String,
    action: String,
    events: i64,
    failures: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DayView {
    /// In UTC, by when the event was logged.
    date: String,
    events: i64,
    failures: i64,
    /// Estimated; see `distinct_actors_error` of the monthly report.
    distinct_actors: u64,
    by_type: Vec<CountView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ActorView {
    r#type: String,
    id: String,
    events: i64,
    failures: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct MonthView {
    month: String,
    events: i64,
    failures: i64,
    distinct_actors: u64,
    /// The standard error of `distinct_actors`, as a share.
    distinct_actors_error: f64,
    by_type: Vec<CountView>,
    top_actors: Vec<ActorView>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ErasureBody {
    /// The id under which events know the person, as actor or as resource.
    subject: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ErasedView {
    /// Events that lost who did them, and from where.
    events_as_actor: u64,
    /// Events that lost whom they were about, the error and the details.
    events_as_resource: u64,
}

fn encode(hash: &Hash) -> String {
    STANDARD.encode(hash)
}

fn show_checkpoint(app: &SharedApp, signed: &SignedCheckpoint) -> CheckpointView {
    CheckpointView {
        origin: signed.checkpoint.origin.clone(),
        size: signed.checkpoint.size,
        root_hash: encode(&signed.checkpoint.root),
        note: signed.note(),
        public_key: app.keyward.proofs.public_key().text(),
    }
}

async fn checkpoint(State(app): State<SharedApp>, headers: HeaderMap) -> Result<Response, Problem> {
    let signed = app.keyward.proofs.checkpoint().await?;
    let wants_text = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.starts_with("text/plain"));
    Ok(match wants_text {
        true => ([TEXT], signed.note()).into_response(),
        false => Answer(show_checkpoint(&app, &signed)).into_response(),
    })
}

async fn proof(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Named(name): Named,
) -> Result<Answer<InclusionView>, Problem> {
    let id = event_id(organization, &name).ok_or_else(keyward::Error::not_found)?;
    let proof = app.keyward.proofs.inclusion(&caller.context, id).await?;
    Ok(Answer(InclusionView {
        event_id: proof.event,
        leaf_index: proof.leaf_index,
        tree_size: proof.checkpoint.checkpoint.size,
        leaf_hash: encode(&proof.leaf_hash),
        entry: STANDARD.encode(&proof.entry),
        root_hash: encode(&proof.checkpoint.checkpoint.root),
        hashes: proof.hashes.iter().map(encode).collect(),
        checkpoint: show_checkpoint(&app, &proof.checkpoint),
    }))
}

async fn consistency(
    State(app): State<SharedApp>,
    Params(params): Params<ConsistencyParams>,
) -> Result<Answer<ConsistencyView>, Problem> {
    let proof = app.keyward.proofs.consistency(params.from, params.to).await?;
    Ok(Answer(ConsistencyView {
        from: proof.from,
        to: proof.to,
        from_root_hash: encode(&proof.from_root),
        to_root_hash: encode(&proof.to_root),
        hashes: proof.hashes.iter().map(encode).collect(),
    }))
}

/// What a tile's path asks for (C2SP tlog-tiles): `<level>/<index>` or `entries/<index>`, the index in groups of three digits, all
/// but the last behind an `x`; of a tile that still grows, `.p/<width>` behind it.
fn read_tile(path: &str) -> Option<(Option<u8>, u64, usize)> {
    let (level, rest) = path.split_once('/')?;
    let (index, width) = match rest.split_once(".p/") {
        Some((index, width)) => (index, width.parse().ok().filter(|width| (1..TILE_WIDTH as usize).contains(width))?),
        None => (rest, TILE_WIDTH as usize),
    };
    let mut number: u64 = 0;
    let mut groups = index.split('/').peekable();
    while let Some(group) = groups.next() {
        let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        number = number.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
    }
    let level = match level {
        "entries" => None,
        level => Some(level.parse().ok().filter(|level| *level < 8)?),
    };
    Some((level, number, width))
}

async fn tile(State(app): State<SharedApp>, caller: Caller, Path(path): Path<String>) -> Result<Response, Problem> {
    let (level, index, width) = read_tile(&path).ok_or_else(keyward::Error::not_found)?;
    let bytes = match level {
        Some(level) => app.keyward.proofs.tile(Tile { level, index }, width).await?,
        None => app.keyward.proofs.entries(&caller.context, index, width).await?,
    };
    Ok(([BYTES], bytes).into_response())
}

fn show_counts(counts: Vec<TypeCount>) -> Vec<CountView> {
    let show = |TypeCount { event_type, action, events, failures }| CountView { event_type, action, events, failures };
    counts.into_iter().map(show).collect()
}

async fn daily(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<MonthParams>,
) -> Result<Answer<List<DayView>>, Problem> {
    let month = read_month(&app, params.month.as_deref())?;
    let days = app.keyward.audit.daily_report(&caller.context, organization, month).await?;
    let show = |DayReport { date, events, failures, distinct_actors, counts }| DayView {
        date,
        events,
        failures,
        distinct_actors,
        by_type: show_counts(counts),
    };
    Ok(Answer(List { items: days.into_iter().map(show).collect(), next_cursor: None }))
}

async fn monthly(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<MonthParams>,
) -> Result<Answer<MonthView>, Problem> {
    let month = read_month(&app, params.month.as_deref())?;
    let report = app.keyward.audit.monthly_report(&caller.context, organization, month).await?;
    let MonthReport { month, events, failures, distinct_actors, counts, top_actors } = report;
    let show = |TopActor { actor_type, actor_id, events, failures }| ActorView {
        r#type: actor_type,
        id: actor_id,
        events,
        failures,
    };
    Ok(Answer(MonthView {
        month: month.to_string(),
        events,
        failures,
        distinct_actors,
        distinct_actors_error: distinct::RELATIVE_ERROR,
        by_type: show_counts(counts),
        top_actors: top_actors.into_iter().map(show).collect(),
    }))
}

async fn erase(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Json(body): Json<ErasureBody>,
) -> Result<Answer<ErasedView>, Problem> {
    let erased = app.keyward.audit.erase(&caller.context, organization, &body.subject).await?;
    Ok(Answer(ErasedView { events_as_actor: erased.as_actor, events_as_resource: erased.as_resource }))
}

async fn export(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<EventParams>,
) -> Result<Response, Problem> {
    send_export(app, caller, Some(organization), params).await
}

async fn export_instance(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(params): Params<EventParams>,
) -> Result<Response, Problem> {
    send_export(app, caller, None, params).await
}

/// Lines as they are read: nothing large is held. An export that breaks off has no last line, and is told as truncated.
async fn send_export(
    app: SharedApp,
    caller: Caller,
    organization: Option<id::Id<id::Organization>>,
    params: EventParams,
) -> Result<Response, Problem> {
    let filter = params.whole_filter()?;
    let exporting = app.keyward.proofs.export(&caller.context, organization, filter).await?;
    let lines = futures_util::stream::try_unfold(exporting, async |mut exporting| {
        let Some(lines) = exporting.next().await.map_err(std::io::Error::other)? else { return Ok(None) };
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        Ok::<_, std::io::Error>(Some((Bytes::from(text), exporting)))
    });
    Ok(([LINES], Body::from_stream(lines)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_tiles() {
        assert_eq!(read_tile("0/000"), Some((Some(0), 0, 256)));
        assert_eq!(read_tile("1/x001/x234/067.p/5"), Some((Some(1), 1_234_067, 5)));
        assert_eq!(read_tile("entries/x001/000"), Some((None, 1_000, 256)));
        for bad in
            ["", "0", "0/1", "0/x001", "0/001/002", "8/000", "0/000.p/0", "0/000.p/256", "0/-01", "x/000", "0/000.p/"]
        {
            assert_eq!(read_tile(bad), None, "{bad}");
        }
    }
}
