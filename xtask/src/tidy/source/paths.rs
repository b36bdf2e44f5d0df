//! Finds the paths (`a::b::c`) that code names, in `use` declarations, whose braces are spelled out, and elsewhere.

/// A path, and the line where it ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Path<'a> {
    pub line: usize,
    pub names: Vec<&'a str>,
}

/// All paths of two names and more, and all imported ones, in blanked code that starts at that line.
pub fn paths(code: &str, first_line: usize) -> Vec<Path<'_>> {
    let mut reader = Reader { code, at: 0, line: first_line, paths: Vec::new() };
    while reader.at < code.len() {
        match reader.word() {
            Some("use") => reader.use_tree(&[]),
            Some(word) => reader.inline(word),
            None => reader.skip(),
        }
    }
    reader.paths
}

struct Reader<'a> {
    code: &'a str,
    at: usize,
    line: usize,
    paths: Vec<Path<'a>>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.code[self.at..]
    }

    /// Takes a word, if one stands here.
    fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        (end > 0).then(|| &rest[..end])
    }

    /// Takes these characters, if they stand here.
    fn take(&mut self, text: &str) -> bool {
        let stands = self.rest().starts_with(text);
        if stands {
            self.at += text.len();
        }
        stands
    }

    /// Takes one character, whatever it is.
    fn skip(&mut self) {
        let Some(next) = self.rest().chars().next() else { return };
        self.line += usize::from(next == '\n');
        self.at += next.len_utf8();
    }

    fn skip_spaces(&mut self) {
        while self.rest().starts_with(char::is_whitespace) {
            self.skip();
        }
    }

    fn inline(&mut self, first: &'a str) {
        let mut names = vec![first];
        while self.take("::") {
            names.extend(self.word());
        }
        if names.len() > 1 {
            self.paths.push(Path { line: self.line, names });
        }
    }

    /// `a::{b, c::*, d as e}`, below what is before it.
    fn use_tree(&mut self, above: &[&'a str]) {
        let mut names = above.to_vec();
        self.skip_spaces();
        self.take("::");
        while let Some(name) = self.word() {
            names.push(name);
            if !self.take("::") {
                break;
            }
        }
        if self.take("{") {
            loop {
                self.use_tree(&names);
                self.skip_spaces();
                if !self.take(",") {
                    break;
                }
            }
            self.take("}");
            return;
        }
        if names.len() > above.len() || self.rest().starts_with('*') {
            self.paths.push(Path { line: self.line, names });
        }
        // A new name and a star tell nothing more.
        while self.at < self.code.len() && !self.rest().starts_with([',', '}', ';']) {
            self.skip();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::paths;

    #[test]
    fn paths_are_spelled_out() {
        let code =
            "use a::{\n    b, c::{self, d as e},\n    f::*,\n};\npub(crate) use ::g;\nlet x: h::I<j::K> = l();\nuse m;";
        let found: Vec<String> =
            paths(code, 10).iter().map(|path| format!("{} {}", path.line, path.names.join("::"))).collect();
        assert_eq!(found, ["11 a::b", "11 a::c::self", "11 a::c::d", "12 a::f", "14 g", "15 h::I", "15 j::K", "16 m"],);
    }
}
