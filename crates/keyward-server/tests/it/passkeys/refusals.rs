//! Passkeys that are refused: statement T-10, each wrong answer by itself, and what is counted and told of them.

use http::Method;
use keyward_core::access::Role;
use serde_json::{Value, json};

use super::{
    ANNE, ORIGIN, access_token, add, asked_as_second_factor, asked_to_log_in, asked_to_register, events, finish,
    pending, published, refused, register, second_step, sign_in, step_up_with, with_passkey,
};
use crate::people::{enroll, person, post, tokens, with};
use crate::support::authenticator::Authenticator;
use crate::support::{Answer, on_both};

/// A way to make answers wrong.
type Wrong = fn(&mut Authenticator);

/// What is told of each wrong answer, and the way to it (statement T-10).
const WRONGS: [(&str, Wrong); 9] = [
    ("another origin", |it| it.origin = "https://keys.example.com.evil.example".to_owned()),
    ("another origin", |it| it.origin = "http://keys.example.com".to_owned()),
    ("another origin", |it| it.origin = format!("{ORIGIN}:8443")),
    ("within a page of another origin", |it| it.is_framed = true),
    ("another host name", |it| it.host = "example.com".to_owned()),
    ("not verified its user", |it| it.verifies_user = false),
    ("not asked its user", |it| it.asks_user = false),
    ("Begin anew", |it| it.user = Some("AAAAAAAAAAAAAAAAAAAAAA".to_owned())),
    ("Begin anew", Authenticator::change_key),
];

