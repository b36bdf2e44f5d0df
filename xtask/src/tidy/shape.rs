//! How a source file looks: its size, its opening, its name, and marks of unfinished work.

use super::rules::{
    ARGUABLE_LINES, EMPTY_NAMES, MARKS, MARKS_IN_TESTS, MOST_LINES, MOST_LINES_90TH, MOST_LINES_MEDIAN,
};
use super::source::{Path, Source, is_product};
use super::{File, Finding};

pub fn check(source: &Source, findings: &mut Vec<Finding>) {
    let path = source.path;
    let mut find = |line, rule, sentence: String| findings.push(Finding::new(path, line, rule, sentence));
    if source.path.contains("/src/") && !source.text.starts_with("//!") {
        find(1, "opening", "a file opens with a paragraph (//!): what it is for, and what it leaves to others".into());
    }
    let names = path.trim_end_matches(".rs").split('/');
    for name in names.filter(|name| EMPTY_NAMES.contains(name)) {
        find(1, "name", format!("“{name}” says nothing: name the idea"));
    }
    for (text, first_line, marks) in
        [(source.code(), 1, MARKS), (source.tests(), source.first_line_of_tests(), MARKS_IN_TESTS)]
    {
        for (line, text) in (first_line..).zip(text.lines()) {
            for mark in marks.iter().filter(|mark| text.contains(**mark)) {
                find(line, "mark", format!("{mark} does not belong here"));
            }
        }
    }
    if let Some(line) = source.line_below_tests() {
        find(line, "tests", "the module of tests stands last in a file".into());
    }
    for Path { line, names } in source.paths_in_tests() {
        if let [.., "thread" | "time", "sleep" | "sleep_until"] = names.as_slice() {
            find(line, "sleep", "no test sleeps: the clock is ours".into());
        }
    }
}

/// Checks how long files are; answers a summary of the product's.
pub fn check_sizes(files: &[File], findings: &mut Vec<Finding>) -> String {
    let mut sizes = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let lines = file.text.lines().count();
        if lines > MOST_LINES {
            findings.push(Finding::new(
                &file.path,
                lines,
                "size",
                format!("{lines} lines, and {MOST_LINES} is the most"),
            ));
        } else if lines > ARGUABLE_LINES {
            println!("{}:{lines}: warning: {lines} lines: argue for more than {ARGUABLE_LINES}", file.path);
        }
        if is_product(&file.path) {
            sizes.push(lines);
        }
    }
    sizes.sort_unstable();
    let at = |share: usize| sizes.get(sizes.len() * share / 100).copied().unwrap_or_default();
    let (median, most) = (at(50), at(90));
    for (what, lines, limit) in [("median", median, MOST_LINES_MEDIAN), ("90th percentile", most, MOST_LINES_90TH)] {
        if lines > limit {
            findings.push(Finding::new(
                "crates",
                1,
                "size",
                format!("the {what} is {lines} lines, and {limit} the most"),
            ));
        }
    }
    format!("{} files in crates, median {median} lines, 90th percentile {most}", sizes.len())
}
