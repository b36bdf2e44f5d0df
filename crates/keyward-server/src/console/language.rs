//! The language of a page: what its reader's browser asks for (RFC 9110, section 12.5.4), of those that we write. Both texts of
//! a sentence stand side by side where it is said.

use http::{HeaderMap, header};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Japanese,
}

impl Language {
    /// The one that is asked for most; of equals the first, and English where none of ours is named.
    pub fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        let mut best = (Self::English, 0.0);
        for (language, weight) in lines.flat_map(|line| line.split(',')).filter_map(wish) {
            if weight > best.1 {
                best = (language, weight);
            }
        }
        best.0
    }

    /// As it stands in `lang` and `Content-Language` (BCP 47).
    pub fn tag(self) -> &'static str {
        self.say("en", "ja")
    }

    pub fn say<T>(self, english: T, japanese: T) -> T {
        match self {
            Self::English => english,
            Self::Japanese => japanese,
        }
    }
}

/// A language of ours and how much it is wished for.
fn wish(range: &str) -> Option<(Language, f32)> {
    let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
    let weight = weight.trim().strip_prefix("q=")?.parse().ok()?;
    let language = match tag.trim().split('-').next()?.to_ascii_lowercase().as_str() {
        "en" | "*" => Language::English,
        "ja" => Language::Japanese,
        _ => return None,
    };
    Some((language, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_asked_for_most() {
        for (asked, language) in [
            ("ja", Language::Japanese),
            ("ja-JP,ja;q=0.9,en-US;q=0.8,en;q=0.7", Language::Japanese),
            ("en-GB, ja;q=0.9", Language::English),
            ("de-DE, fr;q=0.9, JA;q=0.1", Language::Japanese),
            ("de, *;q=0.5", Language::English),
            ("en;q=0.2, ja; q=0.3", Language::Japanese),
            ("ja;q=0", Language::English),
            ("ja;q=NaN, ja;q=x, javanese", Language::English),
            ("", Language::English),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, asked.parse().unwrap())]);
            assert_eq!(Language::of(&headers), language, "{asked:?}");
        }
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
    }
}
