//! Where a request carries its key: `Authorization: Bearer`, then one header of the operator's choice. Never the query,
//! which ends up in logs. What the key is worth is not decided here.

use http::{HeaderMap, HeaderName, HeaderValue, header};

pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The presented key, if there is one.
pub fn presented<'a>(headers: &'a HeaderMap, key_header: &HeaderName) -> Option<&'a str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(bearer);
    bearer.or_else(|| headers.get(key_header)?.to_str().ok())
}

/// The token of `Bearer …` (RFC 6750, 2.1); the scheme's case does not matter.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[(&'static str, &'static str)], expected: Option<&str>) {
        let lines = lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        assert_eq!(presented(&lines.collect(), &X_API_KEY), expected);
    }

    #[test]
    fn bearer_comes_first_and_other_schemes_do_not_count() {
        check(&[], None);
        check(&[("authorization", "Bearer one")], Some("one"));
        check(&[("authorization", "bearer  one ")], Some("one"));
        check(&[("authorization", "Bearer one"), ("x-api-key", "two")], Some("one"));
        check(&[("authorization", "Basic b25l"), ("x-api-key", "two")], Some("two"));
        check(&[("authorization", "Bearer")], None);
        check(&[("x-api-key", "two")], Some("two"));
    }
}
