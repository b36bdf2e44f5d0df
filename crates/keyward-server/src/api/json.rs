//! JSON bodies, read strictly: duplicate names, texts that no store takes, and unknown fields are refused with a pointer.

mod objects;

use std::fmt;

use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use keyward::Error;
use keyward_core::problem::{Code, FieldFault};
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::app::SharedApp;
use crate::hot::fields::Fields;
use crate::problem::Problem;
use objects::Objects;

/// A JSON body of the given form.
pub struct Json<T>(pub T);

/// A JSON body that may be left out.
pub struct OptionalJson<T>(pub T);

/// The body of a call that takes none; `{}` may be sent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<T: DeserializeOwned> FromRequest<SharedApp> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &SharedApp) -> Result<Self, Problem> {
        require_media_type(request.headers())?;
        let bytes = read_body(request, app).await?;
        typed(&strict(&bytes)?).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<SharedApp> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &SharedApp) -> Result<Self, Problem> {
        let media_type = require_media_type(request.headers());
        let bytes = read_body(request, app).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        media_type?;
        typed(&strict(&bytes)?).map(Self)
    }
}

/// Stands before routes that take no body: a field that is sent nevertheless is refused as any unknown one (statement A-06).
pub async fn take_nothing(State(app): State<SharedApp>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match OptionalJson::<Nothing>::from_request(Request::from_parts(parts.clone(), body), &app).await {
        Ok(_) => next.run(Request::from_parts(parts, Body::empty())).await,
        Err(problem) => problem.into_response(),
    }
}

/// A large JSON body of the given form, read straight into it; whoever takes it looks at its texts, one by one.
pub struct LargeJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<SharedApp> for LargeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &SharedApp) -> Result<Self, Problem> {
        let JsonText(bytes) = JsonText::from_request(request, app).await?;
        match serde_json::from_slice(&bytes) {
            Ok(body) => Ok(Self(body)),
            // Read again, slowly, to say what is wrong with it.
            Err(_) => typed(&strict(&bytes)?).map(Self),
        }
    }
}

/// A JSON body that is not yet read.
pub struct JsonText(pub Bytes);

impl FromRequest<SharedApp> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &SharedApp) -> Result<Self, Problem> {
        require_media_type(request.headers())?;
        read_body(request, app).await.map(Self)
    }
}

/// Reads a body straight into its form; `None` when anything may be wrong with it. Free objects in it need `object`.
pub fn at_once<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(bytes).ok()?;
    if text.contains("\\u0000") {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Reads a free object as strictly as a whole body.
pub fn object<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    match Strict.deserialize(deserializer)? {
        Value::Object(map) => Ok(map),
        _ => Err(serde::de::Error::custom("must be an object")),
    }
}

/// The whole body, within the size and the time that the settings allow.
pub async fn read_body(request: Request, app: &SharedApp) -> Result<Bytes, Problem> {
    let settings = &app.keyward.settings.server;
    let too_large =
        || Problem::new(Code::TooLarge, format!("The body may have at most {} bytes.", settings.body_limit_bytes));
    let declared =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > settings.body_limit_bytes as u64) {
        return Err(too_large());
    }
    let time = std::time::Duration::from_secs(settings.read_timeout_seconds);
    let read = axum::body::to_bytes(request.into_body(), settings.body_limit_bytes);
    match tokio::time::timeout(time, read).await {
        Err(_) => Err(Problem::plain(Code::RequestTimeout)),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(Code::MalformedRequest, format!("The body could not be read: {error}"))),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Refuses a body that does not say that it is JSON.
pub fn require_media_type(fields: &impl Fields) -> Result<(), Problem> {
    let media_type = fields.first(&header::CONTENT_TYPE);
    let is_json = media_type.is_some_and(|bytes| {
        let end = bytes.iter().position(|byte| *byte == b';').unwrap_or(bytes.len());
        bytes[..end].trim_ascii().eq_ignore_ascii_case(b"application/json")
    });
    if is_json { Ok(()) } else { Err(Problem::plain(Code::UnsupportedMediaType)) }
}

/// Reads JSON text and refuses what two readers could understand differently.
pub fn strict(bytes: &[u8]) -> Result<Value, Problem> {
    let malformed =
        |error: serde_json::Error| Problem::new(Code::MalformedRequest, format!("The body is not JSON: {error}."));
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut reader).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(value)
}

