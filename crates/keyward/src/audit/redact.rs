//! What is never kept in clear: values under telling names, and texts that hold keys, tokens, passwords or private keys.

use std::borrow::Cow;
use std::sync::LazyLock;

use keyward_core::key::{Shape, shape};
use regex::{Captures, Regex};
use serde_json::{Number, Value};

const REDACTED: &str = "[redacted]";

/// A name that has one of these in it, whatever its case and its `_`, `-` and `.`, names a secret.
const SECRET_PARTS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "apikey",
    "privatekey",
    "accesskey",
    "credential",
    "cookie",
];
/// A name that is one of these does.
const SECRET_NAMES: [&str; 7] = ["pwd", "auth", "authentication", "pin", "otp", "totp", "cvv"];

/// How tokens of well-known makers begin. Shorter texts than `SHORTEST_TOKEN` are none of them.
const TOKEN_PREFIXES: [&str; 16] = [
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "AKIA",
    "AIza",
    "npm_",
    "pypi-",
    "hf_",
];
const SHORTEST_TOKEN: usize = 16;
/// Shorter than this is no key and no token.
const SHORTEST: usize = 8;

macro_rules! pattern {
    ($($(#[$meta:meta])* $name:ident = $text:expr;)*) => {$(
        $(#[$meta])*
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($text).expect("it is a pattern"));
    )*};
}

pattern! {
    PRIVATE_KEY = r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)";
    /// What follows the name of a scheme (RFC 9110, 11.4), if it is long enough to be no word.
    SCHEME = r"\b([Bb]earer|[Bb]asic|BEARER|BASIC)(\s+)[A-Za-z0-9._~+/=-]{8,}";
    /// `name=value`, `name: value`, `"name":"value"`.
    NAMED = r#"([A-Za-z0-9_.-]+)("?\s*[=:]\s*"?)([^\s"'&;,(){}\[\]]+)"#;
    /// `scheme://user:password@host`.
    USER_INFO = r"(://[^/\s:@]*):[^/\s@]+@";
}

fn names_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(|letter| !"_-.".contains(*letter)).flat_map(char::to_lowercase).collect();
    SECRET_PARTS.iter().any(|part| plain.contains(part)) || SECRET_NAMES.contains(&plain.as_str())
}

/// Takes secrets out of details. Makes -0.0 zero: the two are one number in JSON, and not every database keeps them apart.
pub(super) fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if names_secret(name) && !value.is_null() {
                    *value = REDACTED.into();
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) => {
            if let Cow::Owned(clean) = clean(text) {
                *text = clean;
            }
        }
        Value::Number(number) if number.as_f64() == Some(0.0) => *number = Number::from(0),
        _ => {}
    }
}

/// The text without its secrets.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    // Most texts are short words; they cannot hold a secret.
    let is_told = text.contains(['=', ':']) || text.contains("earer ") || text.contains("asic ");
    if !is_told && text.len() < SHORTEST && !text.contains("EARER ") {
        return Cow::Borrowed(text);
    }
    let mut clean = Cow::Borrowed(text);
    if text.contains("PRIVATE KEY") {
        replace(&mut clean, &PRIVATE_KEY, |_| REDACTED.to_owned());
    }
    if ["earer", "asic", "EARER", "ASIC"].iter().any(|scheme| text.contains(scheme)) {
        replace(&mut clean, &SCHEME, |found| format!("{}{}{REDACTED}", &found[1], &found[2]));
    }
    if text.contains("://") {
        replace(&mut clean, &USER_INFO, |found| format!("{}:{REDACTED}@", &found[1]));
    }
    if text.contains(['=', ':']) {
        let whole = |found: &Captures<'_>| found[0].to_owned();
        let is_scheme = |value: &str| ["bearer", "basic"].contains(&value.to_lowercase().as_str());
        replace(&mut clean, &NAMED, |found| match names_secret(&found[1]) && !is_scheme(&found[3]) {
            true => format!("{}{}{REDACTED}", &found[1], &found[2]),
            false => whole(found),
        });
    }
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    if clean.split(|letter| !is_part(letter)).any(is_token) {
        let mut kept = String::with_capacity(clean.len());
        for piece in clean.split_inclusive(|letter| !is_part(letter)) {
            let word = piece.trim_end_matches(|letter| letter == '.' || !is_part(letter));
            kept.push_str(if is_token(word) { REDACTED } else { word });
            kept.push_str(&piece[word.len()..]);
        }
        clean = Cow::Owned(kept);
    }
    clean
}

fn replace(text: &mut Cow<'_, str>, pattern: &Regex, with: impl Fn(&Captures<'_>) -> String) {
    if let Cow::Owned(replaced) = pattern.replace_all(text, with)
        && replaced != **text
    {
        *text = Cow::Owned(replaced);
    }
}

/// One of our keys, a JWT (RFC 7519), or a token of a well-known maker.
fn is_token(word: &str) -> bool {
    let word = word.trim_matches('.');
    word.len() >= SHORTEST
        && (word.starts_with("eyJ") && word.matches('.').count() >= 2
            || shape(word) == Some(Shape::Own)
            || word.len() >= SHORTEST_TOKEN && TOKEN_PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_secret_is_kept_in_clear() {
        let key = keyward_core::key::generate("kw", "live", keyward_core::key::Style::Checksummed);
        let mut details = json!({
            "Password": "x", "nested": { "access-token": 7, "list": [format!("used {}, twice", key.expose()), "eyJh.b.c"] },
            "pem": "-----BEGIN PRIVATE KEY-----\nabc", "plain": "nothing to hide", "token": null, "X-Api.Key": [1], "pin": 1234,
            "Authentication": "x", "spin": 3, "zero": -0.0,
        });
        redact(&mut details);
        assert_eq!(
            details,
            json!({
                "Password": REDACTED, "nested": { "access-token": REDACTED, "list": ["used [redacted], twice", REDACTED] },
                "pem": REDACTED, "plain": "nothing to hide", "token": null, "X-Api.Key": REDACTED, "pin": REDACTED,
                "Authentication": REDACTED, "spin": 3, "zero": 0,
            })
        );
    }

    #[test]
    fn texts_lose_their_secrets_and_nothing_else() {
        let key = keyward_core::key::generate("kw", "live", keyward_core::key::Style::Checksummed);
        let key = key.expose();
        let check =
            |text: &str, expected: &str| assert_eq!(clean(&text.replace("%KEY%", key)), expected.replace("%KEY%", key));
        for text in [
            "",
            "upload",
            "the token has expired",
            "a bearer of news came",
            "12:30: a=b",
            "https://example.com/a?page=2",
            "key_01k0",
        ] {
            check(text, text);
        }
        check("%KEY%", REDACTED);
        check("(%KEY%)", "([redacted])");
        check("key=%KEY%.", "key=[redacted].");
        check("GET /v1?a=1&api_key=%KEY%&b=2", "GET /v1?a=1&api_key=[redacted]&b=2");
        check("https://example.com/%KEY%/x", "https://example.com/[redacted]/x");
        check("Authorization: Bearer abc.DEF-123_x failed", "Authorization: Bearer [redacted] failed");
        check("authorization=hunter2; next", "authorization=[redacted]; next");
        check(r#"{"password":"hunter2","a":1}"#, r#"{"password":"[redacted]","a":1}"#);
        check("postgres://app:hunter2@db/x", "postgres://app:[redacted]@db/x");
        check("curl -u ghp_0123456789abcdefABCDEF", "curl -u [redacted]");
        check("x-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----y", "x[redacted]y");
    }
}
