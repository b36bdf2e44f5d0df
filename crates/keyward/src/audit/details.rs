//! Details as leaves have them: the text that our own writer makes of them, with names in order and no blanks. PostgreSQL keeps them in
//! another order; a verification puts millions of them back, so it is done on the text, without making values of it.

/// Longest whole number that any writer surely puts alike, with its sign.
const PLAIN_DIGITS: usize = 18;
/// Deeper details are left to a reader of values.
const MOST_LEVELS: usize = 32;

/// Puts JSON text in order. `None` where only a reader of values can tell what our own writer makes of it, as with fractions and with
/// escapes in names, and where it is no JSON.
pub(super) fn in_order(text: &str) -> Option<String> {
    let mut written = String::with_capacity(text.len());
    write(text, 0, &mut written)?.is_empty().then_some(written)
}

/// Writes the value at the beginning of a text; answers what follows.
fn write<'a>(text: &'a str, level: usize, written: &mut String) -> Option<&'a str> {
    let text = text.trim_ascii_start();
    let rest = match text.as_bytes().first()? {
        b'{' | b'[' if level == MOST_LEVELS => return None,
        b'{' => write_object(text[1..].trim_ascii_start(), level, written)?,
        b'[' => write_list(text[1..].trim_ascii_start(), level, written)?,
        _ => {
            let (value, rest) = text.split_at(scalar_end(text)?);
            written.push_str(value);
            rest
        }
    };
    Some(rest.trim_ascii_start())
}

fn write_object<'a>(text: &'a str, level: usize, written: &mut String) -> Option<&'a str> {
    let mut fields: Vec<(&str, String)> = Vec::new();
    let (mut rest, mut is_open) = (text, !text.starts_with('}'));
    while is_open {
        let (name, after) = rest.split_at(scalar_end(rest)?);
        if !name.starts_with('"') || name.contains('\\') {
            return None;
        }
        let mut value = String::new();
        rest = write(after.trim_ascii_start().strip_prefix(':')?, level + 1, &mut value)?;
        fields.push((name, value));
        (rest, is_open) = next(rest, '}')?;
    }
    // Without their quotes: a name comes before those that it begins.
    fields.sort_unstable_by_key(|(name, _)| &name[1..name.len() - 1]);
    written.push('{');
    for (index, (name, value)) in fields.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        written.extend([comma, name, ":", value]);
    }
    written.push('}');
    rest.strip_prefix('}')
}

fn write_list<'a>(text: &'a str, level: usize, written: &mut String) -> Option<&'a str> {
    let (mut rest, mut is_open) = (text, !text.starts_with(']'));
    written.push('[');
    while is_open {
        rest = write(rest, level + 1, written)?;
        (rest, is_open) = next(rest, ']')?;
        written.push_str(if is_open { "," } else { "" });
    }
    written.push(']');
    rest.strip_prefix(']')
}

/// Whether another part follows, and where it begins; else this stands before the end.
fn next(text: &str, end: char) -> Option<(&str, bool)> {
    match text.strip_prefix(',') {
        Some(rest) => Some((rest.trim_ascii_start(), true)),
        None => text.starts_with(end).then_some((text, false)),
    }
}

/// Where a text, a plain number or a word at the beginning ends.
fn scalar_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first()? == &b'"' {
        let mut at = 1;
        loop {
            match bytes.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    }
    let end = bytes.iter().position(|byte| b",]} \n".contains(byte)).unwrap_or(bytes.len());
    let word = &bytes[..end];
    let is_plain = end <= PLAIN_DIGITS && word.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-');
    (is_plain && end > 0 || [&b"true"[..], b"false", b"null"].contains(&word)).then_some(end)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn texts_are_written_as_our_own_writer_does() {
        for stored in [
            r#"{}"#,
            r#"{"mime_type": "application/pdf", "size_bytes": 334338579, "duration_ms": 279}"#,
            r#"{"b": [1, {"z": null, "a": true}, [], {}], "a": {"b": -7, "a b": "x, y: {\"}"}, "ab": "ä\n"}"#,
        ] {
            let value: Value = serde_json::from_str(stored).unwrap();
            let expected = serde_json::to_string(&value).unwrap();
            assert_eq!(in_order(stored).as_deref(), Some(expected.as_str()));
            assert_eq!(in_order(&expected).as_deref(), Some(expected.as_str()));
        }
    }

    #[test]
    fn what_needs_a_reader_of_values_or_is_no_json_is_left_alone() {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        let numbers = r#"{"ratio": 0.10, "big": 1e300}"#;
        for text in [r#"{"a\"": 3}"#, numbers, "123456789012345678901", &deep, "", "{", "{} {", r#"{"a": 1,"#, "[1 2]"]
        {
            assert_eq!(in_order(text), None, "{text}");
        }
        for text in [r#"{"a": 1 "b": 2}"#, r#"{"a": 1,}"#, r#"{"a": 1]"#, r#"{1: 2}"#, "[1,]", r#""a"#, r#""a\"#] {
            assert_eq!(in_order(text), None, "{text}");
        }
    }
}
