//! Scopes: the operator's own words for what a key may do. Keyward matches them and never interprets them.
//!
//! A scope is segments joined by `:`. A granted `*` stands for one whole segment, and at the end for all that follow.
//! A record keeps its scopes as RFC 6749 does: one text, parted by spaces.

/// Longest scope, in bytes.
pub const MAX_LEN: usize = 128;

/// Whether `text` can be a scope: segments of `[A-Za-z0-9._/-]` or a lone `*`, joined by `:`.
pub fn is_valid(text: &str) -> bool {
    text.len() <= MAX_LEN && text.split(':').all(is_valid_segment)
}

fn is_valid_segment(segment: &str) -> bool {
    segment == "*"
        || !segment.is_empty()
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-'))
}

/// Whether the granted scope covers the wanted one.
pub fn covers(granted: &str, wanted: &str) -> bool {
    let mut have = granted.split(':').peekable();
    let mut want = wanted.split(':');
    while let Some(segment) = have.next() {
        let Some(asked) = want.next() else { return false };
        if segment == "*" && have.peek().is_none() {
            return true;
        }
        if segment != "*" && segment != asked {
            return false;
        }
    }
    want.next().is_none()
}

/// Whether one of the granted scopes (parted by spaces) covers the wanted one.
pub fn any_covers(granted: &str, wanted: &str) -> bool {
    granted.split(' ').any(|scope| covers(scope, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(granted: &str, covered: &[&str], refused: &[&str]) {
        for wanted in covered {
            assert!(covers(granted, wanted), "{granted} should cover {wanted}");
        }
        for wanted in refused {
            assert!(!covers(granted, wanted), "{granted} should not cover {wanted}");
        }
    }

    #[test]
    fn wildcards() {
        check(
            "invoices:read",
            &["invoices:read"],
            &["invoices:write", "invoices", "invoices:read:all", "INVOICES:read"],
        );
        check("invoices:*", &["invoices:read", "invoices:read:all", "invoices:*"], &["invoices", "orders:read"]);
        check("*:read", &["invoices:read", "orders:read"], &["invoices:write", "read", "a:b:read"]);
        check("*", &["invoices", "invoices:read:all", "*"], &[]);
        check("a:*:c", &["a:b:c"], &["a:c", "a:b:b:c", "a:b:c:d"]);
        check("invoices:read", &[], &["invoices:*", "*"]);
    }

    #[test]
    fn shape() {
        for good in ["a", "invoices:read", "*", "a:*", "files/x.y:z_1-2"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", ":", "a:", "a b", "a:b*", "a\0", "é", &"a".repeat(129)] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }
}
