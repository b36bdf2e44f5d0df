//! Second factors: authenticators and backup codes, how often they are guessed at, and who needs one (statements T-01 to T-09).

use http::Method;
use keyward_core::access::Role;
use serde_json::{Value, json};

use crate::people::{PASSWORD, code, enroll, log_in, me, pair, person, second, tokens, with};
use crate::support::{Answer, Node, on_both};

/// Signs in with both factors.
async fn tokens_with_factor(node: &Node, email: &str, secret: &str) -> String {
    node.clock.advance_seconds(30);
    let first = log_in(node, email, PASSWORD).await;
    let answer = second(node, first.json["login_token"].as_str().unwrap(), "totp", &code(node, secret, 0)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    pair(&answer).0
}

on_both! {
    async fn t_01_to_t_07_authenticators_and_backup_codes(node: Node) {
        person(&node, "a@example.com", Role::Admin).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        node.clock.advance_seconds(300);
        let late = with(&node, &access, Method::POST, "/v1/auth/totp/enroll", json!({})).await;
        assert_eq!((late.status, late.code()), (401, "insufficient_user_authentication"));
        assert!(late.header("www-authenticate").contains("insufficient_user_authentication"));
        assert_eq!(with(&node, &access, Method::POST, "/v1/auth/step-up", json!({ "password": "no" })).await.code(), "invalid_credentials");
        let stepped = with(&node, &access, Method::POST, "/v1/auth/step-up", json!({ "password": PASSWORD })).await;
        assert_eq!(stepped.status, 200, "{stepped:?}");
        let (access, _) = pair(&stepped);
        let (secret, codes) = enroll(&node, &access).await;
        assert_eq!((secret.len(), codes.len()), (32, 10), "160 bits, ten codes");
        let wait = async || node.clock.advance_seconds(90);
        wait().await;
        let begin = async || log_in(&node, "a@example.com", PASSWORD).await.json["login_token"].as_str().unwrap().to_owned();
        let pending = begin().await;
        assert_eq!(me(&node, &pending).await, 401, "T-06");
        for steps in [-2, 2] {
            assert_eq!(second(&node, &begin().await, "totp", &code(&node, &secret, steps)).await.code(), "invalid_code", "T-02");
        }
        let right = code(&node, &secret, 0);
        let tokens: Vec<String> = futures_util::future::join_all((0..5).map(|_| begin())).await;
        let tries = futures_util::future::join_all(tokens.iter().map(|token| second(&node, token, "totp", &right))).await;
        assert_eq!(tries.iter().filter(|answer| answer.status == 200).count(), 1, "T-03: {tries:?}");
        assert!(tries.iter().all(|answer| answer.status == 200 || answer.code() == "code_used"));
        assert_eq!(second(&node, &pending, "backup_code", &codes[0].to_uppercase()).await.status, 200, "T-04");
        assert_eq!(second(&node, &begin().await, "backup_code", &codes[0]).await.code(), "invalid_code");
        let left = with(&node, &access, Method::GET, "/v1/auth/backup-codes", Value::Null).await.json;
        assert_eq!(left, json!({ "remaining": 9 }));
        // T-05: five codes of one sign-in, ten of one hour.
        wait().await;
        let pending = begin().await;
        for _ in 0..5 {
            assert_eq!(second(&node, &pending, "totp", "000000").await.code(), "invalid_code");
        }
        assert_eq!(second(&node, &pending, "totp", &code(&node, &secret, 0)).await.code(), "invalid_token");
        let pending = begin().await;
        let codes: Vec<String> = futures_util::future::join_all((0..5).map(|_| second(&node, &pending, "totp", "000000"))).await.iter().map(|answer| answer.code().to_owned()).collect();
        assert!(codes.contains(&"rate_limited".to_owned()), "{codes:?}");
        node.clock.advance_seconds(3_600);
        let access = tokens_with_factor(&node, "a@example.com", &secret).await;
        node.clock.advance_seconds(300);
        assert_eq!(with(&node, &access, Method::POST, "/v1/auth/totp/disable", json!({})).await.status, 401, "T-07");
        let both = json!({ "password": PASSWORD, "code": code(&node, &secret, 0) });
        let (access, _) = pair(&with(&node, &access, Method::POST, "/v1/auth/step-up", both).await);
        assert_eq!(with(&node, &access, Method::POST, "/v1/auth/totp/disable", json!({})).await.status, 204);
        assert_eq!(log_in(&node, "a@example.com", PASSWORD).await.json["token_type"], "Bearer");
    }

    async fn t_09_only_our_own_clock_counts(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        let (secret, _) = enroll(&node, &access).await;
        node.clock.advance_seconds(60);
        let waiting = log_in(&node, "a@example.com", PASSWORD).await.json["login_token"].clone();
        let shown_at = async |steps: i64, date: &str| {
            let body = json!({ "login_token": waiting, "method": "totp", "code": code(&node, &secret, steps) });
            Answer::of(node.bare(Method::POST, "/v1/auth/login/second-factor").header("date", date).json(&body)).await
        };
        let later = shown_at(4, "Fri, 20 Nov 2026 12:03:00 GMT").await;
        assert_eq!((later.status, later.code()), (401, "invalid_code"));
        assert_eq!(shown_at(-2, "Fri, 20 Nov 2026 12:00:00 GMT").await.code(), "invalid_code");
        assert_eq!(shown_at(0, "Thu, 01 Jan 1970 00:00:00 GMT").await.status, 200);
    }

    async fn t_08_whoever_needs_a_factor_can_only_set_one_up(node: Node) {
        person(&node, "owner2@example.com", Role::Owner).await;
        person(&node, "a@example.com", Role::Admin).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        let (owner, _) = tokens(&node, "owner2@example.com").await;
        enroll(&node, &owner).await;
        let policy = "/v1/security/policy";
        let set = with(&node, &owner, Method::PATCH, policy, json!({ "second_factor_required": true })).await;
        assert_eq!((set.status, &set.json["second_factor_required"]), (200, &json!(true)), "{set:?}");
        let refused = with(&node, &access, Method::GET, "/v1/api-keys", Value::Null).await;
        assert_eq!((refused.status, refused.code()), (403, "2fa_enrolment_required"), "with the token of before as well");
        assert_eq!(me(&node, &access).await, 200);
        enroll(&node, &access).await;
        assert_eq!(with(&node, &access, Method::GET, "/v1/api-keys", Value::Null).await.status, 200);
    }
}
