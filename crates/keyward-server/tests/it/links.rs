//! The pages behind links: an invitation, a forgotten password, the set-up; as a browser without scripts uses them.

use http::Method;
use keyward::config::Layers;
use keyward::context::Context;
use keyward_core::access::Role;
use serde_json::json;

use crate::people::{NEW_PASSWORD, PASSWORD, enroll, log_in, person, reset_token, tokens};
use crate::support::browser::Browser;
use crate::support::{Answer, Backend, Node, Place, on_both, start_of_time};

const JAPANESE: &str = "ja,en-US;q=0.7";
const MARIA: &str = "maria@example.com";

async fn read(node: &Node, path: &str, language: &str) -> Answer {
    Answer::of(node.bare(Method::GET, path).header("accept-language", language)).await
}

async fn send(node: &Node, path: &str, language: &str, form: &[(&str, &str)]) -> Answer {
    Answer::of(node.bare(Method::POST, path).header("accept-language", language).form(form)).await
}

/// The link of an invitation, as its mail holds it, without the host.
async fn invite(node: &Node, email: &str, role: &str) -> String {
    let before = node.place.mails.count();
    let system = Context::system("test");
    let (organization, role) =
        (node.organization.parse().unwrap(), Role::ALL.into_iter().find(|one| one.as_str() == role));
    let keyward = &node.app.keyward;
    keyward.sessions.invite(&keyward.people, &system, organization, email, role.unwrap()).await.expect("an invitation");
    let mail = node.place.mails.mail(before, email, "/invitation?token=").await.text;
    let at = mail.find("/invitation?token=").unwrap();
    mail[at..].split_whitespace().next().unwrap().to_owned()
}

fn token_of(link: &str) -> &str {
    link.split_once("token=").unwrap().1
}

/// Statements W-06, W-07 and W-09, on a page of ours in that language.
fn assert_private(page: &Answer, language: &str) {
    for (name, value) in [
        ("cache-control", "no-store"),
        ("content-language", language),
        ("content-type", "text/html; charset=utf-8"),
        ("referrer-policy", "no-referrer"),
        ("vary", "origin, accept-language"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-xss-protection", "0"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("server", ""),
    ] {
        assert_eq!(page.header(name), value, "{name}: {page:?}");
    }
    assert!(!page.header("permissions-policy").is_empty());
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none';", "style-src 'sha256-", "form-action 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part) && !policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
    }
    assert!(page.text.contains(&format!("<html lang=\"{language}\">")) && !page.text.contains("<script"), "{page:?}");
}

