//! A real Chromium, driven by WebDriver (W3C), from Debian's packages. It has an authenticator of its own making (WebAuthn Level
//! 3, section 12), which keeps passkeys and verifies its user.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A browser with one page; ends when dropped.
pub struct Browser {
    session: String,
    http: reqwest::Client,
    driver: Child,
    profile: TempDir,
}

impl Browser {
    /// Opens a page.
    pub async fn at(page: &str) -> Self {
        let program = |name| xtask::packages::on_path(name).expect("Chromium is installed: make test installs it");
        let profile = TempDir::new().expect("a temporary folder");
        let port = xtask::postgres::free_port().expect("a free port");
        let driver = Command::new(program("chromedriver"))
            .arg(format!("--port={port}"))
            // What it starts is ended with it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let driver_url = format!("http://127.0.0.1:{port}");
        let mut browser = Self { session: driver_url.clone(), http: reqwest::Client::new(), driver, profile };
        browser.wait_until_up(&driver_url).await;
        let options = json!({
            "binary": program("chromium"),
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update",
                format!("--user-data-dir={}", browser.profile.path().display()),
            ],
        });
        let logged = json!({ "browser": "ALL" });
        let always = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": logged });
        let wanted = json!({ "capabilities": { "alwaysMatch": always } });
        let begun = browser.post("/session", wanted).await;
        browser.session = format!("{driver_url}/session/{}", begun["sessionId"].as_str().expect("a session"));
        browser.go(page).await;
        browser
    }

    /// Opens another page in place of this one.
    pub async fn go(&self, page: &str) {
        self.post("/url", json!({ "url": page })).await;
    }

    /// What the policies of pages have stopped since this was last asked.
    pub async fn stopped(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({ "type": "browser" })).await;
        let messages = entries.as_array().expect("entries").iter().filter_map(|entry| entry["message"].as_str());
        messages.filter(|message| message.contains("Content Security Policy")).map(str::to_owned).collect()
    }

    /// Plugs an authenticator in, as a laptop has it.
    pub async fn add_authenticator(&self) {
        let authenticator = json!({
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
            "isUserVerified": true,
        });
        self.post("/webauthn/authenticator", authenticator).await;
    }

    /// What `navigator.credentials.create()` or `.get()` gives on the page, as our own pages would ask and send it.
    pub async fn credential(&self, method: &str, options: &Value) -> Value {
        let script = "
            const [method, options, done] = arguments;
            const read = { create: 'parseCreationOptionsFromJSON', get: 'parseRequestOptionsFromJSON' }[method];
            Promise.resolve()
                .then(() => navigator.credentials[method]({ publicKey: PublicKeyCredential[read](options) }))
                .then(made => done({ made: made.toJSON() }), error => done({ failed: String(error) }));";
        let answer = self.post("/execute/async", json!({ "script": script, "args": [method, options] })).await;
        assert_eq!(answer.get("failed"), None, "{method}: {options}");
        answer["made"].clone()
    }

    /// Makes the page as wide as a phone shows it.
    pub async fn narrow(&self, width: u32) {
        let params = json!({ "width": width, "height": 640, "deviceScaleFactor": 1, "mobile": true });
        self.post("/goog/cdp/execute", json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": params })).await;
    }

    /// What a script in the page gives.
    pub async fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Types into the field of that name, in place of what stands there.
    pub async fn fill(&self, name: &str, text: &str) {
        let field = self.element(&format!("[name={name}]")).await;
        self.post(&format!("/element/{field}/clear"), json!({})).await;
        self.post(&format!("/element/{field}/value"), json!({ "text": text })).await;
    }

    /// Presses what the selector finds, and waits until the page that follows is there.
    pub async fn press(&self, selector: &str) {
        self.script("document.documentElement.dataset.left = 'behind'").await;
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
        let arrived = "return document.readyState === 'complete' && !document.documentElement.dataset.left";
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..1_000 {
            tries.tick().await;
            // Between two pages there is nothing to ask.
            let answer = self.ask("/execute/sync", json!({ "script": arrived, "args": [] })).await;
            if answer.is_ok_and(|arrived| arrived == true) {
                return;
            }
        }
        panic!("no page follows {selector}");
    }

    async fn element(&self, selector: &str) -> String {
        let found = self.post("/element", json!({ "using": "css selector", "value": selector })).await;
        let (_, id) = found.as_object().and_then(|found| found.iter().next()).expect("an element");
        id.as_str().expect("its id").to_owned()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(path, body).await.unwrap_or_else(|refused| panic!("{path}: {refused}"))
    }

    /// What the driver answers, or why it does not do it.
    async fn ask(&self, path: &str, body: Value) -> Result<Value, Value> {
        let response = self.http.post(format!("{}{path}", self.session)).json(&body).send().await.expect("an answer");
        let (status, answer) = (response.status(), response.json::<Value>().await.expect("JSON"));
        if status.is_success() { Ok(answer["value"].clone()) } else { Err(answer) }
    }

    async fn wait_until_up(&mut self, driver_url: &str) {
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..500 {
            tries.tick().await;
            if self.http.get(format!("{driver_url}/status")).send().await.is_ok() {
                return;
            }
        }
        panic!("chromedriver did not come up");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.driver.wait();
    }
}