on_both! {
    settings published;

    async fn t_10_wrong_answers_are_refused_wherever_they_are_given(node: Node) {
        let (token, id, mut right) = with_passkey(&node, ANNE).await;
        for (told, wrong) in WRONGS {
            let mut forged = right.clone();
            wrong(&mut forged);
            let is_refused = |answer: Answer| {
                refused(&answer);
                assert!(answer.json["detail"].as_str().unwrap().contains(told), "{told}: {answer:?}");
            };
            is_refused(sign_in(&node, &mut forged).await);
            let (login_token, _) = pending(&node, ANNE).await;
            let (challenge, options) = asked_as_second_factor(&node, &login_token).await;
            is_refused(second_step(&node, &login_token, &challenge, &forged.get(&options)).await);
            is_refused(step_up_with(&node, &token, &mut forged).await);
            // Nothing of it stays with the passkey, and the right answer clears the count of failures.
            access_token(&sign_in(&node, &mut right).await);
        }
        assert_eq!((events(&node, "login_failed").await, events(&node, "step_up_failed").await), (18, 9));
        let read = with(&node, &token, Method::GET, &format!("/v1/auth/passkeys/{id}"), Value::Null).await;
        assert_eq!(read.status, 200, "no failure takes a passkey away");

        // An unknown passkey, and a right answer that does not say whose it is.
        refused(&sign_in(&node, &mut Authenticator::on(ORIGIN)).await);
        let user = right.user.take();
        refused(&sign_in(&node, &mut right).await);
        // As a second step it need not: the password has said it.
        let (login_token, _) = pending(&node, ANNE).await;
        let (challenge, options) = asked_as_second_factor(&node, &login_token).await;
        access_token(&second_step(&node, &login_token, &challenge, &right.get(&options)).await);
        right.user = user;
        access_token(&sign_in(&node, &mut right).await);
    }

    async fn t_10_a_passkey_is_registered_by_a_right_answer_only(node: Node) {
        person(&node, ANNE, Role::Admin).await;
        let (token, _) = tokens(&node, ANNE).await;
        // Of the last two ways nothing shows before a passkey is used.
        for (told, wrong) in &WRONGS[..7] {
            let mut authenticator = Authenticator::on(ORIGIN);
            wrong(&mut authenticator);
            let (challenge, options) = asked_to_register(&node, &token).await;
            let answer = register(&node, &token, "laptop", &challenge, authenticator.create(&options)).await;
            refused(&answer);
            assert!(answer.json["detail"].as_str().unwrap().contains(told), "{told}: {answer:?}");
        }
        let mut authenticator = Authenticator::on(ORIGIN);
        let (challenge, options) = asked_to_register(&node, &token).await;
        let mut other = options.clone();
        other["challenge"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        refused(&register(&node, &token, "laptop", &challenge, authenticator.create(&other)).await);
        refused(&register(&node, &token, "laptop", &challenge, authenticator.create(&options)).await);
        assert_eq!(events(&node, "passkey_registration_failed").await, 9);

        let (challenge, options) = asked_to_register(&node, &token).await;
        let made = authenticator.create(&options);
        let faulty = register(&node, &token, "", &challenge, made.clone()).await;
        assert_eq!((faulty.status, faulty.pointer()), (422, "/name"));
        let faulty = register(&node, &token, "laptop", &challenge, json!({ "id": "x", "rawId": "x" })).await;
        assert_eq!((faulty.status, faulty.pointer()), (422, "/credential/rawId"), "{faulty:?}");
        let (other, _) = { person(&node, "bob@example.com", Role::Admin).await; tokens(&node, "bob@example.com").await };
        refused(&register(&node, &other, "laptop", &challenge, made.clone()).await);
        assert_eq!(register(&node, &token, "laptop", &challenge, made).await.status, 201, "none of these has spent the challenge");
        // The same passkey is nobody else's.
        let (challenge, options) = asked_to_register(&node, &other).await;
        let again = register(&node, &other, "mine", &challenge, authenticator.create(&options)).await;
        assert_eq!((again.status, again.code()), (409, "conflict"), "{again:?}");
        assert_eq!(node.tell("SELECT count(*) AS value FROM passkey").await, 1);
    }

    async fn t_10_a_challenge_is_good_once_for_five_minutes_and_one_purpose(node: Node) {
        let (token, _, mut authenticator) = with_passkey(&node, ANNE).await;
        let (challenge, options) = asked_to_log_in(&node).await;
        let answer = authenticator.get(&options);
        access_token(&finish(&node, &challenge, &answer).await);
        refused(&finish(&node, &challenge, &answer).await);
        refused(&finish(&node, &challenge, &authenticator.get(&options)).await);

        // A wrong answer spends it as well.
        let (challenge, options) = asked_to_log_in(&node).await;
        let (_, others) = asked_to_log_in(&node).await;
        let crossed = finish(&node, &challenge, &authenticator.get(&others)).await;
        refused(&crossed);
        assert!(crossed.json["detail"].as_str().unwrap().contains("another challenge"), "{crossed:?}");
        refused(&finish(&node, &challenge, &authenticator.get(&options)).await);

        // What was asked for one purpose, one sign-in, one client, is no answer for another.
        let (login_token, _) = pending(&node, ANNE).await;
        let (other_token, _) = pending(&node, ANNE).await;
        let (challenge, options) = asked_as_second_factor(&node, &login_token).await;
        let answer = authenticator.get(&options);
        refused(&finish(&node, &challenge, &answer).await);
        refused(&second_step(&node, &other_token, &challenge, &answer).await);
        let body = json!({ "method": "passkey", "challenge_id": challenge, "credential": answer });
        refused(&with(&node, &token, Method::POST, "/v1/auth/step-up", body).await);
        let body = json!({ "login_token": login_token, "method": "passkey", "challenge_id": challenge, "credential": answer });
        let elsewhere = node.bare(Method::POST, "/v1/auth/login/second-factor").header("user-agent", "another");
        assert_eq!(Answer::of(elsewhere.json(&body)).await.code(), "invalid_token");
        access_token(&second_step(&node, &login_token, &challenge, &answer).await);
        let (challenge, options) = asked_to_log_in(&node).await;
        let body = json!({ "challenge_id": challenge, "credential": authenticator.get(&options) });
        let elsewhere = node.bare(Method::POST, "/v1/auth/passkeys/login/finish").header("user-agent", "another");
        refused(&Answer::of(elsewhere.json(&body)).await);
        access_token(&finish(&node, &challenge, &authenticator.get(&options)).await);

        // Five at the same time: one of them finds it.
        let (challenge, options) = asked_to_log_in(&node).await;
        let answer = authenticator.get(&options);
        let tries = futures_util::future::join_all((0..5).map(|_| finish(&node, &challenge, &answer))).await;
        assert_eq!(tries.iter().filter(|answer| answer.status == 200).count(), 1, "{tries:?}");

        for (wait, status) in [(299, 200), (300, 401)] {
            let (challenge, options) = asked_to_log_in(&node).await;
            node.clock.advance_seconds(wait);
            assert_eq!(finish(&node, &challenge, &authenticator.get(&options)).await.status, status, "{wait}");
        }
        node.clock.advance_seconds(1);
        node.app.keyward.sessions.sweep().await.unwrap();
        assert_eq!(node.tell("SELECT count(*) AS value FROM passkey_challenge").await, 0);
    }

    async fn t_10_a_copied_passkey_is_refused_and_told_of(node: Node) {
        let (token, id, mut owner) = with_passkey(&node, ANNE).await;
        let mut thief = owner.clone();
        access_token(&sign_in(&node, &mut owner).await);
        access_token(&sign_in(&node, &mut owner).await);
        let mails = node.place.mails.count();
        let stolen = sign_in(&node, &mut thief).await;
        refused(&stolen);
        assert!(stolen.json["detail"].as_str().unwrap().contains("copied"), "{stolen:?}");
        let told = format!(
            "SELECT count(*) AS value FROM audit_event WHERE action = 'passkey_copy_suspected' AND resource_id = '{id}' AND error_message LIKE '%copied%'"
        );
        assert_eq!((node.tell(&told).await, events(&node, "login_failed").await), (1, 1));
        node.place.mails.mail(mails, ANNE, "may have been copied").await;
        // The thief has caught up, so the owner's next answer is the one that is behind.
        assert_eq!(sign_in(&node, &mut thief).await.status, 401);
        assert_eq!(sign_in(&node, &mut thief).await.status, 200);
        refused(&sign_in(&node, &mut owner).await);
        assert_eq!(node.tell(&told).await, 3);
        let listed = with(&node, &token, Method::GET, "/v1/auth/passkeys", Value::Null).await;
        assert_eq!(listed.json["items"].as_array().unwrap().len(), 1, "it stays until its owner decides");

        // An authenticator that never counts cannot go back.
        let mut uncounted = Authenticator::on(ORIGIN);
        uncounted.counts = false;
        add(&node, &token, &mut uncounted).await;
        for _ in 0..2 {
            access_token(&sign_in(&node, &mut uncounted).await);
        }
    }

    async fn t_05_wrong_answers_are_counted_with_wrong_codes(node: Node) {
        let (token, _, mut authenticator) = with_passkey(&node, ANNE).await;
        let (_, codes) = enroll(&node, &token).await;
        let mut forged = authenticator.clone();
        forged.change_key();
        for _ in 0..10 {
            refused(&sign_in(&node, &mut forged).await);
        }
        let limited = sign_in(&node, &mut authenticator).await;
        assert_eq!((limited.status, limited.code(), limited.header("retry-after")), (429, "rate_limited", "3600"));
        let (login_token, _) = pending(&node, ANNE).await;
        let body = json!({ "login_token": login_token, "method": "backup_code", "code": codes[0] });
        assert_eq!(post(&node, "/v1/auth/login/second-factor", body).await.code(), "rate_limited");
        assert_eq!(step_up_with(&node, &token, &mut authenticator).await.code(), "rate_limited");
        node.clock.advance_seconds(3_600);
        access_token(&sign_in(&node, &mut authenticator).await);

        // Five tries of one sign-in, then it is over.
        let (login_token, _) = pending(&node, ANNE).await;
        for _ in 0..5 {
            let (challenge, options) = asked_as_second_factor(&node, &login_token).await;
            refused(&second_step(&node, &login_token, &challenge, &forged.get(&options)).await);
        }
        let body = json!({ "login_token": login_token });
        assert_eq!(post(&node, "/v1/auth/passkeys/second-factor/begin", body).await.code(), "invalid_token");
    }

    async fn a_closed_account_answers_as_an_unknown_passkey(node: Node) {
        let (token, _, mut authenticator) = with_passkey(&node, ANNE).await;
        let anne = with(&node, &token, Method::GET, "/v1/auth/me", Value::Null).await.json["user_id"].as_str().unwrap().parse().unwrap();
        let system = keyward::context::Context::system("test");
        node.app.keyward.people.set_disabled(&system, node.organization.parse().unwrap(), anne, true).await.unwrap();
        let (closed, unknown) = (sign_in(&node, &mut authenticator).await, sign_in(&node, &mut Authenticator::on(ORIGIN)).await);
        refused(&closed);
        assert_eq!(closed.json["detail"], unknown.json["detail"]);
    }
}