on_both! {
    async fn an_invitation_is_accepted_on_its_page(node: Node) {
        let link = invite(&node, MARIA, "developer").await;
        let page = read(&node, &link, "en").await;
        assert_eq!(page.status, 200);
        assert_private(&page, "en");
        for part in ["You are invited to Acme", "<b>developer</b>", "value=\"maria@example.com\"", "autocomplete=\"username\"", "autocomplete=\"name\"", "minlength=\"15\""] {
            assert!(page.text.contains(part), "{part}: {}", page.text);
        }
        assert_eq!(page.text.matches("autocomplete=\"new-password\"").count(), 2);
        let form = |name, password, again| [("token", token_of(&link)), ("name", name), ("password", password), ("again", again)];
        for (name, password, again, field, says) in [
            ("  ", PASSWORD, PASSWORD, "name", "Fill this in."),
            ("Maria <b>", "brief one", "brief one", "password", "use 15 characters or more."),
            ("Maria <b>", "passwordpassword", "passwordpassword", "password", "Too easy to guess"),
            ("Maria <b>", PASSWORD, NEW_PASSWORD, "again", "not the same password"),
        ] {
            let refused = send(&node, "/invitation", "en", &form(name, password, again)).await;
            assert_eq!(refused.status, 422, "{refused:?}");
            assert_private(&refused, "en");
            assert!(refused.text.contains(&format!("id=\"{field}-fault\">")) && refused.text.contains(says), "{field}: {refused:?}");
            assert!(refused.text.contains(&format!("aria-invalid=\"true\" autofocus aria-describedby=\"{field}-")), "{refused:?}");
            assert!(refused.text.contains(&format!("value=\"{}\"", name.replace('<', "&lt;").replace('>', "&gt;"))), "{refused:?}");
            assert!(!refused.text.contains(password), "a password is never sent back");
        }
        let joined = send(&node, "/invitation", "en", &form("Maria", PASSWORD, PASSWORD)).await;
        assert_eq!(joined.status, 200, "{joined:?}");
        assert_private(&joined, "en");
        assert!(joined.text.contains("You have joined Acme") && !joined.text.contains(token_of(&link)));
        assert_eq!(log_in(&node, MARIA, PASSWORD).await.status, 200);
        let members = node.get("/v1/members").await.json["items"].clone();
        let maria = members.as_array().unwrap().iter().find(|member| member["email"] == MARIA).expect("a member");
        assert_eq!((&maria["role"], &maria["name"]), (&json!("developer"), &json!("Maria")));
        // Used, made up, and missing.
        let used = read(&node, &link, "en").await;
        assert!(used.status == 410 && used.text.contains("no longer valid"), "{used:?}");
        assert_private(&used, "en");
        let again = send(&node, "/invitation", "en", &form("Maria", PASSWORD, PASSWORD)).await;
        assert!(again.status == 410 && again.text.contains("no longer valid"), "{again:?}");
        assert_eq!(read(&node, "/invitation?token=kwi_0000", "en").await.status, 410);
        let bare = read(&node, "/invitation", "en").await;
        assert!(bare.status == 410 && bare.text.contains("the link that you were sent"), "{bare:?}");
    }

    async fn who_has_an_account_only_agrees(node: Node) {
        person(&node, MARIA, Role::Viewer).await;
        let member = invite(&node, MARIA, "admin").await;
        let refused = send(&node, "/invitation", "en", &[("token", token_of(&member))]).await;
        assert!(refused.status == 409 && refused.text.contains("a member already"), "{refused:?}");
        let mut elsewhere = node;
        elsewhere.organization = elsewhere.new_organization("other", "free").await;
        let link = invite(&elsewhere, MARIA, "admin").await;
        let page = read(&elsewhere, &link, JAPANESE).await;
        assert!(page.text.contains("other への招待"), "{page:?}");
        assert!(page.text.contains("承諾するだけで参加できます。") && !page.text.contains("type=\"password\""), "{page:?}");
        let joined = send(&elsewhere, "/invitation", JAPANESE, &[("token", token_of(&link))]).await;
        assert!(joined.status == 200 && joined.text.contains("other に参加しました"), "{joined:?}");
        assert_private(&joined, "ja");
        assert_eq!(log_in(&elsewhere, MARIA, PASSWORD).await.status, 200, "the password is as it was");
    }

    async fn an_invitation_in_japanese(node: Node) {
        let link = invite(&node, MARIA, "auditor").await;
        let page = read(&node, &link, JAPANESE).await;
        assert_private(&page, "ja");
        for part in ["Acme への招待", "<b>監査担当者</b>", ">お名前<", ">パスワード<", ">パスワード（確認用）<", ">招待を承諾する<", "15文字以上"] {
            assert!(page.text.contains(part), "{part}: {}", page.text);
        }
        let long = "あ".repeat(201);
        for (name, password, says) in [
            ("", PASSWORD, "入力してください。"),
            (long.as_str(), PASSWORD, "200文字以内にしてください。"),
            ("ma\u{202E}ria", PASSWORD, "使用できない文字が含まれています。"),
            ("真理亜", "短いパスワード", "短すぎます。15文字以上にしてください。"),
            ("真理亜", &"x".repeat(513), "512バイト以内にしてください。"),
            ("真理亜", "passwordpassword", "推測されやすいパスワードです。"),
            ("真理亜", "maria@example.com maria", "名前やメールアドレスから推測できるパスワードです。"),
        ] {
            let form = [("token", token_of(&link)), ("name", name), ("password", password), ("again", password)];
            let refused = send(&node, "/invitation", JAPANESE, &form).await;
            assert!(refused.status == 422 && refused.text.contains(says), "{says}: {refused:?}");
            assert!(refused.text.contains("修正が必要な項目があります"), "{refused:?}");
        }
        let form = [("token", token_of(&link)), ("name", "真理亜"), ("password", PASSWORD), ("again", PASSWORD)];
        let joined = send(&node, "/invitation", JAPANESE, &form).await;
        assert!(joined.status == 200 && joined.text.contains("Acme に参加しました"), "{joined:?}");
        node.clock.advance_seconds(7 * 86_400);
        let late = invite(&node, "late@example.com", "viewer").await;
        node.clock.advance_seconds(7 * 86_400);
        let gone = read(&node, &late, JAPANESE).await;
        assert!(gone.status == 410 && gone.text.contains("この招待は無効です"), "{gone:?}");
    }

    async fn a_forgotten_password_is_set_anew(node: Node) {
        person(&node, MARIA, Role::Viewer).await;
        let (access, _) = tokens(&node, MARIA).await;
        let ask = read(&node, "/forgot-password", JAPANESE).await;
        assert_private(&ask, "ja");
        assert!(ask.text.contains("パスワードをお忘れの方") && ask.text.contains("action=\"/forgot-password\""));
        let before = node.place.mails.count();
        let known = send(&node, "/forgot-password", "en", &[("email", MARIA)]).await;
        let unknown = send(&node, "/forgot-password", "en", &[("email", "nobody@example.com")]).await;
        assert_eq!((known.status, known.text.replace(MARIA, "?")), (202, unknown.text.replace("nobody@example.com", "?")));
        let mail = node.place.mails.mail(before, MARIA, "/reset-password?token=").await.text;
        let link = &mail[mail.find("/reset-password?token=").unwrap()..].split_whitespace().next().unwrap().to_owned();
        let page = read(&node, link, "en").await;
        assert_eq!(page.status, 200, "{page:?}");
        assert_private(&page, "en");
        assert!(page.text.contains("minlength=\"15\"") && page.text.contains("value=\"maria@example.com\""));
        let form = |new, again| [("token", token_of(link)), ("new_password", new), ("again", again)];
        let differing = send(&node, "/reset-password", JAPANESE, &form(NEW_PASSWORD, PASSWORD)).await;
        assert!(differing.status == 422 && differing.text.contains("パスワードが一致しません。"), "{differing:?}");
        let short = send(&node, "/reset-password", "en", &form("short", "short")).await;
        assert!(short.status == 422 && short.text.contains("id=\"new_password-fault\">Too short: use 15"), "{short:?}");
        let set = send(&node, "/reset-password", "en", &form(NEW_PASSWORD, NEW_PASSWORD)).await;
        assert!(set.status == 200 && set.text.contains("Your password is set"), "{set:?}");
        assert_eq!(crate::people::me(&node, &access).await, 401, "it ended the sessions");
        assert_eq!(log_in(&node, MARIA, NEW_PASSWORD).await.status, 200);
        let used = send(&node, "/reset-password", JAPANESE, &form(PASSWORD, PASSWORD)).await;
        assert!(used.status == 410 && used.text.contains("href=\"/forgot-password\""), "{used:?}");
        assert_eq!(read(&node, link, "en").await.status, 410);
        assert_eq!(log_in(&node, MARIA, NEW_PASSWORD).await.status, 200);
        // Beside a second factor eight characters are enough, and it stays asked for.
        let login = log_in(&node, MARIA, NEW_PASSWORD).await;
        enroll(&node, login.json["access_token"].as_str().unwrap()).await;
        let token = reset_token(&node, MARIA).await;
        let page = read(&node, &format!("/reset-password?token={token}"), "en").await;
        assert!(page.text.contains("minlength=\"8\""), "{page:?}");
        let set = send(&node, "/reset-password", "en", &[("token", &token), ("new_password", "tr0ub4dor&3x")]).await;
        assert_eq!(set.status, 200, "{set:?}");
        assert_eq!(log_in(&node, MARIA, "tr0ub4dor&3x").await.json["second_factor_required"], json!(true));
    }

    async fn the_second_step_of_a_sign_in_speaks_the_readers_language(node: Node) {
        for (language, tag, says) in [(JAPANESE, "ja", "進行中のサインインはありません"), ("en", "en", "No sign-in waits here")] {
            let nothing = read(&node, "/sign-in/second-factor", language).await;
            assert!(nothing.status == 401 && nothing.text.contains(says), "{nothing:?}");
            assert_private(&nothing, tag);
        }
        let waiting = node.bare(Method::GET, "/sign-in/second-factor?next=/docs").header("accept-language", JAPANESE);
        let page = Answer::of(waiting.header("cookie", "__Host-keyward_login=kwl_x")).await;
        assert!(page.status == 200 && page.text.contains(">確認コード<") && page.text.contains("value=\"/docs\""), "{page:?}");
        assert_private(&page, "ja");
    }

    async fn forms_are_sent_from_their_own_pages_and_not_too_often(node: Node) {
        let link = invite(&node, MARIA, "viewer").await;
        let form = [("token", token_of(&link)), ("name", "Maria"), ("password", PASSWORD)];
        let forged = node.bare(Method::POST, "/invitation").header("sec-fetch-site", "cross-site").form(&form);
        let forged = Answer::of(forged).await;
        assert!(forged.status == 403 && forged.text.contains("came from elsewhere"), "{forged:?}");
        assert_private(&forged, "en");
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event WHERE action = 'access_denied'").await, 1);
        // What a cookie holds sends no form.
        let cookie = format!("__Host-keyward_link={}", token_of(&link));
        let without = Answer::of(node.bare(Method::POST, "/invitation").header("cookie", cookie).form(&form[1..])).await;
        assert_eq!(without.status, 400, "{without:?}");
        let put = Answer::of(node.bare(Method::PUT, "/invitation")).await;
        assert_eq!((put.status, put.code()), (405, "method_not_allowed"));
        let mut last = 200;
        for _ in 0..2_001 {
            last = read(&node, "/invitation?token=kwi_1", JAPANESE).await.status;
            if last != 410 {
                break;
            }
        }
        assert_eq!(last, 429);
        let limited = read(&node, &link, JAPANESE).await;
        assert!(limited.text.contains("試行回数が多すぎます") && !limited.header("retry-after").is_empty(), "{limited:?}");
        assert_private(&limited, "ja");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_up_keeps_what_was_typed() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let node = Node::open(Place::new(backend).await, start_of_time(), |_| {}).await;
        let token = node.app.keyward.setup.new_token(&Context::system("test")).await.expect("a link").expose().clone();
        let page = read(&node, &format!("/setup?token={token}"), JAPANESE).await;
        assert_private(&page, "ja");
        assert!(page.text.contains("Keyward の初期設定") && page.text.contains(">組織名<"), "{page:?}");
        let form = |email, password, again| {
            [
                ("token", token.as_str()),
                ("email", email),
                ("organization", "灯台"),
                ("password", password),
                ("again", again),
            ]
        };
        for (email, password, again, says) in [
            ("nobody", PASSWORD, PASSWORD, "id=\"email-fault\">メールアドレスの形式が正しくありません。"),
            (MARIA, "short", "short", "id=\"password-fault\">短すぎます。"),
            (MARIA, PASSWORD, "", "id=\"again-fault\">パスワードが一致しません。"),
        ] {
            let refused = send(&node, "/setup", JAPANESE, &form(email, password, again)).await;
            assert!(refused.status == 422 && refused.text.contains(says), "{says}: {refused:?}");
            assert!(refused.text.contains("value=\"灯台\"") && refused.text.contains(&format!("value=\"{email}\"")));
        }
        let done = send(&node, "/setup", JAPANESE, &form(MARIA, PASSWORD, PASSWORD)).await;
        assert!(done.status == 201 && done.text.contains("準備ができました"), "{done:?}");
        assert_private(&done, "ja");
        assert_eq!(log_in(&node, MARIA, PASSWORD).await.status, 200);
    }
}

