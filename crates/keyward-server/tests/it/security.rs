//! The statements about who may do what (Z) and about keys in clear (K), each test named after its number.

use http::Method;
use keyward::context::{Actor, ActorKind, Context};
use keyward::keys::{Expiry, KeyTerms, NewKey, RulesText};
use keyward_core::access::{Grant, Permission, Role};
use keyward_core::id::{self, Id};
use keyward_server::api::route::Access;
use keyward_server::api::routes;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Answer, Node, on_both, sha256_hex};

/// Routes that anybody may call.
const OPEN: &[&str] = &[
    "/v1/forward-auth",
    "/v1/auth/login",
    "/v1/auth/login/second-factor",
    "/v1/auth/oidc",
    "/v1/auth/oidc/start",
    "/v1/auth/oidc/callback",
    "/v1/auth/refresh",
    "/v1/auth/revoke",
    "/.well-known/jwks.json",
    "/v1/auth/passkeys/login/begin",
    "/v1/auth/passkeys/login/finish",
    "/v1/auth/passkeys/second-factor/begin",
    "/v1/auth/password/forgot",
    "/v1/auth/password/reset",
    "/v1/auth/invitations/accept",
    "/v1/roles",
    "/v1/permissions",
    "/v1/security/headers",
    "/v1/security/csp-report",
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/errors",
    "/errors/{id}",
];
const MISSING_KEY: &str = "key_01k00000000000000000000000";
const MISSING_ORGANIZATION: &str = "org_01k00000000000000000000000";

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// A body that a route takes, so that only the caller's right is in question.
fn body_for(path: &str, victim: &str) -> Value {
    match path {
        "/api-keys" | "/api-keys/{id}" => json!({ "name": "x" }),
        "/api-keys/import" => json!({ "items": [{ "name": "x", "hash": sha256_hex("x"), "algorithm": "sha256" }] }),
        "/api-keys/revoke-all" => json!({ "confirm": true }),
        "/leaked-keys" => json!({ "key": victim }),
        "/audit-events" => {
            json!({ "event_type": "DATA", "action": "read", "actor": { "type": "system", "id": "x" }, "resource": { "type": "x", "id": "x" } })
        }
        "/usage" => {
            json!({ "records": [{ "id": "x", "key_id": victim, "endpoint": "/x", "method": "GET", "status": 200 }] })
        }
        "/v1/organizations/{id}" => json!({ "name": "x" }),
        _ => json!({}),
    }
}

async fn call(node: &Node, credential: &str, method: &Method, path: &str, body: Value) -> Answer {
    let body = Some(body).filter(|_| *method != Method::GET && *method != Method::DELETE);
    node.call_as(credential, method.clone(), path, body).await
}

/// The body of a problem without its request id.
fn without_request_id(answer: &Answer) -> String {
    answer.text.replace(answer.header("request-id"), "")
}

/// Somebody with a role in an organization, and their service key with everything that a key can hold.
pub async fn member(node: &Node, email: &str, organization: &str, role: Role) -> (Id<id::User>, String) {
    let (keyward, system) = (&node.app.keyward, Context::system("test"));
    let organization: Id<id::Organization> = organization.parse().unwrap();
    let person = keyward.people.create(&system, email, email).await.unwrap();
    keyward.people.assign_role(&system, person, Some(organization), role).await.unwrap();
    let permissions = Permission::ALL.iter().copied().filter(|permission| permission.delegable());
    let terms = KeyTerms {
        name: email.to_owned(),
        scopes: Vec::new(),
        permissions: permissions.clone().map(|permission| permission.as_str().to_owned()).collect(),
        rules: RulesText::default(),
        external_id: None,
        metadata: json!({}),
    };
    let staff = Some(Role::Owner);
    let context = Context {
        actor: Actor { kind: ActorKind::User, id: person.to_string(), name: None },
        grant: Some(Grant::of_service_key(organization, Some(person), permissions.collect(), staff, staff)),
        ..system
    };
    let new = NewKey { terms, environment: None, keyspace: None, expiry: Expiry::Default };
    let issued = keyward.keys.issue(&context, organization, new).await.unwrap();
    (person, issued.secret.expose().clone())
}

