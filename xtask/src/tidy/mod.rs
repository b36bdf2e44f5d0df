//! `cargo xtask tidy`: the house rules as checks. It reads the text of what git tracks, or would, and changes nothing.

mod imports;
mod places;
mod rules;
mod shape;
mod source;

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use source::Source;

/// A broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    sentence: String,
}

impl Finding {
    fn new(path: &str, line: usize, rule: &'static str, sentence: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, sentence: sentence.into() }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.sentence)
    }
}

/// A text file of the repository.
struct File {
    path: String,
    text: String,
}

/// Prints what is broken, and fails when anything is.
pub fn run() -> Result<ExitCode> {
    let files = tracked_files()?;
    let mut findings = Vec::new();
    for file in &files {
        places::check(file, &mut findings);
        if file.path.ends_with(".rs") {
            let source = Source::new(&file.path, &file.text);
            shape::check(&source, &mut findings);
            imports::check(&source, &mut findings);
        }
    }
    let sizes = shape::check_sizes(&files, &mut findings);
    let findings = let_pass(findings);
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {sizes}; broken rules: {}", findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Leaves out what the rules let pass; an exception that nothing needs any longer is a finding itself.
fn let_pass(findings: Vec<Finding>) -> BTreeSet<Finding> {
    let mut kept: BTreeSet<Finding> = findings.into_iter().collect();
    for (path, rule, word, _reason) in rules::EXCEPTIONS {
        let before = kept.len();
        kept.retain(|found| found.path != *path || found.rule != *rule || !found.sentence.contains(word));
        if kept.len() == before {
            kept.insert(Finding::new(
                path,
                1,
                "exception",
                format!("the rule “{rule}” is kept: take the exception away"),
            ));
        }
    }
    kept
}

/// What git tracks, and what it would if it were added; files that are not text are left out.
fn tracked_files() -> Result<Vec<File>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().context("git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
    let files = paths
        .split_terminator('\0')
        .filter_map(|path| Some(File { path: path.to_owned(), text: std::fs::read_to_string(path).ok()? }));
    Ok(files.collect())
}
