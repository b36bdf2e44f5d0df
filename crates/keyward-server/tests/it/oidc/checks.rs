//! What works by a real provider, on both databases.

use super::*;

pub async fn a_person_signs_in_by_a_provider(backend: Backend) {
    let (node, provider) = started(backend, &[], false).await;
    let told = Answer::of(node.bare(Method::GET, "/v1/auth/oidc")).await.json;
    assert_eq!(told, json!({ "enabled": true, "label": "Acme account", "start": "/v1/auth/oidc/start" }));
    let ann = person(&node, "ann@example.com", Role::Developer).await;
    provider.knows("ann-1", verified("Ann@Example.com")).await;
    let mut browser = Browser::default();
    let begun = browser.get(&node, "/v1/auth/oidc/start?next=/docs%3Fx=1%23keys").await;
    let location = begun.header("location");
    assert!(
        begun.status == 302 && location.starts_with(&format!("{}/oauth2/authorize?", provider.issuer)),
        "{begun:?}"
    );
    for part in [
        "response_type=code",
        "client_id=keyward",
        "code_challenge_method=S256",
        "scope=openid+email+profile",
        "state=s_",
        "nonce=",
        "code_challenge=",
        "redirect_uri=https%3A%2F%2Fkeys.example.com%2Fv1%2Fauth%2Foidc%2Fcallback",
    ] {
        assert!(location.contains(part), "{part}: {location}");
    }
    let kept = &begun.cookies()[0];
    assert!(
        kept.starts_with("__Host-keyward_provider=")
            && kept.ends_with("; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax"),
        "{kept}"
    );
    assert_eq!(begun.header("cache-control"), "no-store");

    let back = provider.sign_in(location, "ann-1").await;
    let signed_in = browser.get(&node, &back).await;
    assert_eq!(
        (signed_in.status, signed_in.header("location"), signed_in.header("cache-control")),
        (302, "/docs?x=1#keys", "no-store"),
        "{signed_in:?}"
    );
    assert_eq!(signed_in.cookies().len(), 2);
    assert_eq!(id_of(&node, &mut browser).await, ann);
    let mut login = events(&node, "login").await;
    assert_eq!(
        (login.len(), &login.remove(0)["details"]),
        (1, &json!({ "method": "oidc", "issuer": provider.issuer }))
    );
    let linked = events(&node, "identity_linked").await;
    assert_eq!(
        (linked.len(), &linked[0]["details"]["subject"], &linked[0]["resource"]["id"]),
        (1, &json!("ann-1"), &json!(ann.to_string()))
    );

    // From now on the subject is the account, whatever becomes of the address.
    provider.knows("ann-1", json!({ "email": "other@example.com", "email_verified": false })).await;
    let mut again = Browser::default();
    assert_eq!(again.sign_in(&node, &provider, "ann-1").await.status, 302);
    assert_eq!(id_of(&node, &mut again).await, ann);
    assert_eq!(events(&node, "identity_linked").await.len(), 1);

    // A change by this session needs the token against forged requests, as every session of a browser does.
    let forged = Answer::of(
        node.bare(Method::POST, "/v1/auth/logout")
            .header("cookie", again.cookies())
            .header("sec-fetch-site", "same-origin"),
    )
    .await;
    assert_eq!(forged.code(), "csrf_failed");
}

