//! Who may know whom: pure rules, crates at home in a few places, steps of the platform, statements of one slice.

use super::Finding;
use super::rules::{HOMES, IMPURE, PLATFORM, STEPS};
use super::source::{Path, Source, is_product};

pub fn check(source: &Source, findings: &mut Vec<Finding>) {
    if !is_product(source.path) {
        return;
    }
    let paths = source.paths_in_code();
    for Path { line, names } in &paths {
        let mut find = |rule, sentence| findings.push(Finding::new(source.path, *line, rule, sentence));
        if is_away_from_home(names[0], source.path) {
            find("home", format!("{} must not be known here", names[0]));
        }
        let path = names.join("::") + "::";
        let is_impure = |impure: &&&str| path.starts_with(&format!("{impure}::"));
        if source.path.starts_with("crates/keyward-core/")
            && let Some(impure) = IMPURE.iter().find(is_impure)
        {
            find("pure", format!("{impure} must not be known here: the rules are pure"));
        }
    }
    if let Some(place) = source.path.strip_prefix(PLATFORM) {
        check_steps(source.path, &module(place), &paths, findings);
    }
}

fn is_away_from_home(name: &str, path: &str) -> bool {
    HOMES.iter().any(|(known, homes)| name == *known && !homes.iter().any(|home| path.starts_with(home)))
}

/// Checks what a module of the platform uses of others; the root, which is no module, puts all together.
fn check_steps(file: &str, module: &[&str], paths: &[Path], findings: &mut Vec<Finding>) {
    let Some(own) = module.first() else { return };
    let mut find = |line, rule, sentence| findings.push(Finding::new(file, line, rule, sentence));
    let Some(own_step) = step(own) else {
        return find(1, "step", format!("{own} stands on no step: give it one in STEPS of xtask"));
    };
    for Path { line, names } in paths {
        let absolute = within_platform(names, module);
        let [used, below @ ..] = absolute.as_slice() else { continue };
        if step(used).is_some_and(|step| step > own_step) {
            find(*line, "step", format!("{own} must not know {used}, which stands higher"));
        }
        if used != own && *used != "db" && below.contains(&"sql") {
            find(*line, "sql", format!("the statements of {used} are its own: use its verbs"));
        }
    }
}

fn step(module: &str) -> Option<usize> {
    STEPS.iter().position(|step| step.contains(&module))
}

/// The module of a file: `keys/sql.rs` is `keys`, `sql`, and `keys/mod.rs` is `keys`.
fn module(place: &str) -> Vec<&str> {
    place.trim_end_matches(".rs").split('/').filter(|name| !matches!(*name, "mod" | "lib")).collect()
}

/// A path as seen from the root of the crate; empty when it leads elsewhere.
fn within_platform<'a>(names: &[&'a str], module: &[&'a str]) -> Vec<&'a str> {
    match names {
        ["crate", rest @ ..] => rest.to_vec(),
        ["self", rest @ ..] => [module, rest].concat(),
        ["super", ..] => {
            let up = names.iter().take_while(|name| **name == "super").count();
            [&module[..module.len().saturating_sub(up)], &names[up..]].concat()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::source::Source;

    #[test]
    fn a_rule_is_broken_or_kept() {
        for (path, text, expected) in [
            ("crates/keyward-core/src/key.rs", "use std::fs;", &["pure"][..]),
            ("crates/keyward-core/src/key.rs", "use std::net::IpAddr;", &[]),
            ("crates/keyward-core/src/key.rs", "let x = tokio::spawn(f);", &["pure"]),
            ("crates/keyward/src/keys/mod.rs", "use {sqlx::Row, axum::Json};", &["home", "home"]),
            ("crates/keyward/src/db/mod.rs", "use sqlx::Row;", &[]),
            ("crates/keyward/src/keys/mod.rs", "use crate::accounts::{sql::FIND, people};", &["sql"]),
            ("crates/keyward/src/keys/mod.rs", "use crate::keys::sql; use crate::db::sql;", &[]),
            ("crates/keyward/src/keys/sql.rs", "use super::super::tasks::Tasks;", &["step"]),
            ("crates/keyward/src/keys/sql.rs", "use super::ApiKey;", &[]),
            ("crates/keyward/src/db/mod.rs", "fn f(all: crate::Keyward) {}", &["step"]),
            ("crates/keyward/src/nowhere.rs", "", &["step"]),
            ("crates/keyward/src/lib.rs", "pub use platform::Keyward;", &[]),
            ("crates/keyward-tower/src/lib.rs", "use axum::Router;\nuse keyward::Keyward;", &["home"]),
            (
                "crates/keyward-server/src/api/keys.rs",
                "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use anyhow::Result;\n}",
                &[],
            ),
        ] {
            let mut findings = Vec::new();
            check(&Source::new(path, text), &mut findings);
            let rules: Vec<&str> = findings.iter().map(|finding| finding.rule).collect();
            assert_eq!(rules, expected, "{path}: {text}");
        }
    }
}