/// Over HTTPS a token does not stay in the address, where a browser's history would keep it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_put_aside_over_https() {
    let behind_proxy = |layers: &mut Layers| layers.flag("server.trusted_proxies", vec!["127.0.0.1/32".to_owned()]);
    let node = Node::start_with(Backend::Sqlite, behind_proxy).await;
    let link = invite(&node, MARIA, "viewer").await;
    let by_https = async |path: &str, cookie: &str| {
        Answer::of(node.bare(Method::GET, path).header("x-forwarded-proto", "https").header("cookie", cookie)).await
    };
    let moved = by_https(&link, "").await;
    assert_eq!((moved.status, moved.header("location"), moved.text.as_str()), (303, "/invitation", ""));
    assert_eq!((moved.header("cache-control"), moved.header("referrer-policy")), ("no-store", "no-referrer"));
    let [cookie] = moved.cookies().try_into().unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=1800; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let page = by_https("/invitation", pair).await;
    assert!(page.status == 200 && page.text.contains(token_of(&link)), "{page:?}");
    let form = [("token", token_of(&link)), ("name", "Maria"), ("password", PASSWORD)];
    let joined = Answer::of(node.bare(Method::POST, "/invitation").header("cookie", pair).form(&form)).await;
    assert_eq!(joined.status, 200, "{joined:?}");
    assert!(joined.cookies()[0].starts_with("__Host-keyward_link=; Path=/; Max-Age=0;"), "{joined:?}");
    assert_eq!(by_https("/invitation?token=kwi_0", "").await.status, 410, "what is good for nothing is not put aside");
}

