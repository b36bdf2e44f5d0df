//! What a short text from a stranger may hold before it is stored or shown.

/// Why a text was refused; reads as the end of a sentence that starts with the field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextFault {
    Empty,
    TooLong { limit: usize },
    Forbidden(char),
}

impl std::fmt::Display for TextFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("must not be empty"),
            Self::TooLong { limit } => write!(f, "is longer than {limit} characters"),
            Self::Forbidden(letter) => write!(f, "contains the forbidden character U+{:04X}", *letter as u32),
        }
    }
}

/// Accepts one line of visible text of 1 to `limit` characters, not only blanks.
/// Control characters and the marks that reorder text (Unicode TR 9, "Trojan source") are refused.
pub fn label(text: &str, limit: usize) -> Result<(), TextFault> {
    if text.trim().is_empty() {
        return Err(TextFault::Empty);
    }
    if text.chars().count() > limit {
        return Err(TextFault::TooLong { limit });
    }
    match text.chars().find(|letter| forbidden(*letter)) {
        Some(letter) => Err(TextFault::Forbidden(letter)),
        None => Ok(()),
    }
}

fn forbidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2028}' | '\u{2029}'
            | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}')
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}

/// The bytes of hexadecimal digits; `None` when there is anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        assert_eq!(label("課金 API 🔑", 20), Ok(()));
        assert_eq!(label("  ", 20), Err(TextFault::Empty));
        assert_eq!(label("abc", 2), Err(TextFault::TooLong { limit: 2 }));
        for bad in ["a\0b", "a\nb", "a\u{202E}b", "\u{1b}[31m"] {
            assert!(matches!(label(bad, 20), Err(TextFault::Forbidden(_))), "{bad:?}");
        }
    }
}