on_both! {
    async fn z_01_every_route_refuses_who_may_not_call_it(node: Node) {
        let narrow = async |permission: &str| text(&node.new_key(json!({ "permissions": [permission] })).await, "key").to_owned();
        let (reader, writer) = (narrow("plans:read").await, narrow("usage:write").await);
        let plain = node.new_key(json!({ "scopes": ["*"] })).await;
        let revoked = node.new_key(json!({ "permissions": ["keys:read", "keys:verify"] })).await;
        node.post(&format!("/v1/api-keys/{}/revoke", text(&revoked, "id")), json!({})).await;
        let mut open = Vec::new();
        for route in routes() {
            let permission = match route.access {
                Access::Open(_) | Access::Probe(_) => {
                    open.push(route.path);
                    continue;
                }
                Access::Needs(permission) | Access::NeedsOrSignature(permission) => Some(permission),
                Access::Known(_) | Access::Person => None,
            };
            let unfit = if permission == Some(Permission::PlansRead) { &writer } else { &reader };
            for path in route.paths() {
                let path = path.replace("{org}", &node.organization).replace("{id}", text(&plain, "id"));
                let told = format!("{} {path}", route.method);
                let nobody = Answer::of(node.bare(route.method.clone(), &path)).await;
                assert_eq!((nobody.status, nobody.code()), (401, "unauthenticated"), "{told}");
                assert!(nobody.header("www-authenticate").starts_with("Bearer"), "{told}");
                if !matches!(route.access, Access::Known(_)) {
                    let refused = call(&node, unfit, &route.method, &path, json!({})).await;
                    assert_eq!((refused.status, refused.code()), (403, "forbidden"), "{told}");
                }
                for credential in [text(&revoked, "key"), text(&plain, "key"), "nonsense"] {
                    let refused = call(&node, credential, &route.method, &path, json!({})).await;
                    assert_eq!((refused.status, refused.code()), (401, "unauthenticated"), "{told}");
                }
            }
        }
        assert_eq!(open, OPEN);
    }

    async fn z_01_each_role_reaches_what_the_matrix_says(node: Node) {
        let organization = node.new_organization("roles", "enterprise").await;
        // The matrix of the contract: what a person with the role cannot do in an organization.
        let refused: [(Role, &[&str]); 5] = [
            (Role::Owner, &["plans:manage", "members:manage", "roles:assign", "sessions:manage", "settings:manage"]),
            (Role::Admin, &["plans:manage", "members:manage", "roles:assign", "sessions:manage", "settings:manage"]),
            (Role::Developer, &["plans:manage", "members:manage", "roles:assign", "sessions:manage", "settings:manage", "members:read", "audit:write", "audit:export", "keys:verify", "usage:write", "organizations:manage"]),
            (Role::Auditor, &["plans:manage", "audit:write", "members:manage", "roles:assign", "sessions:manage", "settings:manage", "keys:verify", "usage:write", "organizations:manage", "keys:create", "keys:update", "keys:rotate", "keys:revoke", "keys:delete"]),
            (Role::Viewer, &["plans:manage", "members:manage", "roles:assign", "sessions:manage", "settings:manage", "members:read", "audit:write", "audit:export", "keys:verify", "usage:write", "organizations:manage", "keys:create", "keys:update", "keys:rotate", "keys:revoke", "keys:delete", "audit:read"]),
        ];
        for (role, refused) in refused {
            let (_, key) = member(&node, &format!("a-{}@example.com", role.as_str()), &organization, role).await;
            for route in routes() {
                let Access::Needs(permission) = route.access else { continue };
                let path = route.paths()[0].replace("{id}", MISSING_KEY);
                let answer = call(&node, &key, &route.method, &path, json!({})).await;
                let told = format!("{} {} {path}: {answer:?}", role.as_str(), route.method);
                if refused.contains(&permission.as_str()) {
                    assert_eq!(answer.status, 403, "{told}");
                } else if route.scoped {
                    assert!(![401, 403].contains(&answer.status), "{told}");
                }
            }
        }
    }

    async fn z_02_another_organizations_objects_look_absent(node: Node) {
        let theirs = node.new_organization("theirs", "pro").await;
        let ours = node.new_organization("ours", "pro").await;
        let victim = node.post(&format!("/v1/organizations/{theirs}/api-keys"), json!({ "name": "Victim" })).await.json;
        let (_, key) = member(&node, "ours@example.com", &ours, Role::Owner).await;
        let present = node.get(&format!("/v1/organizations/{theirs}/audit-events")).await.json;
        let event = text(&present["items"][0], "id").to_owned();
        for route in routes().into_iter().filter(|route| route.path.contains("{id}") || route.scoped) {
            let (real, missing) = match route.path {
                path if path.starts_with("/audit-events") => (event.clone(), "aud_01k00000000000000000000000".to_owned()),
                path if path.starts_with("/v1/organizations") => (theirs.clone(), MISSING_ORGANIZATION.to_owned()),
                path if path.starts_with("/api-keys") || path.starts_with("/leaked") => (text(&victim, "id").to_owned(), MISSING_KEY.to_owned()),
                _ => continue,
            };
            for template in route.paths() {
                if !template.contains("{id}") && !template.contains("{org}") {
                    continue;
                }
                let body = body_for(route.path, text(&victim, "key"));
                let foreign = template.replace("{org}", &theirs).replace("{id}", &real);
                let absent = template.replace("{org}", MISSING_ORGANIZATION).replace("{id}", &missing);
                let foreign = call(&node, &key, &route.method, &foreign, body.clone()).await;
                let absent = call(&node, &key, &route.method, &absent, body).await;
                assert_eq!((foreign.status, absent.status), (404, 404), "{} {template}: {foreign:?}", route.method);
                assert_eq!(without_request_id(&foreign), without_request_id(&absent), "{} {template}", route.method);
            }
        }
        assert_eq!(node.code_of(text(&victim, "key")).await, "valid", "nothing happened to it");
        for path in ["/v1/organizations", "/v1/api-keys", "/v1/api-keys?q=victim", "/v1/audit-events", "/v1/api-keys/stats"] {
            let listed = node.call_as(&key, Method::GET, path, None).await;
            assert_eq!(listed.status, 200, "{path}");
            for hidden in [&theirs, text(&victim, "id"), "Victim", "theirs"] {
                assert!(!listed.text.contains(hidden), "{path}: {}", listed.text);
            }
        }
        let other_end = if text(&victim, "key").ends_with('x') { 'y' } else { 'x' };
        let unknown = format!("{}{other_end}", &text(&victim, "key")[..56]);
        let foreign = node.call_as(&key, Method::POST, "/v1/api-keys/verify", Some(json!({ "key": victim["key"] }))).await;
        assert_eq!(foreign.code(), "not_found");
        assert_ne!(node.code_of(&unknown).await, "valid");
        let leaked = node.call_as(&key, Method::POST, "/v1/leaked-keys", Some(json!({ "key": victim["key"] }))).await;
        assert_eq!((leaked.status, &leaked.json["matched"]), (200, &json!(false)));
    }

    async fn z_02_another_owners_key_looks_absent_to_a_developer(node: Node) {
        let organization = node.new_organization("team", "enterprise").await;
        let (_, first) = member(&node, "first@example.com", &organization, Role::Developer).await;
        let (_, second) = member(&node, "second@example.com", &organization, Role::Developer).await;
        let made = node.call_as(&first, Method::POST, "/v1/api-keys", Some(json!({ "name": "mine" }))).await.json;
        for route in routes().into_iter().filter(|route| route.path.starts_with("/api-keys/{id}")) {
            let template = &route.paths()[0];
            let body = body_for(route.path, "");
            let theirs = call(&node, &second, &route.method, &template.replace("{id}", text(&made, "id")), body.clone()).await;
            let absent = call(&node, &second, &route.method, &template.replace("{id}", MISSING_KEY), body).await;
            assert_eq!((theirs.status, absent.status), (404, 404), "{} {template}", route.method);
            assert_eq!(without_request_id(&theirs), without_request_id(&absent), "{} {template}", route.method);
        }
        let listed = node.call_as(&second, Method::GET, "/v1/api-keys?q=mine", None).await;
        assert_eq!(listed.json["items"], json!([]));
        let seen = node.call_as(&first, Method::GET, "/v1/api-keys?q=mine", None).await;
        assert_eq!(seen.json["items"].as_array().unwrap().len(), 1, "its owner sees it, untouched");
        assert_eq!(node.code_of(text(&made, "key")).await, "valid");
    }

    async fn z_03_fields_beyond_the_callers_right_are_refused_and_change_nothing(node: Node) {
        let issued = node.new_key(json!({})).await;
        let organization = node.new_organization("fixed", "free").await;
        let paths = [format!("/v1/api-keys/{}", text(&issued, "id")), format!("/v1/organizations/{organization}")];
        for path in paths {
            let before = node.get(&path).await.json;
            for field in ["role", "tenant_id", "tier", "created_at", "id", "organization_id", "owner_id", "status", "secrets", "__proto__"] {
                let answer = node.patch(&path, json!({ "name": "changed", field: "x" })).await;
                assert_eq!((answer.status, answer.code(), answer.pointer()), (422, "unknown_field", format!("/{field}").as_str()));
            }
            assert_eq!(node.get(&path).await.json, before);
        }
    }

    async fn z_04_nobody_grants_what_they_lack(node: Node) {
        let granter = node.new_key(json!({ "permissions": ["keys:create", "keys:update"], "scopes": ["invoices:*"] })).await;
        let granter = text(&granter, "key");
        let create = |body: Value| node.call_as(granter, Method::POST, "/v1/api-keys", Some(body));
        for (body, status) in [
            (json!({ "name": "x", "permissions": ["keys:delete"] }), 403), (json!({ "name": "x", "scopes": ["users:read"] }), 403),
            (json!({ "name": "x", "scopes": ["*"] }), 403),
            (json!({ "name": "x", "permissions": ["keys:create"], "scopes": ["invoices:read"] }), 201),
        ] {
            assert_eq!(create(body.clone()).await.status, status, "{body}");
        }
        let made = create(json!({ "name": "child" })).await.json;
        let path = format!("/v1/api-keys/{}", text(&made, "id"));
        for body in [json!({ "permissions": ["keys:delete"] }), json!({ "scopes": ["users:read"] })] {
            let widened = node.call_as(granter, Method::PATCH, &path, Some(body.clone())).await;
            assert_eq!(widened.status, 403, "{body}");
        }
    }

    async fn z_04_there_is_always_an_owner(node: Node) {
        let (people, system) = (&node.app.keyward.people, Context::system("test"));
        let organization = node.new_organization("owned", "free").await;
        let place: Option<Id<id::Organization>> = Some(organization.parse().unwrap());
        let one = people.create(&system, "one@example.com", "One").await.unwrap();
        people.assign_role(&system, one, place, Role::Owner).await.unwrap();
        let refused = [
            people.remove_role(&system, one, place).await, people.assign_role(&system, one, place, Role::Admin).await,
            people.delete(&system, one).await,
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().code.as_str(), "last_owner");
        }
        for round in 0..5 {
            let two = people.create(&system, &format!("two{round}@example.com"), "Two").await.unwrap();
            people.assign_role(&system, two, place, Role::Owner).await.unwrap();
            let (first, second) = tokio::join!(people.remove_role(&system, one, place), people.remove_role(&system, two, place));
            assert_ne!(first.is_ok(), second.is_ok(), "exactly one of them went");
            let refused = first.err().or(second.err()).unwrap();
            assert_eq!((refused.code.as_str(), refused.code.status()), ("last_owner", 409));
            people.assign_role(&system, one, place, Role::Owner).await.unwrap();
            people.assign_role(&system, two, place, Role::Viewer).await.unwrap();
        }
    }

    async fn z_05_a_key_has_no_more_rights_than_its_owner_now(node: Node) {
        let organization = node.new_organization("changing", "pro").await;
        let place: Option<Id<id::Organization>> = Some(organization.parse().unwrap());
        let (person, key) = member(&node, "one@example.com", &organization, Role::Owner).await;
        let (_, other) = member(&node, "two@example.com", &organization, Role::Owner).await;
        let create = async || node.call_as(&key, Method::POST, "/v1/api-keys", Some(json!({ "name": "x" }))).await.status;
        let (people, system) = (&node.app.keyward.people, Context::system("test"));
        assert_eq!(create().await, 201);
        people.assign_role(&system, person, place, Role::Viewer).await.unwrap();
        assert_eq!(create().await, 403);
        people.assign_role(&system, person, place, Role::Developer).await.unwrap();
        assert_eq!(create().await, 201);
        people.remove_role(&system, person, place).await.unwrap();
        assert_eq!(create().await, 403);
        people.delete(&system, person).await.unwrap();
        assert_eq!(create().await, 401);
        assert_eq!(node.call_as(&other, Method::GET, "/v1/api-keys", None).await.status, 200);
    }

    async fn z_06_what_only_a_person_may_do_cannot_be_given_to_a_key(node: Node) {
        let issued = node.new_key(json!({})).await;
        let path = format!("/v1/api-keys/{}", text(&issued, "id"));
        for permission in ["members:manage", "roles:assign", "sessions:manage", "sessions:manage", "system:maintain", "settings:manage", "crypto:rotate"] {
            let created = node.post("/v1/api-keys", json!({ "name": "x", "permissions": ["keys:read", permission] })).await;
            let changed = node.patch(&path, json!({ "permissions": ["keys:read", permission] })).await;
            for answer in [created, changed] {
                assert_eq!((answer.status, answer.code(), answer.pointer()), (422, "not_delegable", "/permissions/1"), "{permission}");
            }
        }
        assert_eq!(node.get(&path).await.json["permissions"], json!([]));
        let unknown = node.post("/v1/api-keys", json!({ "name": "x", "permissions": ["keys:own"] })).await;
        assert_eq!((unknown.status, unknown.code()), (422, "invalid_field"));
    }

    async fn k_01_a_key_is_shown_once_and_kept_nowhere(node: Node) {
        let create = |body: Value| {
            let request = node.request_as(&node.service_key, Method::POST, "/v1/api-keys").header("idempotency-key", "once");
            Answer::of(request.json(&body))
        };
        let issued = create(json!({ "name": "kept nowhere" })).await.json;
        let path = format!("/v1/api-keys/{}", text(&issued, "id"));
        let rotated = node.post(&format!("{path}/rotate"), json!({ "overlap_seconds": 60 })).await.json;
        let keys = [text(&issued, "key"), text(&rotated, "key"), &node.service_key];
        for key in keys {
            node.code_of(key).await;
        }
        for path in [path.as_str(), "/v1/api-keys", "/v1/audit-events", "/v1/api-keys/health", "/metrics"] {
            let answer = node.get(path).await.text;
            assert!(keys.iter().all(|key| !answer.contains(secret_of(key))), "{path}");
        }
        let keys = keys.map(str::to_owned);
        let place = node.place.clone();
        node.stop().await;
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for entry in std::fs::read_dir(place.folder()).into_iter().flatten() {
            kept.push(std::fs::read(entry.unwrap().path()).unwrap());
        }
        if let Some(url) = place.database_url() {
            kept.extend(tables(url).await);
        }
        assert!(kept.iter().any(|bytes| contains(bytes, "kept nowhere")), "the name is found where the key is not");
        for key in &keys {
            let hex: String = secret_of(key).bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(kept.iter().all(|bytes| !contains(bytes, secret_of(key)) && !contains(bytes, &hex)));
        }
    }

    async fn k_02_the_life_of_a_key_is_in_the_hands_of_those_who_may(node: Node) {
        let issued = node.new_key(json!({})).await;
        let reader = node.new_key(json!({ "permissions": ["keys:read"] })).await;
        for action in ["", "/rotate", "/revoke"] {
            let path = |id: &str| if action.is_empty() { "/v1/api-keys".to_owned() } else { format!("/v1/api-keys/{id}{action}") };
            let own = path(text(&issued, "id"));
            let nobody = Answer::of(node.bare(Method::POST, &own).json(&json!({ "name": "x" }))).await;
            let refused = node.call_as(text(&reader, "key"), Method::POST, &own, Some(json!({ "name": "x" }))).await;
            assert_eq!((nobody.status, refused.status), (401, 403), "{own}");
            for id in [MISSING_KEY, "key_x", "x"] {
                let absent = if action.is_empty() { continue } else { node.post(&path(id), json!({})).await };
                assert_eq!((absent.status, absent.code()), (404, "not_found"), "{id}");
            }
        }
        assert_eq!(node.code_of(text(&issued, "key")).await, "valid");
        assert_eq!(node.call_as(text(&reader, "key"), Method::GET, "/v1/api-keys", None).await.status, 200);
        node.post(&format!("/v1/api-keys/{}/revoke", text(&reader, "id")), json!({})).await;
        assert_eq!(node.call_as(text(&reader, "key"), Method::GET, "/v1/api-keys", None).await.status, 401, "on its next request");
    }
}

/// The random part of a key, without what is shown of it later.
fn secret_of(key: &str) -> &str {
    &key[8..key.len() - 4]
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Every row of every table as text.
async fn tables(url: &str) -> Vec<Vec<u8>> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let names = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut connection).await.unwrap();
    let mut rows = Vec::new();
    for name in names {
        let text = AssertSqlSafe(format!("SELECT t::text FROM \"{name}\" t"));
        let found: Vec<String> = sqlx::query_scalar(text).fetch_all(&mut connection).await.unwrap();
        rows.extend(found.into_iter().map(String::into_bytes));
    }
    rows
}
