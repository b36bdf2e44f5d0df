//! Reports of leaked keys: our own form behind a permission, and GitHub's partner form behind a signature.

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use keyward::context::{Actor, ActorKind, Context};
use keyward::keys::{LeakOutcome, LeakedKey};
use keyward_core::access::Permission::KeysRevoke;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, In};
use super::json;
use super::route::{Access::NeedsOrSignature, Route, post};
use crate::app::SharedApp;
use crate::gateway::partner::PartnerKeys;
use crate::problem::Problem;
use crate::serve::Peer;

pub fn routes() -> Vec<Route> {
    let summary = "Report a leaked key, or leaked keys in GitHub's signed partner form";
    vec![post("/leaked-keys", NeedsOrSignature(KeysRevoke), summary, take).takes::<Report>().answers::<ReportView>(200)]
}

/// Tells the two forms apart by the signature.
async fn take(State(app): State<SharedApp>, request: Request) -> Result<Response, Problem> {
    if PartnerKeys::is_signed(request.headers()) {
        return partner(&app, request).await;
    }
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &app).await?;
    let In(organization) = In::from_request_parts(&mut parts, &app).await?;
    let json::Json(report) = json::Json::<Report>::from_request(Request::from_parts(parts, body), &app).await?;
    Ok(own(&app, &caller, organization, report).await?.into_response())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Report {
    /// The leaked string.
    key: String,
    /// Who found it; `report` when absent.
    source: Option<String>,
    /// Where it was found.
    url: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ReportView {
    /// Whether it is a key within the caller's reach.
    matched: bool,
    #[schemars(with = "Option<String>")]
    key_id: Option<Id<id::Key>>,
    /// `disabled`, `secret_revoked` or `none`.
    action: &'static str,
}

async fn own(
    app: &SharedApp,
    caller: &Caller,
    organization: Id<id::Organization>,
    report: Report,
) -> Result<axum::Json<ReportView>, Problem> {
    let leaked = LeakedKey {
        text: Secret::new(report.key),
        source: report.source.unwrap_or_else(|| "report".to_owned()),
        url: report.url,
    };
    let at_instance = caller.context.require_at_instance(KeysRevoke).is_ok();
    let outcome =
        app.keyward.keys.report_leak(&caller.context, (!at_instance).then_some(organization), &leaked).await?;
    Ok(axum::Json(match outcome {
        LeakOutcome::Unknown => ReportView { matched: false, key_id: None, action: "none" },
        LeakOutcome::Known { key, action } => ReportView { matched: true, key_id: Some(key), action },
    }))
}

/// GitHub's form; fields that it may add are passed over.
#[derive(Debug, Deserialize, JsonSchema)]
struct PartnerToken {
    token: String,
    r#type: String,
    url: Option<String>,
    #[serde(default)]
    source: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct PartnerAnswer {
    token_raw: String,
    token_type: String,
    /// `true_positive` or `false_positive`.
    label: &'static str,
}

async fn partner(app: &SharedApp, request: Request) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let peer = request.extensions().get::<Peer>().copied();
    let request_id = request.extensions().get::<Id<id::Request>>().copied();
    let body = json::read_body(request, app).await?;
    if !app.partner_keys.accept(&headers, &body) {
        return Err(Problem::new(Code::Unauthenticated, "The body is not signed by a known partner key."));
    }
    let value = json::strict(&body)?;
    let tokens: Vec<PartnerToken> = json::typed(&value)?;
    let identifier =
        headers.get("github-public-key-identifier").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let context = Context {
        actor: Actor { kind: ActorKind::External, id: identifier.to_owned(), name: Some("github".to_owned()) },
        ip: peer.map(|peer| app.client_address(peer.address.ip(), &headers)),
        request_id,
        ..Context::system("partner")
    };
    let mut answers = Vec::with_capacity(tokens.len());
    for token in tokens {
        let source = token
            .source
            .filter(|place| !place.is_empty())
            .map_or_else(|| "github".to_owned(), |place| format!("github {place}"));
        let url = token.url.filter(|url| !url.is_empty());
        let leaked = LeakedKey { text: Secret::new(token.token.clone()), source, url };
        let outcome = app.keyward.keys.report_leak_by_partner(&context, &leaked).await?;
        let label = if outcome == LeakOutcome::Unknown { "false_positive" } else { "true_positive" };
        answers.push(PartnerAnswer { token_raw: token.token, token_type: token.r#type, label });
    }
    Ok(axum::Json(answers).into_response())
}
