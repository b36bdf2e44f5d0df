//! Organizations, their plans, and keyspaces: made, read, changed, deleted, and what each means for keys.

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, on_both};

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

on_both! {
    async fn an_organization_is_made_read_changed_and_deleted(node: Node) {
        let body = json!({ "name": "Blue Bird", "email": "blue@example.com", "timezone": "Asia/Tokyo" });
        let made = node.post("/v1/organizations", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!((text(&made.json, "slug"), text(&made.json, "plan")), ("blue-bird", "free"));
        assert_eq!((text(&made.json, "status"), text(&made.json, "timezone")), ("active", "Asia/Tokyo"));
        assert_eq!(text(&made.json, "created_at"), "2026-11-20T12:00:00Z");
        let path = made.header("location").to_owned();
        assert_eq!(path, format!("/v1/organizations/{}", text(&made.json, "id")));
        assert_eq!(node.get(&path).await.json, made.json);

        let changed = node.patch(&path, json!({ "name": "Red Bird", "plan": "pro" })).await;
        assert_eq!((changed.status, text(&changed.json, "name"), text(&changed.json, "plan")), (200, "Red Bird", "pro"));
        assert_eq!(text(&changed.json, "slug"), "blue-bird", "what is left out stays");
        let listed = node.get("/v1/organizations").await;
        assert_eq!(listed.json["items"].as_array().unwrap().len(), 2);
        assert!(listed.json["next_cursor"].is_null());

        assert_eq!(node.delete(&path).await.status, 204);
        assert_eq!(node.get(&path).await.status, 404);
        assert_eq!(node.delete(&path).await.status, 404);
    }

    async fn slug_and_email_are_unique(node: Node) {
        let first = node.new_organization("first", "free").await;
        let second = node.new_organization("second", "free").await;
        let taken = [
            (json!({ "name": "x", "slug": "first", "email": "new@example.com" }), "/slug"),
            (json!({ "name": "x", "slug": "new", "email": "FIRST@example.com" }), "/email"),
            (json!({ "name": "x", "slug": "first", "email": "first@example.com" }), "/slug"),
        ];
        for (body, pointer) in taken {
            let answer = node.post("/v1/organizations", body.clone()).await;
            assert_eq!((answer.status, answer.code(), answer.pointer()), (409, "already_taken", pointer), "{body}");
        }
        let changed = node.patch(&format!("/v1/organizations/{second}"), json!({ "slug": "first" })).await;
        assert_eq!((changed.status, changed.code(), changed.pointer()), (409, "already_taken", "/slug"));
        let same = node.patch(&format!("/v1/organizations/{first}"), json!({ "slug": "first" })).await;
        assert_eq!(same.status, 200, "its own slug is not taken");
        let cleared = node.patch(&format!("/v1/organizations/{first}"), json!({ "name": null })).await;
        assert_eq!((cleared.status, cleared.pointer()), (422, "/name"), "{cleared:?}");
    }

    async fn faults_of_an_organization_point_at_the_field(node: Node) {
        let good = json!({ "name": "x", "slug": "x", "email": "x@example.com" });
        let faults = [("name", ""), ("slug", "-x"), ("slug", "X y"), ("email", "x"), ("plan", "none"), ("timezone", "Mars/Base")];
        for (field, value) in faults {
            let mut body = good.clone();
            body[field] = json!(value);
            let answer = node.post("/v1/organizations", body).await;
            assert_eq!((answer.status, answer.pointer()), (422, format!("/{field}").as_str()), "{field} {value:?}");
        }
    }

    async fn one_name_may_be_that_of_several(node: Node) {
        let make = |email: &str| node.post("/v1/organizations", json!({ "name": "Blue Bird", "email": email }));
        let (first, second) = (make("one@example.com").await, make("two@example.com").await);
        assert_eq!((first.status, second.status), (201, 201), "{second:?}");
        assert_eq!((text(&first.json, "slug"), text(&second.json, "slug")), ("blue-bird", "blue-bird-2"));
    }

    async fn what_a_missing_organization_has_is_missing_too(node: Node) {
        let missing = format!("/v1/organizations/{}", node.new_organization("gone", "free").await);
        assert_eq!(node.delete(&missing).await.status, 204);
        for list in ["api-keys", "api-keys/expiring", "api-keys/health", "api-keys/stats", "members", "invitations", "audit-events"] {
            let answer = node.get(&format!("{missing}/{list}")).await;
            assert_eq!((answer.status, answer.code()), (404, "not_found"), "{list}");
        }
        assert_eq!(node.post(&format!("{missing}/api-keys/cleanup-expired"), json!({})).await.status, 404);
    }

    async fn suspending_stops_every_key_and_activating_resumes_them(node: Node) {
        let organization = node.new_organization("paused", "pro").await;
        let path = format!("/v1/organizations/{organization}");
        let issued = node.post(&format!("{path}/api-keys"), json!({ "name": "one" })).await.json;
        assert_eq!(node.code_of(text(&issued, "key")).await, "valid");
        let suspended = node.post(&format!("{path}/suspend"), json!({})).await;
        assert_eq!((suspended.status, text(&suspended.json, "status")), (200, "suspended"));
        assert_eq!(node.code_of(text(&issued, "key")).await, "organization_suspended");
        let activated = node.post(&format!("{path}/activate"), json!({})).await;
        assert_eq!((activated.status, text(&activated.json, "status")), (200, "active"));
        assert_eq!(node.code_of(text(&issued, "key")).await, "valid");
    }

    async fn a_suspension_stops_service_keys_whatever_rules_they_have(node: Node) {
        let organization = node.new_organization("tenant", "pro").await;
        let path = format!("/v1/organizations/{organization}");
        let body = json!({ "name": "s", "permissions": ["keys:verify"], "allowed_routes": ["GET /invoices/*"] });
        let issued = node.post(&format!("{path}/api-keys"), body).await.json;
        let ask = || node.call_as(text(&issued, "key"), Method::POST, "/v1/api-keys/verify", Some(json!({ "key": "x" })));
        assert_eq!(ask().await.status, 200, "routes are the operator's, not Keyward's");
        node.post(&format!("{path}/suspend"), json!({})).await;
        assert_eq!(ask().await.status, 401);
        node.post(&format!("{path}/activate"), json!({})).await;
        assert_eq!(ask().await.status, 200);
    }

    async fn what_one_key_tells_of_its_organization_holds_for_the_others(node: Node) {
        let organization = node.new_organization("tenant", "pro").await;
        let path = format!("/v1/organizations/{organization}/api-keys");
        let (one, other) = (node.post(&path, json!({ "name": "one" })).await, node.post(&path, json!({ "name": "other" })).await);
        assert_eq!(node.code_of(text(&one.json, "key")).await, "valid");
        // As another node's change is before it is announced: in the database, and in no memory.
        node.tamper("UPDATE organization SET status = 'suspended' WHERE slug = 'tenant'").await;
        assert_eq!(node.code_of(text(&other.json, "key")).await, "organization_suspended");
        assert_eq!(node.code_of(text(&one.json, "key")).await, "organization_suspended");
    }

    async fn an_organization_with_active_keys_is_deleted_only_with_cascade(node: Node) {
        let organization = node.new_organization("busy", "pro").await;
        let path = format!("/v1/organizations/{organization}");
        let issued = node.post(&format!("{path}/api-keys"), json!({ "name": "one" })).await.json;
        let refused = node.delete(&path).await;
        assert_eq!((refused.status, refused.code()), (409, "has_active_keys"));
        assert_eq!(node.code_of(text(&issued, "key")).await, "valid");
        assert_eq!(node.delete(&format!("{path}?cascade=true")).await.status, 204);
        assert_eq!(node.code_of(text(&issued, "key")).await, "not_found");
        let own = node.delete(&format!("/v1/organizations/{}?cascade=true", node.organization)).await;
        assert_eq!((own.status, own.code()), (409, "conflict"), "not the caller's own");
    }

    async fn of_fifty_parallel_creates_the_plan_admits_five(node: Node) {
        let organization = node.new_organization("crowd", "pro").await;
        let path = format!("/v1/organizations/{organization}/api-keys");
        let create = |number: i32| node.post(&path, json!({ "name": format!("key {number}") }));
        let answers = join_all((0..50).map(create)).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 5);
        let refused = answers.iter().filter(|answer| (answer.status, answer.code()) == (409, "key_limit_reached"));
        assert_eq!(refused.count(), 45);

        let listed = node.get(&path).await.json;
        let id = text(&listed["items"][0], "id");
        node.post(&format!("{path}/{id}/revoke"), json!({})).await;
        assert_eq!(create(50).await.status, 201, "a revoked key makes room");
        assert_eq!(create(51).await.status, 409);
        node.patch(&format!("/v1/organizations/{organization}"), json!({ "plan": "enterprise" })).await;
        assert_eq!(create(52).await.status, 201, "and so does a larger plan");
    }

    async fn a_keyspace_says_how_its_keys_look_and_live(node: Node) {
        let body = json!({
            "name": "partners", "prefix": "pk", "style": "plain", "environments": ["live", "sandbox"],
            "default_expiry_days": 7, "max_expiry_days": 30,
        });
        let made = node.post("/v1/keyspaces", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let path = made.header("location").to_owned();
        assert_eq!(node.get(&path).await.json, made.json);
        assert_eq!(node.get("/v1/keyspaces/partners").await.json, made.json, "by name as well");

        let issued = node.new_key(json!({ "keyspace": "partners" })).await;
        let key = text(&issued, "key");
        assert_eq!((key.len(), key.starts_with("pk_live_")), (51, true));
        assert_eq!(text(&issued, "expires_at"), "2026-11-27T12:00:00Z", "the keyspace's default");
        assert_eq!(issued["keyspace_id"], made.json["id"]);
        assert_eq!(node.code_of(key).await, "valid");
        let sandbox = node.new_key(json!({ "keyspace": "partners", "environment": "sandbox" })).await;
        assert!(text(&sandbox, "key").starts_with("pk_sandbox_"));
        let verdict = node.verify(json!({ "key": sandbox["key"], "environment": "live" })).await;
        assert_eq!(verdict.code(), "wrong_environment");

        let refusals = [
            (json!({ "environment": "prod" }), "/environment"),
            (json!({ "expires_in_days": 31 }), "/expires_in_days"),
            (json!({ "expires_at": null }), "/expires_at"),
        ];
        for (mut body, pointer) in refusals {
            body["name"] = json!("x");
            body["keyspace"] = json!("partners");
            let answer = node.post("/v1/api-keys", body).await;
            assert_eq!((answer.status, answer.pointer()), (422, pointer), "{answer:?}");
        }

        let kept = node.delete(&path).await;
        assert_eq!((kept.status, kept.code()), (409, "conflict"), "it has keys");
        let changed = node.patch(&path, json!({ "default_expiry_days": null, "max_expiry_days": null })).await;
        assert_eq!((changed.status, &changed.json["max_expiry_days"]), (200, &Value::Null));
    }

    async fn keyspaces_are_listed_checked_and_deleted(node: Node) {
        let good = json!({ "name": "other", "prefix": "ot" });
        let faults = [
            ("name", json!("")), ("prefix", json!("Upper")), ("prefix", json!("seventeenletters1")), ("style", json!("round")),
            ("environments", json!([])), ("environments/0", json!(["LIVE"])), ("max_expiry_days", json!(366)),
        ];
        for (field, value) in faults {
            let mut body = good.clone();
            body[field.split('/').next().unwrap()] = value.clone();
            let answer = node.post("/v1/keyspaces", body).await;
            assert_eq!((answer.status, answer.pointer()), (422, format!("/{field}").as_str()), "{value}");
        }
        let made = node.post("/v1/keyspaces", good.clone()).await;
        assert_eq!((made.status, &made.json["environments"]), (201, &json!(["live", "test"])));
        let taken = node.post("/v1/keyspaces", good).await;
        assert_eq!((taken.status, taken.code(), taken.pointer()), (409, "already_taken", "/name"));
        assert_eq!(node.get("/v1/keyspaces").await.json["items"].as_array().unwrap().len(), 2);
        assert_eq!(node.delete("/v1/keyspaces/other").await.status, 204);
        assert_eq!(node.delete("/v1/keyspaces/default").await.status, 409);
        assert_eq!(node.get("/v1/keyspaces/other").await.status, 404);
    }

    async fn plans_are_versioned_and_deleted_when_nobody_is_on_them(node: Node) {
        let listed = node.get("/v1/plans").await;
        let mut names: Vec<&str> = listed.json["items"].as_array().unwrap().iter().map(|plan| text(plan, "name")).collect();
        names.sort_unstable();
        assert_eq!(names, ["enterprise", "free", "pro"]);

        let good = json!({ "name": "tiny", "key_limit": 1, "requests_per_minute": 10, "quota_per_month": 100 });
        for field in ["key_limit", "requests_per_minute", "quota_per_month"] {
            let mut body = good.clone();
            body[field] = json!(0);
            let answer = node.post("/v1/plans", body).await;
            assert_eq!((answer.status, answer.pointer()), (422, format!("/{field}").as_str()));
        }
        let made = node.post("/v1/plans", good.clone()).await;
        assert_eq!((made.status, &made.json["version"]), (201, &json!(1)));
        let taken = node.post("/v1/plans", good).await;
        assert_eq!((taken.status, taken.code(), taken.pointer()), (409, "already_taken", "/name"));
        let path = made.header("location").to_owned();
        let changed = node.patch(&path, json!({ "key_limit": 2 })).await;
        assert_eq!((&changed.json["version"], &changed.json["key_limit"]), (&json!(2), &json!(2)));
        assert_eq!(node.get("/v1/plans/tiny").await.json, changed.json);

        let organization = node.new_organization("small", "tiny").await;
        assert_eq!(node.delete(&path).await.code(), "conflict");
        node.patch(&format!("/v1/organizations/{organization}"), json!({ "plan": "free" })).await;
        assert_eq!(node.delete(&path).await.status, 204);
        assert_eq!(node.delete("/v1/plans/free").await.status, 409, "built in");
    }


    async fn nobody_suspends_the_ground_they_stand_on(node: Node) {
        let own = format!("/v1/organizations/{}", node.organization);
        let refused = node.post(&format!("{own}/suspend"), json!({})).await;
        assert_eq!((refused.status, refused.code()), (409, "conflict"));
        assert_eq!(node.get(&own).await.json["status"], "active");
    }

    async fn a_name_without_latin_letters_gets_a_slug_of_its_own(node: Node) {
        for (name, email) in [("日本", "one@example.com"), ("Привет", "two@example.com")] {
            let made = node.post("/v1/organizations", json!({ "name": name, "email": email })).await;
            assert_eq!((made.status, text(&made.json, "name")), (201, name), "{made:?}");
            assert!(text(&made.json, "slug").starts_with("organization-"), "{made:?}");
        }
    }

    async fn what_others_find_by_name_keeps_its_name(node: Node) {
        for path in ["/v1/keyspaces/default", "/v1/plans/free", "/v1/plans/enterprise"] {
            let refused = node.patch(path, json!({ "name": "renamed" })).await;
            assert_eq!((refused.status, refused.pointer()), (422, "/name"), "{path}");
            assert_eq!(node.get(path).await.status, 200);
        }
        let same = node.patch("/v1/keyspaces/default", json!({ "name": "default", "environments": ["live", "stage"] })).await;
        assert_eq!(same.status, 200, "{same:?}");
        node.new_key(json!({ "environment": "stage" })).await;
        node.new_organization("later", "free").await;
    }

    async fn a_key_that_staff_make_for_a_customer_stays_in_the_customers_organization(node: Node) {
        let tenant = node.new_organization("tenant", "pro").await;
        let own = node.new_key(json!({ "name": "the operator's" })).await;
        let permissions = ["keys:read", "keys:verify", "keys:revoke", "organizations:read", "organizations:manage", "plans:manage"];
        let path = format!("/v1/organizations/{tenant}/api-keys");
        let made = node.post(&path, json!({ "name": "customer's", "permissions": permissions })).await;
        let key = text(&made.json, "key");
        let ask = async |method, path: &str, body| node.call_as(key, method, path, body).await;

        let foreign = format!("/v1/organizations/{}/api-keys/{}", node.organization, text(&own, "id"));
        let missing = format!("/v1/organizations/{}/api-keys/key_01k00000000000000000000000", node.organization);
        let without_id = |answer: &Answer| answer.text.replace(answer.header("request-id"), "");
        let [one, other] = [ask(Method::GET, &foreign, None).await, ask(Method::GET, &missing, None).await];
        assert_eq!((one.status, without_id(&one)), (404, without_id(&other)));
        let verdict = ask(Method::POST, "/v1/api-keys/verify", Some(json!({ "key": text(&own, "key") }))).await;
        assert_eq!(verdict.code(), "not_found");
        let listed = ask(Method::GET, "/v1/organizations", None).await.json;
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
        let suspend = format!("/v1/organizations/{}/suspend", node.organization);
        assert_eq!(ask(Method::POST, &suspend, None).await.status, 404);
        assert_eq!(ask(Method::POST, "/v1/plans", Some(json!({}))).await.status, 403);

        assert_eq!(ask(Method::GET, &path, None).await.status, 200, "at home it has what it was given");
        let verdict = ask(Method::POST, "/v1/api-keys/verify", Some(json!({ "key": key }))).await;
        assert_eq!(verdict.code(), "valid");
    }
}
