//! The house rules as checks, on the text of the sources: sizes, who may know whom, names, and marks of unfinished work.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// What a folder of sources must not name: where, what, and why.
const FORBIDDEN_IMPORTS: &[(&str, &[&str], &str)] = &[
    (
        "crates/keyward-core/src",
        &["tokio::", "sqlx::", "axum::", "hyper::", "reqwest::", "std::fs", "std::net::Tcp"],
        "the rules are pure",
    ),
    (
        "crates/keyward/src",
        &["axum::", "hyper::", "tower::", "reqwest::", "clap::", "anyhow::"],
        "no web, no command line in the platform",
    ),
    ("crates/keyward-tower/src", &["sqlx::", "keyward::"], "the door links no database driver"),
    ("crates/keyward-server/src", &["sqlx::"], "the server knows the platform, not the driver"),
];

/// The platform's steps, lowest first; a module may use its own step and those below.
const STEPS: &[&[&str]] = &[
    &["error", "config", "db", "page", "context", "metrics"],
    &["ground", "announce", "audit", "change"],
    &["idempotency", "accounts"],
    &["keys", "verify"],
    &["tasks"],
    &["platform"],
];

const EMPTY_NAMES: &[&str] =
    &["utils", "util", "helper", "helpers", "common", "manager", "service", "misc", "data", "info"];
const MARKS: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "#[ignore", ".unwrap()"];
const MAX_LINES: usize = 800;
const MEDIAN_LINES: usize = 200;
const P90_LINES: usize = 400;

pub fn run() -> Result<bool> {
    let mut faults = Vec::new();
    let mut lengths = Vec::new();
    for path in rust_files(Path::new("crates"))? {
        let text = fs::read_to_string(&path)?;
        let shown = path.display().to_string();
        if shown.contains("/tests/") {
            check_marks(&shown, &text, &["thread::sleep", "#[ignore", "dbg!("], &mut faults);
        } else if shown.contains("/src/") {
            lengths.push(text.lines().count());
            check_source(&path, &shown, &text, &mut faults);
        }
    }
    check_paths(&mut faults)?;
    lengths.sort_unstable();
    let (median, p90) = (lengths[lengths.len() / 2], lengths[lengths.len() * 9 / 10]);
    if median > MEDIAN_LINES || p90 > P90_LINES {
        faults.push(format!("crates:1: sizes: median {median} and 90th percentile {p90} lines are too many"));
    }
    for fault in &faults {
        println!("{fault}");
    }
    println!("tidy: {} files, median {median} lines, 90th percentile {p90}, {} faults", lengths.len(), faults.len());
    Ok(faults.is_empty())
}

fn check_source(path: &Path, shown: &str, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!("{shown}:1: size: {lines} lines are more than {MAX_LINES}"));
    }
    if !text.starts_with("//!") {
        faults.push(format!("{shown}:1: opening: a file opens with a paragraph (//!)"));
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) && !shown.ends_with("api/service.rs") {
        faults.push(format!("{shown}:1: name: {stem} says nothing"));
    }
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    check_marks(shown, code, MARKS, faults);
    for (folder, forbidden, why) in FORBIDDEN_IMPORTS {
        if shown.starts_with(folder) {
            let forbidden = forbidden.iter().filter(|name| !(**name == "anyhow::" && shown.contains("/cli/")));
            check_imports(shown, code, &forbidden.copied().collect::<Vec<_>>(), why, faults);
        }
    }
    if let Some(inside) = shown.strip_prefix("crates/keyward/src/") {
        if !inside.starts_with("db/") && inside != "announce/nodes.rs" {
            check_imports(shown, code, &["sqlx::"], "the driver is known only in db/", faults);
        }
        check_steps(shown, inside, code, faults);
    }
}

fn check_marks(shown: &str, code: &str, marks: &[&str], faults: &mut Vec<String>) {
    for (index, line) in code.lines().enumerate() {
        for mark in marks.iter().filter(|mark| line.contains(**mark) && !line.trim_start().starts_with("//")) {
            faults.push(format!("{shown}:{}: mark: {mark} does not belong here", index + 1));
        }
    }
}

fn check_imports(shown: &str, code: &str, forbidden: &[&str], why: &str, faults: &mut Vec<String>) {
    for (index, line) in code.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("use ")) {
        for name in forbidden.iter().filter(|name| line.contains(&format!("use {name}"))) {
            faults.push(format!("{shown}:{}: import: {name} — {why}", index + 1));
        }
    }
}

fn check_steps(shown: &str, inside: &str, code: &str, faults: &mut Vec<String>) {
    let own = inside.split(['/', '.']).next().unwrap_or_default();
    let step_of = |module: &str| STEPS.iter().position(|step| step.contains(&module));
    let Some(own_step) = step_of(own) else { return };
    for (index, line) in code.lines().enumerate() {
        let Some(used) = line.trim_start().strip_prefix("use crate::") else { continue };
        let module = used.split([':', ';', '{', ' ']).next().unwrap_or_default();
        if step_of(module).is_some_and(|step| step > own_step) {
            faults.push(format!("{shown}:{}: step: {own} imports upward from {module}", index + 1));
        }
        if module != own && used.starts_with(&format!("{module}::sql")) && module != "db" {
            faults.push(format!("{shown}:{}: sql: the statements of {module} are its own", index + 1));
        }
    }
}

/// No tracked text names a place on somebody's machine.
fn check_paths(faults: &mut Vec<String>) -> Result<()> {
    let listed = std::process::Command::new("git").args(["ls-files"]).output()?;
    let places = [["/ro", "ot/"].concat(), ["/wo", "rk/"].concat(), ["/ho", "me/"].concat()];
    for path in String::from_utf8_lossy(&listed.stdout).lines() {
        let Ok(text) = fs::read_to_string(path) else { continue };
        for (index, line) in text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place.as_str())) {
                faults.push(format!("{path}:{}: place: a path of one machine", index + 1));
            }
        }
    }
    Ok(())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
