//! Calendar months in UTC, as reports of usage name them: `2026-11`. Time zones of organizations play no part here.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};

use crate::time::Timestamp;

/// A month of the years 2000 to 9998.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(Date);

/// The text is not a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidMonth;

impl fmt::Display for InvalidMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not a month such as 2026-11")
    }
}

impl std::error::Error for InvalidMonth {}

impl Month {
    /// The month in which an instant lies.
    pub fn of(at: Timestamp) -> Self {
        Self(Offset::UTC.to_datetime(at.to_jiff()).date().first_of_month())
    }

    /// Its first instant.
    pub fn start(self) -> Timestamp {
        let start = self.0.to_zoned(TimeZone::UTC).expect("months are of years that can be written");
        Timestamp::from_micros(start.timestamp().as_microsecond())
    }

    /// The first instant after it.
    pub fn end(self) -> Timestamp {
        self.start().plus_days(i64::from(self.0.days_in_month()))
    }

    /// Its days, each by its first instant and as text (`2026-11-01`).
    pub fn days(self) -> impl Iterator<Item = (Timestamp, String)> {
        let first = self.0;
        (0..first.days_in_month())
            .map(move |day| (self.start().plus_days(i64::from(day)), format!("{self}-{:02}", day + 1)))
    }
}

impl FromStr for Month {
    type Err = InvalidMonth;

    fn from_str(text: &str) -> Result<Self, InvalidMonth> {
        let (year, month) = text.split_once('-').ok_or(InvalidMonth)?;
        let digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return Err(InvalidMonth);
        }
        let year: i16 = year.parse().ok().filter(|year| (2000..=9998).contains(year)).ok_or(InvalidMonth)?;
        Date::new(year, month.parse().map_err(|_| InvalidMonth)?, 1).map(Self).map_err(|_| InvalidMonth)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn months_begin_and_end_in_utc() {
        let november: Month = "2026-11".parse().unwrap();
        assert_eq!((november.start(), november.end()), (at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z")));
        assert_eq!(Month::of(at("2026-11-30T23:59:59.999999Z")), november);
        assert_eq!(Month::of(at("2026-12-01T00:30:00+01:00")), november);
        assert_eq!(Month::of(at("2026-12-01T00:00:00Z")).to_string(), "2026-12");
        let february: Vec<String> = "2028-02".parse::<Month>().unwrap().days().map(|(_, text)| text).collect();
        assert_eq!((february.len(), february[28].as_str()), (29, "2028-02-29"));
        for bad in ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "1999-01", "9999-12", "+202-11"]
        {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }
}
