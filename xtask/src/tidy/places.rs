//! What no text may name: places of one machine, where packages are fetched from, and files that do not exist.

use std::path::Path;

use super::rules::{MACHINE_PLACES, PACKAGE_SOURCE, REGISTRY_HOSTS};
use super::{File, Finding};

pub fn check(file: &File, findings: &mut Vec<Finding>) {
    let mut is_shown = false;
    for (line, text) in (1..).zip(file.text.lines()) {
        let mut find = |rule, sentence: String| findings.push(Finding::new(&file.path, line, rule, sentence));
        if MACHINE_PLACES.iter().any(|place| names_place(text, place)) {
            find("place", "a path of one machine".into());
        }
        if REGISTRY_HOSTS.iter().any(|host| text.contains(host)) {
            find("registry", "where packages come from is each machine's own matter".into());
        }
        if file.path == "Cargo.lock" && text.starts_with("source = ") && text != PACKAGE_SOURCE {
            find("registry", "a package that is not from the public registry".into());
        }
        if file.path.ends_with(".md") {
            is_shown ^= text.trim_start().starts_with("```");
            for link in links(text).filter(|link| !is_shown && is_dangling(&file.path, link)) {
                find("link", format!("{link} does not exist"));
            }
        }
    }
}

/// Whether a text names that folder of the root, and not one of the same name below another.
fn names_place(text: &str, place: &str) -> bool {
    let is_within = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "_-.}*~".contains(c));
    text.match_indices(place).any(|(at, _)| !is_within(&text[..at]))
}

/// Where the links of a line of Markdown lead.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

fn is_dangling(from: &str, link: &str) -> bool {
    let target = link.split('#').next().unwrap_or_default();
    let is_elsewhere = target.is_empty() || target.contains(':');
    !is_elsewhere && !Path::new(from).parent().is_some_and(|folder| folder.join(target).exists())
}

#[cfg(test)]
mod tests {
    use super::{File, check};

    #[test]
    fn what_text_must_not_name() {
        let place = concat!("/ho", "me/");
        for (path, text, expected) in [
            ("Makefile", format!("cd {place}x"), &["place"][..]),
            ("Makefile", format!("GET /v1{place}x"), &[]),
            ("README.md", concat!("https://index.", "crates.io").to_owned(), &["registry"]),
            ("Cargo.lock", "source = \"git+https://example.com/fork\"".to_owned(), &["registry"]),
            ("README.md", "[a](no-such-file.md#b), [c](https://example.com), [d](#e)".to_owned(), &["link"]),
            ("README.md", "```\n[a](no-such-file.md)\n```\n".to_owned(), &[]),
            ("xtask/README.md", "[a](Cargo.toml)".to_owned(), &["link"]),
        ] {
            let mut findings = Vec::new();
            check(&File { path: path.to_owned(), text: text.clone() }, &mut findings);
            let rules: Vec<&str> = findings.iter().map(|finding| finding.rule).collect();
            assert_eq!(rules, expected, "{path}: {text}");
        }
    }
}