/// Gives a value its form; a fault points at the field.
pub fn typed<'a, T: Deserialize<'a>>(value: &'a Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Objects(value)).map_err(|error| {
        let mut pointer: String = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Seq { index } => Some(format!("/{index}")),
                serde_path_to_error::Segment::Map { key } => {
                    Some(format!("/{}", key.replace('~', "~0").replace('/', "~1")))
                }
                _ => None,
            })
            .collect();
        let message = error.into_inner().to_string();
        let named = |prefix: &str| Some(message.strip_prefix(prefix)?.split('`').next()?.to_owned());
        let (code, detail) = if let Some(field) = named("unknown field `") {
            if !pointer.ends_with(&format!("/{field}")) {
                pointer = format!("{pointer}/{field}");
            }
            (Code::UnknownField, "is not a known field".to_owned())
        } else if let Some(field) = named("missing field `") {
            pointer = format!("{pointer}/{field}");
            (Code::InvalidField, "is required".to_owned())
        } else {
            (Code::InvalidField, plain_words(&message))
        };
        Error::fields(code, vec![FieldFault { pointer, detail }]).into()
    })
}

/// What serde says, without the words of this program's language.
fn plain_words(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        other => other,
    };
    let found = found.replace("type: sequence", "type: list").replace("type: map", "type: object");
    format!("{found}, expected {expected}")
}

/// Builds a `Value`, refusing duplicate names and texts with NUL.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        if text.contains('\0') { Err(E::custom("a text contains U+0000")) } else { Ok(text.into()) }
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        use serde::de::Error as _;
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if name.contains('\0') || map.contains_key(&name) {
                return Err(A::Error::custom(format!("the name {name:?} stands there twice or contains U+0000")));
            }
            let value = entries.next_value_seed(Strict)?;
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

/// Reads a field that may be left out, given, or set to null: `None`, `Some(Some(_))`, `Some(None)`.
pub fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Reads a field that may be left out, but not set to null.
pub fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads a field that may be left out; null empties it.
pub fn or_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::<T>::deserialize(deserializer).map(|value| Some(value.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Form {
        name: String,
        list: Vec<Inner>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        count: u32,
    }

    fn check(text: &str, status: u16, pointer: Option<&str>) {
        let problem = strict(text.as_bytes()).and_then(|value| typed::<Form>(&value)).unwrap_err();
        assert_eq!(problem.0.code.status(), status, "{text}: {problem:?}");
        assert_eq!(problem.0.faults.first().map(|fault| fault.pointer.as_str()), pointer, "{text}");
    }

    #[test]
    fn faults_point_at_the_field() {
        check(r#"{"name":"a","list":[{"count":1},{"count":-1}]}"#, 422, Some("/list/1/count"));
        check(r#"{"name":"a","list":[{"count":1,"more":2}]}"#, 422, Some("/list/0/more"));
        check(r#"{"name":"a"}"#, 422, Some("/list"));
        check(r#"{"name":"a","list":[],"role":"owner"}"#, 422, Some("/role"));
        check(r#"["a",[]]"#, 422, Some(""));
        check(r#"{"name":"a","list":[[1]]}"#, 422, Some("/list/0"));
    }

    #[test]
    fn faults_are_told_without_the_words_of_the_program() {
        let told = |text: &str| typed::<Form>(&strict(text.as_bytes()).unwrap()).unwrap_err().0.detail.clone();
        assert_eq!(told("[]"), "The body must be an object");
        assert_eq!(told(r#"{"name":[],"list":[]}"#), "/name invalid type: list, expected a string");
        assert_eq!(
            told(r#"{"name":"a","list":[{"count":-1}]}"#),
            "/list/0/count invalid value: integer `-1`, expected a whole number of at least 0"
        );
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for text in [
            "",
            "{",
            r#"{"name":"a","name":"b","list":[]}"#,
            r#"{"name":"a\u0000b","list":[]}"#,
            r#"{"name":"\ud800","list":[]}"#,
            r#"{"name":NaN,"list":[]}"#,
            r#"{"name":"a","list":[]} x"#,
            &"[".repeat(10_000),
        ] {
            check(text, 400, None);
        }
        assert!(strict(b"{\"a\":\"\xff\"}").is_err());
    }
}
