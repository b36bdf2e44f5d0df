//! Calendar quotas: which period an instant belongs to, and the counter of one quota. What was counted is saved and
//! read back by the platform; here is only the arithmetic.

use std::sync::Mutex;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SpanRound, ToSpan};
use uuid::Uuid;

use crate::limit::{Period, QuotaRule};
use crate::time::Timestamp;

/// What a quota counts into: a month or a day of a place's calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    pub start: Timestamp,
    pub end: Timestamp,
}

/// The calendar of one quota.
#[derive(Debug, Clone)]
pub struct Calendar {
    period: Period,
    days: u16,
    zone: TimeZone,
}

impl Calendar {
    /// The quota's periods at a place with this IANA name; UTC when the name is not known.
    pub fn of(rule: &QuotaRule, zone: &str) -> Self {
        Self { period: rule.period, days: rule.days.unwrap_or(1), zone: TimeZone::get(zone).unwrap_or(TimeZone::UTC) }
    }

    pub fn unit(&self) -> Unit {
        match self.period {
            Period::Month => Unit::Month,
            Period::Day | Period::RollingDays => Unit::Day,
        }
    }

    /// The bucket that `now` falls into. A month for monthly quotas, else a day.
    pub fn bucket(&self, now: Timestamp) -> Bucket {
        let today = now.to_jiff().to_zoned(self.zone.clone()).date();
        let (first, next) = match self.period {
            Period::Month => (today.first_of_month(), today.first_of_month().saturating_add(1.month())),
            Period::Day | Period::RollingDays => (today, today.saturating_add(1.day())),
        };
        Bucket { start: self.midnight(first), end: self.midnight(next) }
    }

    /// The start of the oldest bucket that counts at `now`.
    pub fn since(&self, now: Timestamp) -> Timestamp {
        match self.period {
            Period::Month | Period::Day => self.bucket(now).start,
            Period::RollingDays => {
                let today = now.to_jiff().to_zoned(self.zone.clone()).date();
                self.midnight(today.saturating_sub((i64::from(self.days) - 1).days()))
            }
        }
    }

    fn midnight(&self, day: Date) -> Timestamp {
        // Where a zone skips midnight, the day begins at its first instant.
        let start = day.to_zoned(self.zone.clone()).and_then(|zoned| zoned.start_of_day());
        start.map_or(Timestamp::LATEST, |zoned| Timestamp::from_micros(zoned.timestamp().as_microsecond()))
    }
}

/// Days from one bucket to the next, for policies that speak of length; 28–31 for months.
pub fn days_in(bucket: Bucket) -> i64 {
    let span = bucket.end.to_jiff() - bucket.start.to_jiff();
    let rounded = span.round(SpanRound::new().largest(jiff::Unit::Hour).days_are_24_hours());
    rounded.map_or(0, |span| i64::from(span.get_hours()) / 24)
}

/// The counter of one quota of one subject.
#[derive(Debug)]
pub struct QuotaCounter {
    /// The organization or key.
    pub subject: Uuid,
    pub unit: Unit,
    state: Mutex<QuotaUse>,
}

/// What a quota's buckets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    Month,
    Day,
}

impl Unit {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Day => "day",
        }
    }
}

/// What is known of a quota's use.
#[derive(Debug)]
pub struct QuotaUse {
    /// The bucket that is counted into; `None` until the saved use was read.
    bucket: Option<Bucket>,
    /// The start of the oldest bucket that counts.
    since: Timestamp,
    /// Saved in earlier buckets that still count.
    earlier: u64,
    /// Saved in this bucket, by every node.
    saved: u64,
    /// Counted here and not yet saved: (bucket's start, count). The last is the present bucket's.
    unsaved: Vec<(Timestamp, i64)>,
    /// The highest percentage that was told in this bucket.
    pub told: u8,
}

impl Default for QuotaUse {
    fn default() -> Self {
        let since = Timestamp::from_micros(0);
        Self { bucket: None, since, earlier: 0, saved: 0, unsaved: Vec::new(), told: 0 }
    }
}

impl QuotaCounter {
    pub fn new(subject: Uuid, unit: Unit) -> Self {
        Self { subject, unit, state: Mutex::default() }
    }

    pub fn lock(&self) -> std::sync::MutexGuard<'_, QuotaUse> {
        self.state.lock().expect("no one panics while counting")
    }
}

impl QuotaUse {
    /// The bucket of `now`, if its use is known.
    pub fn bucket(&self, now: Timestamp) -> Option<Bucket> {
        self.bucket.filter(|bucket| now < bucket.end)
    }