pub async fn groups_give_roles_and_take_them_back(backend: Backend) {
    let rules = [
        "acme:developer:devs",
        "acme:admin:ops: night",
        "instance:auditor:auditors",
        "nowhere:owner:devs",
        "acme:owner:bosses",
    ];
    let (node, provider) = started(backend, &rules, true).await;
    let mut browser = Browser::default();
    for (groups, wanted) in [
        (json!(["devs", "others"]), &["acme:developer"][..]),
        (json!(["devs", "ops: night", "auditors"]), &["acme:admin", "instance:auditor"]),
        (json!("devs"), &["acme:developer"]),
        (json!([]), &[]),
        (json!(["auditors"]), &["instance:auditor"]),
    ] {
        provider
            .knows(
                "bob",
                json!({ "email": "bob@example.com", "email_verified": true, "name": "Bob", "groups": groups }),
            )
            .await;
        node.clock.advance_seconds(1);
        assert_eq!(browser.sign_in(&node, &provider, "bob").await.status, 302);
        assert_eq!(roles(&node, &mut browser).await, wanted, "{groups}");
    }
    let bob = id_of(&node, &mut browser).await;
    let made = events(&node, "person_created").await;
    assert_eq!(
        (made.len(), &made[0]["details"], &made[0]["resource"]["name"]),
        (1, &json!({ "origin": "oidc" }), &json!("Bob"))
    );
    let given = events(&node, "role_assigned").await;
    assert_eq!(
        (given.len(), &given[0]["details"]),
        (5, &json!({ "before": null, "after": "auditor", "origin": "oidc" }))
    );
    assert_eq!(events(&node, "role_removed").await.len(), 2);

    // What somebody gave by hand stays as it is.
    let (people, system, acme) =
        (&node.app.keyward.people, Context::system("test"), node.organization.parse().unwrap());
    people.assign_role(&system, bob, Some(acme), Role::Viewer).await.unwrap();
    for groups in [json!(["ops: night"]), json!([])] {
        provider.knows("bob", json!({ "groups": groups })).await;
        assert_eq!(browser.sign_in(&node, &provider, "bob").await.status, 302);
        assert_eq!(roles(&node, &mut browser).await, ["acme:viewer"], "{groups}");
    }
    // The provider's role that is changed by hand is given by hand from then on.
    provider.knows("eve", json!({ "email": "eve@example.com", "email_verified": true, "groups": ["bosses"] })).await;
    let mut eve = Browser::default();
    eve.sign_in(&node, &provider, "eve").await;
    assert_eq!(roles(&node, &mut eve).await, ["acme:owner"]);
    // The last owner stays, whatever the provider says.
    people.remove_role(&system, node.user.parse().unwrap(), Some(acme)).await.unwrap();
    provider.knows("eve", json!({ "groups": ["devs"] })).await;
    assert_eq!(eve.sign_in(&node, &provider, "eve").await.status, 302);
    assert_eq!(roles(&node, &mut eve).await, ["acme:owner"]);
    people.assign_role(&system, bob, Some(acme), Role::Owner).await.unwrap();
    assert_eq!(eve.sign_in(&node, &provider, "eve").await.status, 302);
    assert_eq!(roles(&node, &mut eve).await, ["acme:developer"]);
    people.assign_role(&system, id_of(&node, &mut eve).await, Some(acme), Role::Auditor).await.unwrap();
    provider.knows("eve", json!({ "groups": [] })).await;
    eve.sign_in(&node, &provider, "eve").await;
    assert_eq!(roles(&node, &mut eve).await, ["acme:auditor"]);
}

pub async fn an_account_is_joined_only_by_an_address_that_the_provider_vouches_for(backend: Backend) {
    let (node, provider) = started(backend, &[], false).await;
    let ann = person(&node, "ann@example.com", Role::Developer).await;
    let gone = person(&node, "gone@example.com", Role::Developer).await;
    node.app
        .keyward
        .people
        .set_disabled(&Context::system("test"), node.organization.parse().unwrap(), gone, true)
        .await
        .unwrap();
    for (subject, claims, why) in [
        ("unverified", json!({ "email": "ann@example.com", "email_verified": false }), "does not vouch"),
        ("unsaid", json!({ "email": "ann@example.com" }), "does not vouch"),
        ("text", json!({ "email": "ann@example.com", "email_verified": "true" }), "does not vouch"),
        ("nothing", json!({}), "does not vouch"),
        ("stranger", verified("stranger@example.com"), "there is no account"),
        ("gone", verified("gone@example.com"), "the account is closed"),
    ] {
        provider.knows(subject, claims).await;
        node.clock.advance_seconds(1);
        let mut browser = Browser::default();
        assert_refused(&browser.sign_in(&node, &provider, subject).await);
        let failed = events(&node, "login_failed").await;
        assert!(
            failed[0]["error_message"].as_str().unwrap().contains(why) && failed[0]["success"] == false,
            "{subject}: {}",
            failed[0]
        );
    }
    provider.knows("ann", verified("ann@example.com")).await;
    let mut browser = Browser::default();
    assert_eq!(browser.sign_in(&node, &provider, "ann").await.status, 302);
    assert_eq!(id_of(&node, &mut browser).await, ann);
    // Her address was given to somebody else there: not her account.
    provider.knows("new-ann", verified("ann@example.com")).await;
    assert_refused(&Browser::default().sign_in(&node, &provider, "new-ann").await);
    // Shown to somebody, the same is a page.
    let location = browser.depart(&node, "/").await;
    let back = provider.sign_in(&location, "new-ann").await;
    let page =
        Answer::of(node.bare(Method::GET, &back).header("cookie", browser.cookies()).header("accept", "text/html,*/*"))
            .await;
    assert_eq!((page.status, page.header("content-type"), page.cookies()), (401, "text/html; charset=utf-8", vec![]));
    assert!(page.text.contains("/errors/provider_refused") && !page.text.contains("joined"), "{}", page.text);
}

