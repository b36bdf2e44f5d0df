//! Which requests the lane takes: those for the two hot routes about whose form nobody could have a second opinion. It
//! refuses nothing; what it does not take is for hyper to judge.

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use httparse::{Header, Request, Status};

use crate::hot::fields::{Fields, text};
use crate::hot::{FORWARD_AUTH_PATH, VERIFY_PATH};

/// Most header fields of a request that the lane takes.
const MAX_FIELDS: usize = 32;
/// Fields by which a request says how it is to be read or what becomes of the connection.
const FRAMING: [&str; 4] = ["transfer-encoding", "expect", "upgrade", "trailer"];

/// Where the fields of one request are put.
pub type Slots<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

pub const fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    Verify,
    ForwardAuth,
}

const ROUTES: [(Route, Method, &str, &[u8]); 2] = [
    (Route::ForwardAuth, Method::GET, FORWARD_AUTH_PATH, b"GET /v1/forward-auth"),
    (Route::Verify, Method::POST, VERIFY_PATH, b"POST /v1/api-keys/verify "),
];

impl Route {
    pub fn method(self) -> &'static Method {
        match self {
            Self::Verify => &Method::POST,
            Self::ForwardAuth => &Method::GET,
        }
    }
}

/// What the bytes at hand begin with.
pub enum Step<'h, 'b> {
    /// A whole request for the lane.
    Asked(Head<'h, 'b>),
    /// The beginning of what may become one.
    More,
    /// A request for hyper, or what is none.
    Other,
}

/// A whole request.
pub struct Head<'h, 'b> {
    pub route: Route,
    pub query: Option<&'b str>,
    pub fields: Lines<'h, 'b>,
    pub body: &'b [u8],
    /// Its bytes, with those of the body.
    pub len: usize,
}

/// Header fields as they came.
pub struct Lines<'h, 'b> {
    lines: &'h [Header<'b>],
    lengths: Lengths,
}

/// Which lengths the names of fields have, a bit for each: most names that are looked for are not there, and few that are there
/// are as long.
#[derive(Default)]
struct Lengths(u64);

impl Lengths {
    fn add(&mut self, name: &str) {
        self.0 |= Self::bit(name);
    }

    fn may_have(&self, name: &str) -> bool {
        self.0 & Self::bit(name) != 0
    }

    /// Names of 63 and more share one.
    fn bit(name: &str) -> u64 {
        1 << name.len().min(63)
    }
}

impl Fields for Lines<'_, '_> {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str();
        if !self.lengths.may_have(name) {
            return None;
        }
        self.lines.iter().find(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        // All of the head was seen to be ASCII.
        std::str::from_utf8(self.first(name)?).ok()
    }

    fn every<'a>(&'a self, name: &HeaderName) -> Vec<&'a [u8]> {
        let lines = self.lines.iter().filter(|line| line.name.eq_ignore_ascii_case(name.as_str()));
        lines.map(|line| line.value).collect()
    }

    fn to_map(&self) -> HeaderMap {
        let lines = self.lines.iter();
        lines.filter_map(|line| Some((line.name.parse().ok()?, HeaderValue::from_bytes(line.value).ok()?))).collect()
    }
}

/// Looks at the bytes at hand.
pub fn read<'h, 'b>(held: &'b [u8], slots: &'h mut Slots<'b>) -> Step<'h, 'b> {
    let Some((route, method, path, _)) = ROUTES.iter().find(|(.., start)| held.starts_with(start)) else {
        let may_become = ROUTES.iter().any(|(.., start)| start.starts_with(held));
        return if may_become { Step::More } else { Step::Other };
    };
    let mut request = Request::new(&mut []);
    let head_len = match request.parse_with_uninit_headers(held, slots) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Step::More,
        Err(_) => return Step::Other,
    };
    let target = request.path.unwrap_or_default();
    let (found, query) = match target.bytes().position(|byte| byte == b'?') {
        Some(end) => (&target[..end], Some(&target[end + 1..])),
        None => (target, None),
    };
    // The parser takes no control character in a field but a tab: of what it took, ASCII is text.
    let is_plain = found == *path
        && request.method == Some(method.as_str())
        && request.version == Some(1)
        && query.is_none_or(|query| *route == Route::ForwardAuth && is_plain_query(query))
        && held[..head_len].is_ascii()
        && has_whole_line_ends(&held[..head_len], request.headers);
    let mut lengths = Lengths::default();
    let Some(body_len) = body_len(request.headers, *route, &mut lengths).filter(|_| is_plain) else {
        return Step::Other;
    };
    // A body that did not come along is waited for as hyper does.
    let Some(body) = held.get(head_len..head_len + body_len) else { return Step::Other };
    Step::Asked(Head {
        route: *route,
        query,
        fields: Lines { lines: request.headers, lengths },
        body,
        len: head_len + body_len,
    })
}