    /// What counts against the quota.
    pub fn used(&self) -> u64 {
        let counting = self.unsaved.iter().filter(|(start, _)| *start >= self.since);
        let pending: i64 = counting.map(|(_, count)| count).sum();
        (self.earlier + self.saved).saturating_add_signed(pending)
    }

    /// Counts into a bucket. Answers whether there was nothing to be saved before.
    pub fn add(&mut self, bucket: Timestamp, count: i64) -> bool {
        let was_clean = self.unsaved.is_empty();
        match self.unsaved.iter_mut().find(|(start, _)| *start == bucket) {
            Some((_, pending)) => *pending += count,
            None => self.unsaved.push((bucket, count)),
        }
        was_clean
    }

    /// Takes in what is saved: in the present bucket, and in the `earlier` ones since `since`.
    pub fn load(&mut self, bucket: Bucket, since: Timestamp, earlier: u64, saved: u64) {
        if self.bucket != Some(bucket) {
            self.told = 0;
        }
        (self.bucket, self.since, self.earlier, self.saved) = (Some(bucket), since, earlier, saved);
    }

    /// What is to be saved. It counts until `saved` is told.
    pub fn unsaved(&self) -> &[(Timestamp, i64)] {
        &self.unsaved
    }

    /// `count` of `bucket` was saved, and with it `total` stands there, other nodes' counts included.
    pub fn saved(&mut self, start: Timestamp, count: i64, total: u64) {
        if let Some(at) = self.unsaved.iter().position(|(bucket, _)| *bucket == start) {
            self.unsaved[at].1 -= count;
            if self.unsaved[at].1 == 0 {
                self.unsaved.remove(at);
            }
        }
        match self.bucket {
            Some(bucket) if bucket.start == start => self.saved = total,
            Some(_) if start >= self.since => self.earlier = self.earlier.saturating_add_signed(count),
            _ => {}
        }
    }

    /// Forgets what is known of the saved use, so that it is read again.
    pub fn forget(&mut self) {
        self.bucket = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn check(rule: &QuotaRule, zone: &str, now: &str, since: &str, start: &str, end: &str) {
        let calendar = Calendar::of(rule, zone);
        assert_eq!(calendar.bucket(at(now)), Bucket { start: at(start), end: at(end) }, "{now} in {zone}");
        assert_eq!(calendar.since(at(now)), at(since), "{now} in {zone}");
    }

    #[test]
    fn months_and_days_follow_the_place() {
        let month = QuotaRule::per_month(1);
        let november = ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
        check(&month, "UTC", "2026-11-30T23:59:59.999999Z", november.0, november.0, november.1);
        check(&month, "UTC", november.0, november.0, november.0, november.1);
        let tokyo = ("2026-11-30T15:00:00Z", "2026-12-31T15:00:00Z");
        check(&month, "Asia/Tokyo", "2026-11-30T15:00:00Z", tokyo.0, tokyo.0, tokyo.1);
        // The day on which summer time begins has 23 hours.
        let day = QuotaRule { limit: 1, period: Period::Day, days: None };
        let short = ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        check(&day, "Europe/Berlin", "2026-03-29T12:00:00Z", short.0, short.0, short.1);
        assert_eq!(days_in(Calendar::of(&month, "UTC").bucket(at("2028-02-05T00:00:00Z"))), 29);
    }

    #[test]
    fn rolling_days_count_the_days_before() {
        let week = QuotaRule { limit: 1, period: Period::RollingDays, days: Some(7) };
        let (start, end) = ("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z");
        check(&week, "UTC", "2026-11-20T12:00:00Z", "2026-11-14T00:00:00Z", start, end);
    }

    #[test]
    fn nothing_is_lost_or_doubled_between_counting_and_saving() {
        let bucket = Calendar::of(&QuotaRule::per_month(9), "UTC").bucket(at("2026-11-20T12:00:00Z"));
        let mut used = QuotaUse::default();
        used.load(bucket, bucket.start.plus_days(-6), 2, 10);
        assert!(used.add(bucket.start, 3) && !used.add(bucket.start, 1));
        assert_eq!((used.used(), used.unsaved()), (16, &[(bucket.start, 4)][..]));
        // While the four are being saved one more is counted; another node had added five.
        used.add(bucket.start, 1);
        used.saved(bucket.start, 4, 19);
        assert_eq!((used.used(), used.unsaved()), (22, &[(bucket.start, 1)][..]));
        used.add(bucket.start, -1);
        used.saved(bucket.start, 0, 19);
        assert!(used.unsaved().is_empty() && used.used() == 21);
    }
}