pub async fn the_second_factor_is_asked_for_on_the_way(backend: Backend) {
    let (node, provider) = started(backend, &[], false).await;
    person(&node, "ann@example.com", Role::Owner).await;
    let (access, _) = tokens(&node, "ann@example.com").await;
    let (secret, backup) = enroll(&node, &access).await;
    provider.knows("ann", verified("ann@example.com")).await;
    let mut browser = Browser::default();
    let asked = browser.sign_in(&node, &provider, "ann").await;
    assert_eq!((asked.status, asked.header("location")), (302, "/sign-in/second-factor?next=/docs"));
    let waiting = asked.cookies();
    assert!(
        waiting.len() == 1
            && waiting[0].starts_with("__Host-keyward_login=")
            && waiting[0].contains("; Max-Age=300; Secure; HttpOnly"),
        "{waiting:?}"
    );
    assert_eq!(browser.get(&node, "/v1/auth/me").await.status, 401);
    let page = browser.get(&node, asked.header("location")).await;
    assert!(
        page.status == 200 && page.text.contains("name=\"code\"") && page.text.contains("value=\"/docs\""),
        "{page:?}"
    );
    let path = "/sign-in/second-factor";
    for (form, status, says) in [
        (&[("next", "/docs"), ("code", "000000")][..], 401, "role=\"alert\""),
        (&[("next", "//evil.example"), ("code", &backup[0])], 422, "/next"),
        (&[("next", "/docs")], 400, "malformed"),
    ] {
        let refused = browser.send(&node, path, form).await;
        assert!(refused.status == status && refused.text.contains(says), "{refused:?}");
    }
    let stranger = Browser::default().send(&node, path, &[("code", &backup[0])]).await;
    assert!(stranger.status == 401 && stranger.text.contains("No sign-in waits here"));
    let elsewhere = Answer::of(
        node.bare(Method::POST, path)
            .header("cookie", browser.cookies())
            .header("sec-fetch-site", "cross-site")
            .form(&[("code", &backup[0])]),
    )
    .await;
    assert_eq!(elsewhere.code(), "csrf_failed");
    node.clock.advance_seconds(30);
    let done = browser.send(&node, path, &[("next", "/docs"), ("code", &code(&node, &secret, 0))]).await;
    assert_eq!((done.status, done.header("location")), (303, "/docs"), "{done:?}");
    assert!(browser.cookie("__Host-keyward_login").is_none() && browser.get(&node, "/v1/auth/me").await.status == 200);

    // A page with a script takes the second step over the API, by the same cookie.
    browser.sign_in(&node, &provider, "ann").await;
    let second = node
        .bare(Method::POST, "/v1/auth/login/second-factor")
        .header("cookie", browser.cookies())
        .header("x-keyward-client", "browser");
    let second = Answer::of(
        second.header("sec-fetch-site", "same-origin").json(&json!({ "method": "backup_code", "code": backup[0] })),
    )
    .await;
    assert_eq!((second.status, &second.json["signed_in"]), (200, &json!(true)), "{second:?}");
    let without = Answer::of(
        node.bare(Method::POST, "/v1/auth/login/second-factor")
            .json(&json!({ "method": "backup_code", "code": backup[1] })),
    )
    .await;
    assert_eq!((without.status, without.pointer()), (422, "/login_token"));
    assert!(log_in(&node, "ann@example.com", PASSWORD).await.json["login_token"].is_string());
}

pub async fn sign_ins_of_somebody_new_at_the_same_time_make_one_account(backend: Backend) {
    let (node, provider) = started(backend, &["acme:viewer:staff"], true).await;
    let new = json!({ "email": "new@example.com", "email_verified": true, "groups": ["staff"] });
    provider.knows("new", new).await;
    let arrive = async || {
        let mut browser = Browser::default();
        let answer = browser.sign_in(&node, &provider, "new").await;
        assert_eq!(answer.status, 302, "{answer:?}");
        (id_of(&node, &mut browser).await, roles(&node, &mut browser).await)
    };
    let all = futures_util::future::join_all((0..6).map(|_| arrive())).await;
    assert!(all.iter().all(|one| *one == all[0] && one.1 == ["acme:viewer"]), "{all:?}");
    for action in ["person_created", "identity_linked", "role_assigned"] {
        assert_eq!(events(&node, action).await.len(), 1, "{action}");
    }
}
