//! A real identity provider (`oidc-provider-mock`), and a browser that signs in by it.

use std::process::{Child, Command, Stdio};

use ::http::Method;
use reqwest::Url;
use serde_json::Value;

use super::{Answer, Node};

/// A running provider; ends when dropped.
pub struct Provider {
    pub issuer: String,
    process: Child,
    http: reqwest::Client,
}

/// A browser: its cookies, and nothing else.
#[derive(Default)]
pub struct Browser {
    jar: Vec<(String, String)>,
}

impl Provider {
    pub async fn start() -> Self {
        let program = xtask::packages::provider_program();
        assert!(program.is_file(), "{} is missing: make test installs it", program.display());
        let port = xtask::postgres::free_port().expect("a free port");
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string()]).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("the provider starts");
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        let provider = Self { issuer: format!("http://127.0.0.1:{port}"), process, http };
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
        for _ in 0..1_000 {
            tries.tick().await;
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return provider;
            }
        }
        panic!("the provider did not come up");
    }

    /// Makes somebody known there, with what is told about them.
    pub async fn knows(&self, subject: &str, claims: Value) {
        let put = self.http.put(format!("{}/users/{subject}", self.issuer)).json(&claims).send().await;
        let put = put.expect("an answer");
        assert!(put.status().is_success(), "{} {:?}", put.status(), put.text().await);
    }

    /// Signs somebody in who was sent there; answers path and query of where they are sent back to.
    pub async fn sign_in(&self, location: &str, subject: &str) -> String {
        let back = self.http.post(location).form(&[("sub", subject)]).send().await.expect("an answer");
        let back = back.headers()["location"].to_str().expect("an address").to_owned();
        path_of(&back)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn path_of(address: &str) -> String {
    let url = Url::parse(address).expect("an address");
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

impl Browser {
    pub fn cookies(&self) -> String {
        self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn keep(&mut self, answer: &Answer) {
        for cookie in answer.cookies() {
            let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            self.jar.retain(|(known, _)| known != name);
            if !cookie.contains("Max-Age=0") {
                self.jar.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    pub async fn get(&mut self, node: &Node, path: &str) -> Answer {
        let answer = Answer::of(node.bare(Method::GET, path).header("cookie", self.cookies())).await;
        self.keep(&answer);
        answer
    }

    /// Sends a form as a page of ours does.
    pub async fn send(&mut self, node: &Node, path: &str, form: &[(&str, &str)]) -> Answer {
        let request =
            node.bare(Method::POST, path).header("cookie", self.cookies()).header("sec-fetch-site", "same-origin");
        let answer = Answer::of(request.form(form)).await;
        self.keep(&answer);
        answer
    }

    /// Begins a sign-in; answers where the browser is sent.
    pub async fn depart(&mut self, node: &Node, next: &str) -> String {
        let answer = self.get(node, &format!("/v1/auth/oidc/start?next={next}")).await;
        assert_eq!(answer.status, 302, "{answer:?}");
        answer.header("location").to_owned()
    }

    /// Signs in by the provider, from begin to end.
    pub async fn sign_in(&mut self, node: &Node, provider: &Provider, subject: &str) -> Answer {
        let location = self.depart(node, "/docs").await;
        let back = provider.sign_in(&location, subject).await;
        self.get(node, &back).await
    }
}
