//! Pages for people who read: the reference of the API at `/docs`, a page for each error code, and the document that
//! machines read. All of it comes from the binary; nothing is fetched from elsewhere.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{Html, IntoResponse, Response};
use http::header;
use keyward_core::problem::Code;
use keyward_core::verdict::Outcome;
use serde_json::Value;

use super::openapi;
use super::route::{Access::Open, Route, get};
use crate::console::page::{escape, page};
use crate::problem::Problem;

static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);
static REFERENCE: LazyLock<String> = LazyLock::new(|| reference(&DOCUMENT));

pub fn routes() -> Vec<Route> {
    let public = Open("Documentation");
    vec![
        get("/openapi.json", public, "This document", async || axum::Json(&*DOCUMENT)),
        get("/docs", public, "The reference for people", async || Html(&**REFERENCE)),
        get("/errors", public, "Every error code", async || Html(codes())),
        get("/errors/{id}", public, "What an error code means", error),
    ]
}

async fn error(Path(code): Path<String>) -> Response {
    let refusal = Outcome::from_code(&code).filter(|outcome| !outcome.is_valid());
    let (code, title, meaning, status) = match (Code::from_code(&code), refusal) {
        (Some(code), _) => (code.as_str(), code.title(), code.meaning(), code.status()),
        (None, Some(refusal)) => {
            (refusal.as_str(), refusal.problem().title(), refusal.meaning(), refusal.gateway_status())
        }
        (None, None) => return Problem::plain(Code::NotFound).into_response(),
    };
    let body = format!(
        "<p class=\"crumb\"><a href=\"/errors\">Errors</a></p><h1><code>{code}</code></h1><p class=\"lead\">{}</p><p>{}</p><p>HTTP status {status}.</p>",
        escape(title),
        escape(meaning),
    );
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page(title, &body)).into_response()
}

fn codes() -> String {
    let refusals =
        Outcome::ALL.iter().filter(|outcome| !outcome.is_valid() && Code::from_code(outcome.as_str()).is_none());
    let refusals = refusals.map(|refusal| (refusal.gateway_status(), refusal.as_str(), refusal.meaning()));
    let rows: String = Code::ALL
        .iter()
        .map(|code| (code.status(), code.as_str(), code.title()))
        .chain(refusals)
        .map(|(status, code, about)| {
            let about = escape(about);
            format!(
                "<tr><td>{status}</td><td><a href=\"/errors/{code}\"><code>{code}</code></a></td><td>{about}</td></tr>"
            )
        })
        .collect();
    page(
        "Errors",
        &format!(
            "<h1>Errors</h1><p>Every error is <code>application/problem+json</code> (RFC 9457) with one of these codes.</p><table><tr><th>Status</th><th>Code</th><th>Title</th></tr>{rows}</table>"
        ),
    )
}

/// The reference, rendered from the document. Scoped calls are shown once, in their short form.
fn reference(document: &Value) -> String {
    let mut body = String::from(
        "<h1>Keyward API</h1><p class=\"lead\">Send a service key as <code>Authorization: Bearer …</code>. \
         Key calls also stand under <code>/v1/organizations/{org}</code>. The machine-readable form is <a href=\"/openapi.json\">openapi.json</a>; \
         every <a href=\"/errors\">error code</a> has a page.</p>",
    );
    let mut tag = "";
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        if path.starts_with("/v1/organizations/{org}") {
            continue;
        }
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let this = operation["tags"][0].as_str().unwrap_or_default();
            if this != tag {
                tag = this;
                let _ = write!(body, "<h2 id=\"{0}\">{0}</h2>", escape(tag));
            }
            write_operation(&mut body, path, method, operation, document);
        }
    }
    page("API reference", &body)
}

fn write_operation(body: &mut String, path: &str, method: &str, operation: &Value, document: &Value) {
    let access = match operation["x-permission"].as_str() {
        Some(permission) => format!("<span class=\"tag\">{}</span>", escape(permission)),
        None => "<span class=\"tag open\">open</span>".to_owned(),
    };
    let _ = write!(
        body,
        "<details><summary><b class=\"method\">{}</b> <code>{}</code> {access}<span class=\"about\">{}</span></summary>",
        method.to_uppercase(),
        escape(path),
        escape(operation["summary"].as_str().unwrap_or_default())
    );
    let query = operation["parameters"].as_array().into_iter().flatten().filter(|parameter| parameter["in"] == "query");
    let rows: String =
        query.map(|parameter| row(parameter["name"].as_str().unwrap_or_default(), &parameter["schema"])).collect();
    table(body, "Query", &rows);
    for (title, content) in [("Body", &operation["requestBody"]["content"]), ("Answer", success(operation))] {
        let schema = content
            .as_object()
            .and_then(|types| types.values().next())
            .map(|media| resolve(&media["schema"], document));
        let rows: String = schema
            .and_then(|schema| schema["properties"].as_object())
            .into_iter()
            .flatten()
            .map(|(name, schema)| row(name, schema))
            .collect();
        table(body, title, &rows);
    }
    body.push_str("</details>");
}

fn success(operation: &Value) -> &Value {
    let responses = operation["responses"].as_object();
    responses
        .and_then(|all| all.iter().find(|(status, _)| status.starts_with('2')))
        .map_or(&Value::Null, |(_, found)| &found["content"])
}

fn resolve<'a>(schema: &'a Value, document: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).unwrap_or(schema),
        None => schema,
    }
}

fn row(name: &str, schema: &Value) -> String {
    let kind = match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "),
        _ => schema["$ref"].as_str().and_then(|text| text.rsplit('/').next()).unwrap_or("any").to_owned(),
    };
    let about = schema["description"].as_str().unwrap_or_default();
    format!("<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>", escape(name), escape(&kind), escape(about))
}

fn table(body: &mut String, title: &str, rows: &str) {
    if !rows.is_empty() {
        let _ = write!(body, "<h3>{title}</h3><table>{rows}</table>");
    }
}
