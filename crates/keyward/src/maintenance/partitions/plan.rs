//! Which partitions are missing: pure arithmetic over ranges of instants.

use keyward_core::month::Month;
use keyward_core::time::Timestamp;

/// From an instant up to another, which is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Range {
    fn of(month: Month) -> Self {
        Self { from: month.start(), to: month.end() }
    }

    /// Part of a name: `p202611`, or `p20261115` for a month that begins late. Nothing is ever read from it.
    pub fn label(self) -> String {
        let (month, day) =
            (Month::of(self.from), (self.from.as_seconds() - Month::of(self.from).start().as_seconds()) / 86_400);
        let month = month.to_string().replace('-', "");
        if day == 0 { format!("p{month}") } else { format!("p{month}{:02}", day + 1) }
    }
}

fn following(month: Month) -> Month {
    Month::of(month.end())
}

/// What is missing between the present month and `ahead` months after it, month by month.
pub fn missing(now: Timestamp, ahead: u32, present: &[Range]) -> Vec<Range> {
    let mut missing = Vec::new();
    let mut month = Month::of(now);
    for _ in 0..=ahead {
        missing.extend(uncovered(Range::of(month), present));
        month = following(month);
    }
    missing
}

/// The parts of a range that no other covers.
fn uncovered(range: Range, present: &[Range]) -> Vec<Range> {
    let mut sorted = present.to_vec();
    sorted.sort_unstable();
    let mut rest = Vec::new();
    let mut from = range.from;
    for one in sorted {
        if one.from > from && from < range.to {
            rest.push(Range { from, to: one.from.min(range.to) });
        }
        from = from.max(one.to);
    }
    if from < range.to {
        rest.push(Range { from, to: range.to });
    }
    rest
}

/// Whole months after the present one that are covered without a gap.
pub fn whole_months_ahead(now: Timestamp, present: &[Range]) -> usize {
    let mut month = following(Month::of(now));
    let mut count = 0;
    // Far more than anybody makes ahead; a partition without an end covers all of them.
    while count < 120 && uncovered(Range::of(month), present).is_empty() {
        count += 1;
        month = following(month);
    }
    count
}

/// Holes between the first and the last range.
pub fn gaps(present: &[Range]) -> Vec<(Timestamp, Timestamp)> {
    let mut sorted = present.to_vec();
    sorted.sort_unstable();
    let holes = sorted.windows(2).filter(|pair| pair[0].to < pair[1].from);
    holes.map(|pair| (pair[0].to, pair[1].from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("{text}T00:00:00Z").parse().unwrap()
    }

    fn range(from: &str, to: &str) -> Range {
        Range { from: at(from), to: at(to) }
    }

    #[test]
    fn missing_months_are_made_and_no_others() {
        let check = |now: &str, ahead, present: &[Range], expected: &[(&str, Range)]| {
            let made = missing(at(now), ahead, present);
            let named: Vec<(String, Range)> = made.iter().map(|range| (range.label(), *range)).collect();
            let expected: Vec<(String, Range)> =
                expected.iter().map(|(name, range)| ((*name).to_owned(), *range)).collect();
            assert_eq!(named, expected);
        };
        let (november, december, january) =
            (range("2026-11-01", "2026-12-01"), range("2026-12-01", "2027-01-01"), range("2027-01-01", "2027-02-01"));
        check("2026-11-20", 2, &[], &[("p202611", november), ("p202612", december), ("p202701", january)]);
        check("2026-11-20", 2, &[december], &[("p202611", november), ("p202701", january)]);
        check("2026-11-20", 1, &[november, december], &[]);
        // A table that was changed in the middle of a month: what is before the cut lies in one part.
        let legacy = Range { from: Timestamp::from_micros(i64::MIN), to: at("2026-11-15") };
        check("2026-11-20", 0, &[legacy], &[("p20261115", range("2026-11-15", "2026-12-01"))]);
        check("2026-12-31", 1, &[], &[("p202612", december), ("p202701", january)]);
        check("2026-11-20", 6, &[Range { from: at("2026-01-01"), to: Timestamp::NEVER }], &[]);
    }

    #[test]
    fn gaps_and_months_ahead_are_counted() {
        let (november, january) = (range("2026-11-01", "2026-12-01"), range("2027-01-01", "2027-02-01"));
        assert_eq!(gaps(&[january, november]), [(at("2026-12-01"), at("2027-01-01"))]);
        assert_eq!(whole_months_ahead(at("2026-11-20"), &[november, january]), 0);
        assert_eq!(whole_months_ahead(at("2026-12-20"), &[january]), 1);
    }
}
