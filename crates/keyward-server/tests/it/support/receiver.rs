//! Other systems on loopback that take events by HTTP: Splunk, Elasticsearch, Datadog, and anything that takes JSON lines. Each is
//! as strict about what it is sent as the product's documentation, and can be told to answer what products answer on bad days.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Node;

pub const TOKEN: &str = "t0ken-that-nobody-may-see";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    Splunk,
    Elasticsearch,
    Datadog,
    JsonLines,
}

/// What it says instead of taking a batch: status, Retry-After, body.
pub type Mood = (u16, Option<&'static str>, String);

/// What a line meets, by its status; 200 is taken.
type Judge = Box<dyn Fn(&Value) -> u16 + Send>;

pub struct Receiver {
    pub url: String,
    seen: Arc<Seen>,
}

struct Seen {
    product: Product,
    moods: Mutex<VecDeque<Mood>>,
    judge: Mutex<Judge>,
    /// More lines in one batch are answered 413.
    most: Mutex<usize>,
    ids: Mutex<BTreeMap<String, Value>>,
    faults: Mutex<Vec<String>>,
    requests: watch::Sender<usize>,
    lines: watch::Sender<Vec<Value>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding")
}

impl Receiver {
    pub async fn start(product: Product) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Seen {
            product,
            moods: Mutex::default(),
            judge: Mutex::new(Box::new(|_| 200)),
            most: Mutex::new(usize::MAX),
            ids: Mutex::default(),
            faults: Mutex::default(),
            requests: watch::channel(0).0,
            lines: watch::channel(Vec::new()).0,
        });
        let router = Router::new().fallback(receive).with_state(seen.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    /// The next batches are answered so.
    pub fn will_answer(&self, moods: impl IntoIterator<Item = Mood>) {
        locked(&self.seen.moods).extend(moods);
    }

    pub fn judges(&self, judge: impl Fn(&Value) -> u16 + Send + 'static) {
        *locked(&self.seen.judge) = Box::new(judge);
    }

    pub fn takes_at_most(&self, lines: usize) {
        *locked(&self.seen.most) = lines;
    }

    /// Every line that it took, in the order in which it took them.
    pub fn lines(&self) -> Vec<Value> {
        self.seen.lines.borrow().clone()
    }

    pub fn requests(&self) -> usize {
        *self.seen.requests.borrow()
    }

    /// Nudges the node until the receiver has what is wanted. Nothing that it was sent may have been wrong.
    pub async fn get(&self, node: &Node, has: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let lines = wait_for(node, &self.seen.lines, has).await;
        assert_eq!(*locked(&self.seen.faults), Vec::<String>::new());
        lines
    }

    /// Waits for a request beyond so many, without a nudge.
    pub async fn asked(&self, beyond: usize) {
        let mut requests = self.seen.requests.subscribe();
        let more = requests.wait_for(|count| *count > beyond);
        timeout(Duration::from_secs(10), more).await.expect("a request comes").expect("it runs");
    }
}

/// Nudges the node until the lines fit.
pub async fn wait_for(node: &Node, lines: &watch::Sender<Vec<Value>>, has: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut seen = lines.subscribe();
    for _ in 0..200 {
        node.app.keyward.audit.sequence().await.expect("events are numbered");
        node.app.keyward.sinks.nudge();
        let fits = seen.wait_for(|lines| has(lines));
        if let Ok(fits) = timeout(Duration::from_millis(50), fits).await {
            return fits.expect("it runs").clone();
        }
    }
    panic!("what was waited for never came: {:#?}", lines.borrow().iter().rev().take(3).collect::<Vec<_>>());
}

/// The sequences of the events among lines in ECS.
pub fn sequences(lines: &[Value]) -> Vec<i64> {
    lines.iter().filter_map(|line| line["event"]["sequence"].as_i64()).collect()
}

async fn receive(State(seen): State<Arc<Seen>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let answer = answer(&seen, &uri, &headers, &body);
    seen.requests.send_modify(|count| *count += 1);
    let (status, wait, text) = answer.unwrap_or_else(|fault| {
        locked(&seen.faults).push(fault);
        (500, None, String::new())
    });
    let status = StatusCode::from_u16(status).expect("a status");
    let mut response = (status, text).into_response();
    if let Some(wait) = wait {
        response.headers_mut().insert("retry-after", wait.parse().expect("a header"));
    }
    if status.is_redirection() {
        response.headers_mut().insert("location", "/elsewhere".parse().expect("a header"));
    }
    response
}

fn answer(seen: &Seen, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Mood, String> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {uri} {headers:?}")) };
    let (path, name, credential, media) = match seen.product {
        Product::Splunk => {
            ("/services/collector/event", "authorization", format!("Splunk {TOKEN}"), "application/json")
        }
        Product::Elasticsearch => ("/_bulk", "authorization", format!("ApiKey {TOKEN}"), "application/x-ndjson"),
        Product::Datadog => ("/api/v2/logs", "dd-api-key", TOKEN.to_owned(), "application/json"),
        Product::JsonLines => ("/in", "authorization", format!("Bearer {TOKEN}"), "application/x-ndjson"),
    };
    must(uri.path() == path, "the path")?;
    must(header(name) == credential, "the credential")?;
    must(header("content-type") == media, "the media type")?;
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let items = read(seen.product, text)?;
    must(!items.is_empty() && items.len() <= 1_000 && body.len() <= 5_000_000, "the size of a batch")?;
    if let Some((status, wait, says)) = locked(&seen.moods).pop_front() {
        return Ok((status, wait, if says == "echo" { format!("{headers:?}") } else { says }));
    }
    if items.len() > *locked(&seen.most) {
        return Ok((413, None, "too much at once".into()));
    }
    let judge = locked(&seen.judge);
    if seen.product == Product::Elasticsearch {
        let told: Vec<Value> = items.into_iter().map(|(id, line)| create(seen, id, line, &**judge)).collect();
        let errors = told.iter().any(|item| item["create"]["status"] != 201);
        return Ok((200, None, json!({ "took": 1, "errors": errors, "items": told }).to_string()));
    }
    if let Some(status) = items.iter().map(|(_, line)| judge(line)).find(|status| *status != 200) {
        return Ok((status, None, json!({ "text": "Invalid data format", "code": 6 }).to_string()));
    }
    seen.lines.send_modify(|lines| lines.extend(items.into_iter().map(|(_, line)| line)));
    Ok(match seen.product {
        Product::Datadog => (202, None, "{}".into()),
        _ => (200, None, json!({ "text": "Success", "code": 0 }).to_string()),
    })
}

/// What one item of `_bulk` comes to.
fn create(seen: &Seen, id: String, line: Value, judge: &dyn Fn(&Value) -> u16) -> Value {
    let error = |status: u16, kind: &str| json!({ "create": { "_id": id, "status": status, "error": { "type": kind, "reason": "so it is" } } });
    match judge(&line) {
        200 if locked(&seen.ids).contains_key(&id) => error(409, "version_conflict_engine_exception"),
        200 => {
            locked(&seen.ids).insert(id.clone(), line.clone());
            seen.lines.send_modify(|lines| lines.push(line));
            json!({ "create": { "_id": id, "status": 201, "result": "created" } })
        }
        429 => error(429, "es_rejected_execution_exception"),
        status => error(status, "document_parsing_exception"),
    }
}

/// The lines of a body, each with the id that it is to have.
fn read(product: Product, text: &str) -> Result<Vec<(String, Value)>, String> {
    let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("{error}: {text}"));
    let plain = |line: Value| (String::new(), line);
    match product {
        Product::JsonLines => {
            let body = text.strip_suffix('\n').ok_or("the last line has no end")?;
            body.split('\n').map(|line| json(line).map(plain)).collect()
        }
        Product::Splunk => {
            let items = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            let line = |item: serde_json::Result<Value>| {
                let item = item.map_err(|error| error.to_string())?;
                let known = item["time"].is_f64() && item["sourcetype"] == "keyward:audit" && item["index"] == "main";
                if known { Ok(plain(item["event"].clone())) } else { Err(format!("no item of HEC: {item}")) }
            };
            items.map(line).collect()
        }
        Product::Datadog => {
            let logs: Vec<Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
            let line = |log: &Value| {
                let known = log["ddsource"] == "keyward" && log["service"] == "keyward" && log["status"].is_string();
                let message = log["message"].as_str().filter(|_| known).ok_or(format!("no log: {log}"))?;
                json(message).map(plain)
            };
            logs.iter().map(line).collect()
        }
        Product::Elasticsearch => {
            let body = text.strip_suffix('\n').ok_or("the last line has no end")?;
            let lines: Vec<&str> = body.split('\n').collect();
            let pair = |pair: &[&str]| {
                let (action, line) = (json(pair[0])?, json(pair.get(1).ok_or("an action without a document")?)?);
                let id = action["create"]["_id"].as_str().filter(|_| action["create"]["_index"] == "logs-keyward");
                let id = id.filter(|_| line["@timestamp"].is_string());
                Ok((id.ok_or(format!("no action of create: {action}"))?.to_owned(), line))
            };
            lines.chunks(2).map(pair).collect()
        }
    }
}
