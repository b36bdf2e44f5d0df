//! Reports of leaked keys: our own form behind a permission, and GitHub's partner form behind a signature.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
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
use super::route::{Access::Needs, Access::Open, Route, post};
use crate::app::SharedApp;
use crate::gateway::partner::PartnerKeys;
use crate::problem::Problem;
use crate::serve::Peer;

pub fn routes() -> Vec<Route> {
    vec![
        post("/leaked-keys", Needs(KeysRevoke), "Report a leaked key", report)
            .takes::<Report>()
            .answers::<ReportView>(200),
        post(
            "/v1/leaked-keys/github",
            Open("The body is signed by a configured partner key"),
            "Report leaked keys in GitHub's partner form",
            partner,
        )
        .takes::<Vec<PartnerToken>>()
        .answers::<Vec<PartnerAnswer>>(200),
    ]
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

async fn report(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    json::Json(report): json::Json<Report>,
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

async fn partner(State(app): State<SharedApp>, headers: HeaderMap, request: Request) -> Result<Response, Problem> {
    let peer = request.extensions().get::<Peer>().copied();
    let request_id = request.extensions().get::<Id<id::Request>>().copied();
    let body = json::read_body(request, &app).await?;
    if !PartnerKeys::is_signed(&headers) || !app.partner_keys.accept(&headers, &body) {
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
        let source = token.source.map_or_else(|| "github".to_owned(), |place| format!("github {place}"));
        let leaked = LeakedKey { text: Secret::new(token.token.clone()), source, url: token.url };
        let outcome = app.keyward.keys.report_leak_by_partner(&context, &leaked).await?;
        let label = if outcome == LeakOutcome::Unknown { "false_positive" } else { "true_positive" };
        answers.push(PartnerAnswer { token_raw: token.token, token_type: token.r#type, label });
    }
    Ok(axum::Json(answers).into_response())
}