/// The length of the body, if every field is plain: none changes how the request is read. Notes the lengths of names.
fn body_len(lines: &[Header<'_>], route: Route, lengths: &mut Lengths) -> Option<usize> {
    let mut body_len = None;
    for line in lines {
        lengths.add(line.name);
        if FRAMING.iter().any(|name| line.name.eq_ignore_ascii_case(name)) {
            return None;
        } else if line.name.eq_ignore_ascii_case("connection") {
            line.value.eq_ignore_ascii_case(b"keep-alive").then_some(())?;
        } else if line.name.eq_ignore_ascii_case("content-length") {
            let is_number = (1..=5).contains(&line.value.len()) && line.value.iter().all(u8::is_ascii_digit);
            if body_len.is_some() || !is_number {
                return None;
            }
            body_len = Some(text(line.value)?.parse().ok()?);
        }
    }
    match route {
        Route::Verify => body_len,
        Route::ForwardAuth => body_len.is_none().then_some(0),
    }
}

/// Every line ends with CR LF; readers that take a bare LF for an end could see other lines. The parser takes no folded line, so
/// what stands before a field is the end of the line before it.
fn has_whole_line_ends(head: &[u8], lines: &[Header<'_>]) -> bool {
    let before = |line: &Header<'_>| head.get(..line.name.as_ptr().addr().checked_sub(head.as_ptr().addr())?);
    head.ends_with(b"\r\n\r\n") && lines.iter().all(|line| before(line).is_some_and(|before| before.ends_with(b"\r\n")))
}

/// Letters that stand in a query as they are (RFC 3986).
fn is_plain_query(query: &str) -> bool {
    query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The route, query and body that the lane takes from the bytes; or why it does not.
    fn taken(bytes: &str) -> Result<(Route, Option<String>, String, usize), &'static str> {
        match read(bytes.as_bytes(), &mut slots()) {
            Step::Asked(head) => {
                let body = String::from_utf8(head.body.to_vec()).unwrap();
                Ok((head.route, head.query.map(str::to_owned), body, head.len))
            }
            Step::More => Err("more"),
            Step::Other => Err("other"),
        }
    }

    #[test]
    fn plain_requests_are_taken_one_after_the_other() {
        let get = "GET /v1/forward-auth?scope=a:b HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n";
        let post = "POST /v1/api-keys/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
        let expected = (Route::ForwardAuth, Some("scope=a:b".to_owned()), String::new(), get.len());
        assert_eq!(taken(&format!("{get}{post}")), Ok(expected));
        assert_eq!(taken(&format!("{post}{get}")), Ok((Route::Verify, None, "{}".to_owned(), post.len())));
        for end in 0..get.len() {
            assert_eq!(taken(&get[..end]), Err("more"), "{end}");
        }
    }

    #[test]
    fn fields_are_found_by_their_names() {
        let (long, value) = ("x".repeat(80), "y".repeat(70));
        let head = format!(
            "GET /v1/forward-auth HTTP/1.1\r\nHost:\r\nX-One: 1\r\nx-two: \t 2 \r\n{long}: {value}\r\nx-one: 3\r\n\r\n"
        );
        let mut slots = slots();
        let Step::Asked(Head { fields, .. }) = read(head.as_bytes(), &mut slots) else { panic!("it is plain") };
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).expect("a name");
        for (wanted, expected) in [
            ("host", Some("")),
            ("x-one", Some("1")),
            ("x-two", Some("2")),
            (&long, Some(value.as_str())),
            ("x-six", None),
            ("x-twos", None),
            (&"z".repeat(80), None),
        ] {
            assert_eq!(fields.text(&name(wanted)), expected, "{wanted}");
            assert_eq!(fields.first(&name(wanted)), expected.map(str::as_bytes), "{wanted}");
        }
        assert_eq!(fields.every(&name("x-one")), [b"1", b"3"]);
        assert_eq!(fields.to_map().len(), 5);
    }

    #[test]
    fn all_else_is_not() {
        for line in [
            "GET /v1/forward-auths HTTP/1.1",
            "GET /v1/forward-auth HTTP/1.0",
            "GET /v1/forward-auth HTTP/2.0",
            "GET /v1/forward-auth?a\"b HTTP/1.1",
            "GET /v1/forward-auth#x HTTP/1.1",
            "GET http://x/v1/forward-auth HTTP/1.1",
            "HEAD /v1/forward-auth HTTP/1.1",
            "get /v1/forward-auth HTTP/1.1",
            "POST /v1/api-keys/verify HTTP/1.1",
            "POST /v1/api-keys/verify?x HTTP/1.1\r\nContent-Length: 0",
            "POST /v1/api-keys/verify/batch HTTP/1.1",
            "\r\nGET /v1/forward-auth HTTP/1.1",
        ] {
            assert_eq!(taken(&format!("{line}\r\nHost: x\r\n\r\n")), Err("other"), "{line}");
        }
        for fields in [
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 2\r\n",
            "Content-Length: 99999\r\n",
            "Content-Length: 1\r\nExpect: 100-continue\r\n",
            "Content-Length: 1\r\nUpgrade: h2c\r\n",
            "Content-Length: 1\r\nConnection: close\r\n",
            "Content-Length: 1\r\nConnection: Upgrade\r\n",
            "Content-Length: 1\r\nX: a\r\n b\r\n",
            "Content-Length: 1\r\nX : a\r\n",
            "Content-Length: 1\r\nX: \u{fc}\r\n",
            "Content-Length: 1\nX: a\r\n",
            "Content-Length: 1\r\nX: a\rb\r\n",
        ] {
            assert_eq!(taken(&format!("POST /v1/api-keys/verify HTTP/1.1\r\n{fields}\r\n1")), Err("other"), "{fields}");
        }
        let get = "GET /v1/forward-auth HTTP/1.1\r\n";
        for byte in 0..=u8::MAX {
            let is_text = matches!(byte, b'\t' | b' '..=b'~');
            let head = [get.as_bytes(), b"X: a", &[byte], b"b\r\n\r\n"].concat();
            assert_eq!(matches!(read(&head, &mut slots()), Step::Asked(_)), is_text, "{byte}");
        }
        assert_eq!(taken(&format!("{get}Content-Length: 0\r\n\r\n")), Err("other"));
        assert_eq!(taken(&format!("{get}{}\r\n", "X: y\r\n".repeat(40))), Err("other"));
        assert_eq!(taken(&format!("{get}\n")), Err("other"));
        assert_eq!(taken(&format!("{get}X: y\n\r\n")), Err("other"));
        assert_eq!(taken("GET /v1/forward-auth HTTP/1.1\nX: y\r\n\r\n"), Err("other"));
    }
}
