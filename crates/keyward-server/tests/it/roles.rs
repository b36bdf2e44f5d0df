//! What each role may do, as a signed-in person; and how roles are given.

use http::Method;
use keyward_core::access::{Extent, Role};
use keyward_core::id::{self, Id};
use keyward_server::api::route::Access;
use keyward_server::api::routes;
use serde_json::{Value, json};

use crate::people::{PASSWORD, enroll, person, post, tokens, with};
use crate::support::{Answer, on_both};

on_both! {
    async fn z_01_a_session_reaches_what_its_role_gives(node: Node) {
        for role in Role::ALL {
            let email = format!("a-{}@example.com", role.as_str());
            person(&node, &email, role).await;
            let (access, _) = tokens(&node, &email).await;
            for route in routes() {
                let permission = match route.access {
                    Access::Needs(permission) => Some(permission),
                    Access::Person | Access::Known(_) => None,
                    _ => continue,
                };
                // These end the session, or begin what the next route would find.
                if ["/v1/auth/logout", "/v1/auth/totp/enroll"].contains(&route.path) || route.path == "/v1/api-keys/verify" {
                    continue;
                }
                // A body that no route takes: only the right is in question.
                let path = route.paths()[0].replace("{id}", "key_01k00000000000000000000000");
                let answer = with(&node, &access, route.method.clone(), &path, json!({ "colour": 1 })).await;
                let told = format!("{} {} {path}: {answer:?}", role.as_str(), route.method);
                match permission {
                    None => assert_ne!(answer.status, 403, "{told}"),
                    Some(permission) if role.extent(permission) == Extent::Nothing || permission.instance_only() => {
                        assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{told}");
                    }
                    Some(permission) if permission.needs_fresh_factor() => {
                        assert_eq!((answer.status, answer.code()), (401, "insufficient_user_authentication"), "{told}");
                    }
                    Some(_) if route.scoped => assert!(![401, 403].contains(&answer.status), "{told}"),
                    Some(_) => assert_ne!(answer.status, 401, "{told}"),
                }
            }
        }
    }

    async fn a_token_is_introspected_within_reach(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        let ask = async |credential: &str, token: &str| {
            let request = node.request_as(credential, Method::POST, "/v1/oauth/introspect");
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            Answer::of(request.body(format!("token={token}"))).await.json
        };
        let told = ask(&node.service_key, &access).await;
        assert_eq!((&told["active"], &told["username"]), (&json!(true), &json!("a@example.com")), "{told}");
        let other = node.new_organization("other", "pro").await;
        let (_, stranger) = crate::security::member(&node, "b@example.com", &other, Role::Owner).await;
        assert_eq!(ask(&stranger, &access).await, json!({ "active": false }));
        with(&node, &access, Method::POST, "/v1/auth/logout", json!({})).await;
        assert_eq!(ask(&node.service_key, &access).await, json!({ "active": false }));
    }

    async fn z_04_a_new_secret_gives_nobody_more_than_they_have(node: Node) {
        let rotator = node.new_key(json!({ "permissions": ["keys:rotate"], "scopes": ["invoices:*"] })).await;
        let rotate = async |key: &Value| {
            let path = format!("/v1/api-keys/{}/rotate", key["id"].as_str().unwrap());
            node.call_as(rotator["key"].as_str().unwrap(), Method::POST, &path, None).await.status
        };
        for (body, status) in [
            (json!({ "permissions": ["keys:create"] }), 403), (json!({ "scopes": ["users:read"] }), 403), (json!({ "scopes": ["invoices:read"] }), 200),
        ] {
            let key = node.new_key(body.clone()).await;
            assert_eq!(rotate(&key).await, status, "{body}");
            let code = if status == 403 { "valid" } else { "rotated" };
            assert_eq!(node.code_of(key["key"].as_str().unwrap()).await, code, "{body}");
        }
        assert_eq!(rotate(&rotator).await, 200, "its own");
    }

    async fn z_04_roles_are_given_downwards_and_one_owner_stays(node: Node) {
        let owner = person(&node, "owner2@example.com", Role::Owner).await;
        let admin = person(&node, "admin@example.com", Role::Admin).await;
        let first: Id<id::User> = node.user.parse().unwrap();
        let (owner_token, admin_token) = (tokens(&node, "owner2@example.com").await.0, tokens(&node, "admin@example.com").await.0);
        let assign = async |token: &str, person: Id<id::User>, role: &str| {
            let answer = with(&node, token, Method::PATCH, &format!("/v1/members/{person}"), json!({ "role": role })).await;
            (answer.status, answer.code().to_owned())
        };
        assert_eq!(assign(&admin_token, admin, "viewer").await, (401, "insufficient_user_authentication".to_owned()));
        enroll(&node, &admin_token).await;
        enroll(&node, &owner_token).await;
        assert_eq!(assign(&admin_token, admin, "owner").await.0, 403, "not to oneself");
        assert_eq!(assign(&admin_token, first, "viewer").await.0, 403, "not above one's own");
        assert_eq!(assign(&owner_token, first, "viewer").await.0, 200);
        assert_eq!(with(&node, &owner_token, Method::DELETE, &format!("/v1/members/{owner}"), Value::Null).await.code(), "last_owner");

        // An owner whose account is closed is none who could act, and may go.
        let (people, system) = (&node.app.keyward.people, keyward::context::Context::system("test"));
        let closed = person(&node, "owner3@example.com", Role::Owner).await;
        people.set_disabled(&system, node.organization.parse().unwrap(), closed, true).await.unwrap();
        assert_eq!(with(&node, &owner_token, Method::DELETE, &format!("/v1/members/{closed}"), Value::Null).await.status, 204);
        assert_eq!(assign(&owner_token, first, "viewer").await.0, 200);

        // Invited, and accepted once.
        let invite = async |token: &str, role: &str| with(&node, token, Method::POST, "/v1/invitations", json!({ "email": "new@example.com", "role": role })).await;
        assert_eq!(invite(&admin_token, "owner").await.status, 403);
        let invited = invite(&admin_token, "developer").await;
        assert_eq!(invited.status, 201, "{invited:?}");
        assert!(!node.get("/v1/invitations").await.text.contains(invited.json["token"].as_str().unwrap()));
        let accept = async |password: Value| {
            post(&node, "/v1/auth/invitations/accept", json!({ "token": invited.json["token"], "name": "New", "password": password })).await
        };
        assert_eq!(accept(json!("short")).await.code(), "password_too_short");
        let accepted = accept(json!(PASSWORD)).await;
        assert_eq!((accepted.status, &accepted.json["role"]), (200, &json!("developer")), "{accepted:?}");
        assert_eq!(accept(json!(PASSWORD)).await.code(), "gone");
        let (developer, _) = tokens(&node, "new@example.com").await;
        let made = with(&node, &developer, Method::POST, "/v1/api-keys", json!({ "name": "mine" })).await;
        assert_eq!(made.status, 201, "{made:?}");
        let own = with(&node, &developer, Method::GET, "/v1/api-keys", Value::Null).await.json;
        assert_eq!(own["items"].as_array().unwrap().len(), 1, "a developer sees only their own");
        assert_eq!(with(&node, &developer, Method::GET, "/v1/members", Value::Null).await.status, 403);
        assert_eq!(with(&node, &developer, Method::DELETE, &format!("/v1/members/{admin}/sessions"), Value::Null).await.status, 403);
        let new = accepted.json["user_id"].as_str().unwrap();
        assert_eq!(with(&node, &admin_token, Method::DELETE, &format!("/v1/members/{new}/sessions"), Value::Null).await.status, 204);
        assert_eq!(with(&node, &developer, Method::GET, "/v1/api-keys", Value::Null).await.status, 401, "ended by another");
        let members = with(&node, &admin_token, Method::GET, "/v1/members", Value::Null).await.json;
        assert_eq!(members["items"].as_array().unwrap().len(), 4);
    }
}