/// The whole walk in a browser: a phone's width, both languages of its pages, and nothing that their policy would stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w_07_a_browser_walks_from_a_mail_to_an_account() {
    let node = Node::start(Backend::Sqlite).await;
    let origin = node.url.replace("127.0.0.1", "localhost");
    let link = invite(&node, MARIA, "viewer").await;
    let browser = Browser::at(&format!("{origin}{link}")).await;
    browser.narrow(320).await;
    assert_eq!(browser.script("return document.documentElement.scrollWidth").await, json!(320), "nothing stands out");
    browser.fill("name", "Maria").await;
    browser.fill("password", PASSWORD).await;
    browser.fill("again", "something else entirely").await;
    browser.press("button").await;
    assert_eq!(browser.script("return document.activeElement.id").await, json!("again"));
    assert_eq!(browser.script("return document.getElementById('name').value").await, json!("Maria"));
    assert_eq!(browser.script("return document.documentElement.scrollWidth").await, json!(320));
    browser.fill("password", PASSWORD).await;
    browser.fill("again", PASSWORD).await;
    browser.press("button").await;
    assert_eq!(browser.script("return document.querySelector('h1').innerText").await, json!("You have joined Acme"));
    assert_eq!(log_in(&node, MARIA, PASSWORD).await.status, 200);
    assert_eq!(browser.stopped().await, Vec::<String>::new());
}
