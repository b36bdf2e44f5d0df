//! Amounts of money as they are billed for calls: exact, in billionths of a US dollar. There is no floating point on
//! the way from the text of a record to the text of a sum.

use std::fmt;
use std::str::FromStr;

/// Billionths in a dollar.
const NANOS: i64 = 1_000_000_000;
const DIGITS: usize = 9;

/// An amount of US dollars, exact to a billionth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd(i64);

/// The text is not a plain decimal number with at most nine digits behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidUsd;

impl fmt::Display for InvalidUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not an amount such as \"0.00012\": digits, and at most nine behind the point")
    }
}

impl std::error::Error for InvalidUsd {}

impl Usd {
    pub const fn from_dollars(dollars: i64) -> Self {
        Self(dollars.saturating_mul(NANOS))
    }

    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Stays at the highest amount, 9,223,372,036 dollars, instead of running over.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Billionths of a dollar.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }
}

impl FromStr for Usd {
    type Err = InvalidUsd;

    /// Reads digits with an optional fraction; no sign, no exponent, no blanks, no bare point.
    fn from_str(text: &str) -> Result<Self, InvalidUsd> {
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || fraction.is_some_and(|fraction| !digits(fraction) || fraction.len() > DIGITS) {
            return Err(InvalidUsd);
        }
        let fraction = fraction.unwrap_or_default();
        let whole: i64 = whole.parse().map_err(|_| InvalidUsd)?;
        let nanos: i64 = format!("{fraction:0<DIGITS$}").parse().map_err(|_| InvalidUsd)?;
        whole.checked_mul(NANOS).and_then(|whole| whole.checked_add(nanos)).map(Self).ok_or(InvalidUsd)
    }
}

impl fmt::Display for Usd {
    /// Without zeros that say nothing: `0.00012`, `3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, nanos) = (self.0.unsigned_abs() / NANOS as u64, self.0.unsigned_abs() % NANOS as u64);
        let sign = if self.0 < 0 { "-" } else { "" };
        if nanos == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{nanos:0>DIGITS$}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (text, nanos) in [
            ("0.00012", 120_000),
            ("0", 0),
            ("3", 3 * NANOS),
            ("1.500", 1_500_000_000),
            ("007.000000001", 7_000_000_001),
        ] {
            assert_eq!(text.parse(), Ok(Usd(nanos)), "{text}");
        }
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1E-3",
            "0.0000000001",
            " 1",
            "1 ",
            "1,5",
            "NaN",
            "0x1",
            "1.5.5",
            "9223372037",
            "99999999999999999999",
            "１",
        ] {
            assert_eq!(bad.parse::<Usd>(), Err(InvalidUsd), "{bad:?}");
        }
        assert_eq!(Usd(1_500_000_000).to_string(), "1.5");
        assert_eq!((Usd(0).to_string(), Usd::from_dollars(3).to_string()), ("0".into(), "3".into()));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos in 0..=i64::MAX) {
            prop_assert_eq!(Usd(nanos).to_string().parse(), Ok(Usd(nanos)));
        }
    }
}
