//! What browsers report about our pages: something that their policy has stopped (statement W-07). A report is written to the log
//! and counted, and nothing more: anybody can send one, so nothing in it is believed.

use axum::extract::{Request, State};
use http::{StatusCode, header};
use keyward_core::problem::Code;
use serde_json::Value;

use super::json::{read_body, strict};
use super::route::{Access::Open, Route, post};
use crate::app::SharedApp;
use crate::fixed_headers::CSP_REPORT;
use crate::problem::Problem;

/// Longest body, in bytes, and most reports of one that are told.
const MAX_BYTES: usize = 64 * 1024;
const MAX_REPORTS: usize = 10;
/// What a report is told by, in the words of the Reporting API and of CSP 2.
const DOCUMENT: [&str; 2] = ["documentURL", "document-uri"];
const DIRECTIVE: [&str; 2] = ["effectiveDirective", "violated-directive"];
const BLOCKED: [&str; 2] = ["blockedURL", "blocked-uri"];

pub fn routes() -> Vec<Route> {
    let open = "Browsers report without a credential";
    vec![
        post(CSP_REPORT, Open(open), "What a page's policy has stopped, as browsers report it", take)
            .takes_raw()
            .answers_nothing(),
    ]
}

async fn take(State(app): State<SharedApp>, request: Request) -> Result<StatusCode, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if ![&b"application/reports+json"[..], b"application/csp-report"].contains(&kind) {
        return Err(Problem::plain(Code::UnsupportedMediaType));
    }
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let too_large = || Problem::new(Code::TooLarge, format!("A report may have at most {MAX_BYTES} bytes."));
    if length.is_some_and(|length: usize| length > MAX_BYTES) {
        return Err(too_large());
    }
    let body = read_body(request, &app).await?;
    if body.len() > MAX_BYTES {
        return Err(too_large());
    }
    let reports = match strict(&body)? {
        Value::Array(reports) => reports,
        one => vec![one],
    };
    // A report of CSP 2 is an object in `csp-report`, one of the Reporting API in `body`.
    let told = reports.iter().filter_map(|report| report.get("csp-report").or_else(|| report.get("body")));
    for report in told.filter(|report| report.is_object()).take(MAX_REPORTS) {
        app.keyward.metrics.csp_reports.inc();
        let (document, directive, blocked) = (part(report, DOCUMENT), part(report, DIRECTIVE), part(report, BLOCKED));
        tracing::warn!(document, directive, blocked, "a browser reports that a page's policy has stopped something");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// A part of a report as it may stand in a log: short, without control characters, and without what may be a secret behind
/// the path of an address.
fn part(report: &Value, names: [&str; 2]) -> String {
    let text = names.iter().find_map(|name| report.get(name)?.as_str()).unwrap_or_default();
    let text = text.split(['?', '#']).next().unwrap_or_default();
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}
