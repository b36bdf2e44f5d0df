//! Rust source as the rules see it: without comments and the text of literals, its tests apart from its code, and the
//! paths that both name. Not a parser: it knows as much of the language as well-formatted files need.

mod blank;
mod paths;

pub use paths::Path;

/// One file.
pub struct Source<'a> {
    pub path: &'a str,
    pub text: &'a str,
    blanked: String,
    /// Where the tests begin, in bytes of `blanked`.
    tests_at: usize,
}

/// Whether a file is part of what is shipped.
pub fn is_product(path: &str) -> bool {
    path.starts_with("crates/") && path.contains("/src/")
}

impl<'a> Source<'a> {
    pub fn new(path: &'a str, text: &'a str) -> Self {
        let blanked = blank::blank(text);
        let is_test = path.contains("tests/") || path.ends_with("/tests.rs");
        let module =
            || ["\n#[cfg(test)]\nmod ", "\n#[cfg(test)]\npub mod "].iter().find_map(|start| blanked.find(start));
        let tests_at = if is_test { 0 } else { module().map_or(blanked.len(), |at| at + 1) };
        Self { path, text, blanked, tests_at }
    }

    /// All but the tests.
    pub fn code(&self) -> &str {
        &self.blanked[..self.tests_at]
    }

    /// A module of tests at the end, or the whole of a file of tests.
    pub fn tests(&self) -> &str {
        &self.blanked[self.tests_at..]
    }

    pub fn first_line_of_tests(&self) -> usize {
        1 + self.code().matches('\n').count()
    }

    /// The first line of code below a module of tests.
    pub fn line_below_tests(&self) -> Option<usize> {
        if self.tests_at == 0 {
            return None;
        }
        let below = (self.first_line_of_tests()..).zip(self.tests().lines()).skip_while(|(_, line)| *line != "}");
        below.skip(1).find(|(_, line)| !line.trim().is_empty()).map(|(line, _)| line)
    }

    pub fn paths_in_code(&self) -> Vec<Path<'_>> {
        paths::paths(self.code(), 1)
    }

    pub fn paths_in_tests(&self) -> Vec<Path<'_>> {
        paths::paths(self.tests(), self.first_line_of_tests())
    }
}
