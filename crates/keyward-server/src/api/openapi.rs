//! The OpenAPI 3.1 document, made from the table of routes and the types of the bodies.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::route::{Access, Body, Route};
use super::routes;

/// The whole document.
pub fn document() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        for path in route.paths() {
            // A parameter that takes the rest of the path is a parameter all the same.
            let path = path.replace("{*", "{");
            let operation = operation(&route, &path, &mut generator);
            let methods = paths.entry(path).or_insert_with(|| json!({}));
            methods[route.method.as_str().to_lowercase()] = operation;
        }
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Keyward",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Issues, verifies, rotates and revokes API keys.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "A service key or an access token." },
                "api_key": { "type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "A service key." },
            },
        },
    })
}

fn operation(route: &Route, path: &str, generator: &mut schemars::SchemaGenerator) -> Value {
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route, path),
        "tags": [tag(path)],
        "parameters": parameters(route, path, generator),
        "responses": responses(route, generator),
    });
    match route.access {
        Access::Needs(permission) | Access::NeedsOrSignature(permission) => {
            operation["security"] = json!([{ "bearer": [] }, { "api_key": [] }]);
            operation["x-permission"] = json!(permission.as_str());
        }
        Access::Known(why) => {
            operation["security"] = json!([{ "bearer": [] }, { "api_key": [] }]);
            operation["x-permission-because"] = json!(why);
        }
        Access::Person => {
            operation["security"] = json!([{ "bearer": [] }]);
        }
        Access::Open(why) | Access::Probe(why) => {
            operation["security"] = json!([]);
            operation["x-open-because"] = json!(why);
        }
    }
    if let Body::Of(takes) | Body::Perhaps(takes) = route.takes {
        let required = matches!(route.takes, Body::Of(_));
        let media_type =
            if path.ends_with("/introspect") { "application/x-www-form-urlencoded" } else { "application/json" };
        operation["requestBody"] =
            json!({ "required": required, "content": { media_type: { "schema": takes(generator) } } });
    }
    operation
}

fn operation_id(route: &Route, path: &str) -> String {
    let words = path.split(['/', '{', '}', '-', '.']).filter(|word| !word.is_empty() && *word != "v1");
    format!("{}_{}", route.method.as_str().to_lowercase(), words.collect::<Vec<_>>().join("_"))
}

/// The first word of the path that names a thing.
fn tag(path: &str) -> String {
    let path = path.strip_prefix("/v1/organizations/{org}").or_else(|| path.strip_prefix("/v1")).unwrap_or(path);
    path.split('/').nth(1).unwrap_or("service").to_owned()
}

fn parameters(route: &Route, path: &str, generator: &mut schemars::SchemaGenerator) -> Vec<Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if let Some(query) = route.query {
        let schema = query(generator);
        for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
        }
    }
    if route.is_idempotent_by_key() {
        let about = "A repeated call with the same key gets the first one's answer, for a day.";
        parameters.push(
            json!({ "name": "Idempotency-Key", "in": "header", "description": about, "schema": { "type": "string" } }),
        );
    }
    parameters
}

fn responses(route: &Route, generator: &mut schemars::SchemaGenerator) -> Value {
    let mut responses = json!({
        "default": {
            "description": "What went wrong",
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        },
    });
    let mut success = json!({ "description": route.summary });
    if let Some(answers) = route.answers {
        success["content"] = json!({ "application/json": { "schema": answers(generator) } });
    }
    for status in [Some(route.status), route.or_status].into_iter().flatten() {
        responses[status.to_string()] = success.clone();
    }
    responses
}

fn problem() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "description": "RFC 9457. Every code has a page under /errors/.",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            "type": text, "title": text, "status": { "type": "integer" }, "detail": text, "code": text, "request_id": text,
            "errors": {
                "type": "array",
                "items": { "type": "object", "properties": { "pointer": text, "detail": text }, "required": ["pointer", "detail"] },
            },
        },
    })
}
