//! Requests to a node and their answers.

use http::Method;
use reqwest::RequestBuilder;
use serde_json::Value;

use super::Node;

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    /// Null when the body is not JSON.
    pub json: Value,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("the server answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body in UTF-8");
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, json }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header in ASCII"))
    }

    /// The `code` of a problem or verdict.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// What it sets as cookies.
    pub fn cookies(&self) -> Vec<String> {
        let set = self.headers.get_all("set-cookie").iter();
        set.map(|cookie| cookie.to_str().expect("a header in ASCII").to_owned()).collect()
    }

    /// The pointer of the first field at fault.
    pub fn pointer(&self) -> &str {
        self.json["errors"][0]["pointer"].as_str().unwrap_or_default()
    }
}

impl Node {
    /// A request without a credential.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub fn request_as(&self, credential: &str, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(credential)
    }

    pub async fn call_as(&self, credential: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.request_as(credential, method, path);
        Answer::of(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call_as(&self.service_key, Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call_as(&self.service_key, Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call_as(&self.service_key, Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call_as(&self.service_key, Method::DELETE, path, None).await
    }
}
