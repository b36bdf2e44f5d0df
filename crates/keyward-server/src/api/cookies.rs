//! Cookies of people who sign in with a browser. Each is `__Host-`: of this host alone, over HTTPS alone, for every path.

use http::{HeaderMap, HeaderName, HeaderValue, header};

pub const ACCESS: &str = "__Host-keyward_access";
pub const REFRESH: &str = "__Host-keyward_refresh";
pub const CSRF: &str = "__Host-keyward_csrf";
pub const DEVICE: &str = "__Host-keyward_device";
/// What a browser keeps while its owner is at the identity provider.
pub const PROVIDER: &str = "__Host-keyward_provider";
/// A sign-in by the provider that waits for the second factor.
pub const LOGIN: &str = "__Host-keyward_login";
/// The token of a link that was opened, so that it does not stay in the address.
pub const LINK: &str = "__Host-keyward_link";
/// Asks for cookies instead of tokens.
pub const CLIENT: HeaderName = HeaderName::from_static("x-keyward-client");

/// Whether the caller is a browser that keeps its tokens in cookies.
pub fn is_browser(headers: &HeaderMap) -> bool {
    headers.get(CLIENT).is_some_and(|value| value == "browser")
}

/// The value of a cookie. Of two with the same name neither is believed.
pub fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
    let first = found.next().filter(|value| !value.is_empty());
    if found.next().is_some() { None } else { first }
}

/// `Set-Cookie` for a value that scripts cannot read.
pub fn set(name: &str, value: &str, seconds: i64) -> HeaderValue {
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    HeaderValue::from_str(&text).expect("tokens are visible ASCII")
}

/// `Set-Cookie` that ends a cookie.
pub fn clear(name: &str) -> HeaderValue {
    set(name, "", 0)
}
