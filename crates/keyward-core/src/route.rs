//! Allowed routes of a key: `GET /invoices/*`. A `*` is one path segment, at the end all that follow; the method may
//! be `*`. Paths that could mean another route to the server behind (dot segments, encoded slashes, empty segments)
//! match nothing.

/// Longest pattern, in bytes.
pub const MAX_LEN: usize = 512;

/// Whether `text` is a pattern: a method in capitals or `*`, one space, a path that begins with `/`.
pub fn is_valid(text: &str) -> bool {
    text.len() <= MAX_LEN
        && text.split_once(' ').is_some_and(|(method, path)| {
            (method == "*" || !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase()))
                && path.starts_with('/')
                && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'%'))
                && plain_segments(path)
                && path.split('/').all(|segment| segment == "*" || !segment.contains('*'))
        })
}

/// Whether the pattern covers a request. `path` may carry a query, which is left out.
pub fn covers(pattern: &str, method: &str, path: &str) -> bool {
    let Some((wanted_method, wanted_path)) = pattern.split_once(' ') else { return false };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if wanted_method != "*" && wanted_method != method || !is_plain(path) {
        return false;
    }
    let mut have = wanted_path.split('/').peekable();
    let mut want = path.split('/');
    while let Some(segment) = have.next() {
        let Some(asked) = want.next() else { return false };
        if segment == "*" && have.peek().is_none() {
            return !asked.is_empty();
        }
        if segment != "*" && segment != asked || segment == "*" && asked.is_empty() {
            return false;
        }
    }
    want.next().is_none()
}

/// The parts of a path under which calls are summed up: without the query, and with `{id}` in the place of every segment
/// that looks like an identifier. `/invoices/18/lines?x=1` gives `invoices`, `{id}`, `lines`.
pub fn parts(path: &str) -> impl Iterator<Item = &str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let parts = path.strip_prefix('/').unwrap_or(path).split('/');
    parts.map(|part| if is_identifier(part) { "{id}" } else { part })
}

/// Only digits; or long and with a digit in it: a UUID, a TypeID, a hash.
fn is_identifier(part: &str) -> bool {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    digits > 0 && (digits == part.len() || part.len() >= 16)
}

/// A path that every server reads alike.
fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    path.starts_with('/')
        && plain_segments(path)
        && !["%2f", "%5c", "%2e", "%00", "%25", "\\", ";"].iter().any(|trick| lower.contains(trick))
}

/// No empty segment but the last, and no dot segment (RFC 3986, 5.2.4).
fn plain_segments(path: &str) -> bool {
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment == "." || segment == ".." || segment.is_empty() && segments.peek().is_some() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, covered: &[&str], refused: &[&str]) {
        assert!(is_valid(pattern), "{pattern}");
        for (list, expected) in [(covered, true), (refused, false)] {
            for request in list {
                let (method, path) = request.split_once(' ').unwrap();
                assert_eq!(covers(pattern, method, path), expected, "{pattern} against {request}");
            }
        }
    }

    #[test]
    fn patterns() {
        check(
            "GET /invoices/*",
            &["GET /invoices/1", "GET /invoices/1/lines", "GET /invoices/1?x=/../y"],
            &["GET /invoices", "GET /invoices/", "POST /invoices/1", "GET /orders/1"],
        );
        check("* /a/*/c", &["PUT /a/b/c"], &["PUT /a/c", "PUT /a/b/d", "PUT /a/b/c/d"]);
        check("GET /", &["GET /"], &["GET /a"]);
    }

    #[test]
    fn paths_that_two_servers_read_differently_match_nothing() {
        check(
            "GET /public/*",
            &[],
            &[
                "GET /public/../admin",
                "GET /public/%2e%2e/admin",
                "GET /public//admin",
                "GET /public/a%2fb",
                "GET /public/a;b",
                "GET public/a",
                "GET /public/./a",
                "GET /public/..;/a",
            ],
        );
    }

    #[test]
    fn parts_that_name_one_thing_are_told_as_one() {
        for (path, expected) in [
            ("/v1/invoices/18/lines?x=1", "v1/invoices/{id}/lines"),
            ("/k/key_01h455vb4pex5vsknk084sn02q", "k/{id}"),
            ("/u/01890a5d-ac96-774b-bcce-b302099a8057#a", "u/{id}"),
            ("/chat/completions/", "chat/completions/"),
            ("/organizations-and-members", "organizations-and-members"),
            ("", ""),
        ] {
            assert_eq!(parts(path).collect::<Vec<_>>().join("/"), expected, "{path}");
        }
    }

    #[test]
    fn shape() {
        for bad in ["", "GET", "GET invoices", "get /a", "GET /a b", "GET /a*", "GET /../a", "GET /a?b", "/a"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
