//! Blanks out comments and literals, line by line, so that words in them are not taken for code.

/// The same text with spaces where comments and the insides of strings and characters were; lines stay where they are.
pub fn blank(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal(rest, &blanked).unwrap_or(0);
        if length == 0 {
            blanked.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            blanked.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    blanked
}

/// How long the comment or literal is that `rest` begins with, in bytes; `None` when it begins with something else.
fn literal(rest: &str, before: &str) -> Option<usize> {
    let end_of = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    let mut bytes = rest.bytes();
    match (bytes.next()?, bytes.next()) {
        (b'/', Some(b'/')) => Some(rest.find('\n').unwrap_or(rest.len())),
        (b'/', Some(b'*')) => Some(block_comment(rest)),
        (b'"', _) => Some(match raw_hashes(before) {
            Some(hashes) => end_of(&format!("\"{}", "#".repeat(hashes)), 1),
            None => string(rest),
        }),
        (b'\'', Some(b'\\')) => Some(end_of("'", 3)),
        (b'\'', _) => {
            // A character closes at once; a lifetime does not.
            let mut chars = rest[1..].chars();
            let length = chars.next()?.len_utf8();
            (chars.next() == Some('\'')).then_some(length + 2)
        }
        _ => None,
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        let step = match tail {
            [b'/', b'*', ..] => 1,
            [b'*', b'/', ..] => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The number of `#` when what stands before a quote makes the string raw: `r`, `r#`, `br##` …
fn raw_hashes(before: &str) -> Option<usize> {
    let opening = before.trim_end_matches('#');
    let word = opening.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    matches!(word, "r" | "br" | "cr").then_some(before.len() - opening.len())
}

#[cfg(test)]
mod tests {
    use super::blank;

    #[test]
    fn comments_and_literals_become_spaces() {
        for (text, expected) in [
            ("a // b\nc", "a     \nc"),
            ("a // b", "a     "),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("a\"b") + 'x' + '\'' + '“' + g::<'a>()"#, "f(      ) +     +      +     + g::<'a>()"),
            ("r#\"a\"b\"# + br\"\\\" + r#type", "r#       + br    + r#type"),
            ("\"a\nb\" c", "  \n   c"),
        ] {
            assert_eq!(blank(text), expected, "{text}");
        }
    }
}
