//! Whether details contain what is looked for, as PostgreSQL's `@>` tells of two objects ("jsonb Containment and Existence"), and
//! the terms by which an index finds those that may. Objects contain by name, arrays like sets, one within the other; a number is
//! its value, however it is written. That a list contains a bare value holds at the top only, and details are objects.

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

/// Whether the details contain all that is wanted. Each part of the one is compared with each of the other at most once.
pub fn contains(details: &Value, wanted: &Value) -> bool {
    match (details, wanted) {
        (Value::Object(fields), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| fields.get(name).is_some_and(|value| contains(value, wanted)))
        }
        (Value::Array(items), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| items.iter().any(|item| contains(item, wanted)))
        }
        (Value::Number(number), Value::Number(wanted)) => number == wanted || decimal(number) == decimal(wanted),
        (value, wanted) => value == wanted,
    }
}

/// A number for each text, number, truth and null, with the names that lead to it; in order, each once. Where details contain what is
/// wanted they have all its terms; others may have them as well. Terms are stored, so what they are made of never changes.
pub fn terms(details: &Value) -> Vec<u32> {
    let mut terms = Vec::new();
    gather(details, &Sha256::new(), &mut terms);
    terms.sort_unstable();
    terms.dedup();
    terms
}

/// Behind each other, the parts of two different paths are never the same bytes.
fn gather(value: &Value, path: &Sha256, terms: &mut Vec<u32>) {
    let leaf = match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = path.clone().chain_update(b"{").chain_update((name.len() as u64).to_be_bytes());
                gather(value, &path.chain_update(name), terms);
            }
            return;
        }
        Value::Array(items) => {
            let path = path.clone().chain_update(b"[");
            return items.iter().for_each(|item| gather(item, &path, terms));
        }
        Value::String(text) => path.clone().chain_update(b"\"").chain_update(text),
        Value::Number(number) => path.clone().chain_update(b"#").chain_update(decimal(number)),
        Value::Bool(true) => path.clone().chain_update(b"t"),
        Value::Bool(false) => path.clone().chain_update(b"f"),
        Value::Null => path.clone().chain_update(b"n"),
    };
    let hash = leaf.finalize();
    terms.push(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]));
}

/// The value of a number as it is written, in one form: its digits without zeros at the ends, and the power of ten of the last.
fn decimal(number: &Number) -> String {
    let text = number.to_string();
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let written = [whole, fraction].concat();
    let digits = written.trim_end_matches('0');
    let zeros = (written.len() - digits.len()) as i64;
    let power = power.parse::<i64>().unwrap_or_default() - fraction.len() as i64 + zeros;
    match digits.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => format!("{sign}{digits}e{power}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    /// The table that the databases are asked as well (`keyward-server`, `tests/it/contained.rs`).
    #[test]
    fn details_contain_what_postgresql_says_they_do() {
        let cases: Vec<(Value, Vec<(Value, bool)>)> =
            serde_json::from_str(include_str!("contained_cases.json")).unwrap();
        for (details, wanted) in cases.iter().flat_map(|(details, asked)| asked.iter().map(move |one| (details, one))) {
            let (wanted, expected) = wanted;
            assert_eq!(contains(details, wanted), *expected, "{details} {wanted}");
            let known = terms(details);
            let has_all = terms(wanted).iter().all(|term| known.contains(term));
            assert!(has_all || !expected, "{details} has every term of {wanted}");
        }
    }

    #[test]
    fn numbers_have_one_form() {
        for (text, form) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("1", "1e0"),
            ("1.0", "1e0"),
            ("-1200", "-12e2"),
            ("1.2e3", "12e2"),
            ("0.05", "5e-2"),
            ("1e300", "1e300"),
            ("18446744073709551615", "18446744073709551615e0"),
            ("9223372036854775808.0", "9223372036854776e3"),
        ] {
            assert_eq!(decimal(read(text).as_number().unwrap()), form, "{text}");
        }
    }

    #[test]
    fn terms_tell_paths_and_kinds_apart() {
        let of = |text| terms(&read(text));
        let texts = [
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"b":1}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[[1]]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"ab":1}"#,
            r#"{"a":null}"#,
            r#"{"a":true}"#,
            r#"{"a":false}"#,
            r#"{"a":"n"}"#,
            r#"{"":{"a":1}}"#,
        ];
        let mut all: Vec<u32> = texts.into_iter().flat_map(of).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), texts.len());
        assert_eq!(of(r#"{"a":[1,1.0,1e0]}"#).len(), 1, "each once");
        assert!(of(r#"{"a":{},"b":[]}"#).is_empty());
        // Stored ones must be found again.
        assert_eq!(of(r#"{"size_bytes":12}"#), [4_279_358_130]);
    }
}
