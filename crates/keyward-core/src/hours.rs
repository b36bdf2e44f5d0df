//! Active hours: the times of the week in which a key may be used, on a named place's clock.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Active hours as they are written and stored: `{"timezone":"Asia/Tokyo","windows":[{"days":["mon"],"from":"09:00","to":"18:00"}]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoursText {
    /// IANA name; UTC when absent.
    #[serde(default = "utc")]
    pub timezone: String,
    pub windows: Vec<WindowText>,
}

/// One window. `to` is exclusive; `24:00` is the end of the day; a window never crosses midnight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowText {
    pub days: Vec<String>,
    pub from: String,
    pub to: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Active hours, read and ready to judge by.
#[derive(Debug, Clone)]
pub struct ActiveHours {
    zone: TimeZone,
    windows: Box<[Window]>,
}

#[derive(Debug, Clone)]
struct Window {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes after midnight.
    from: u16,
    to: u16,
}

impl ActiveHours {
    pub fn read(text: &HoursText) -> Result<Self, String> {
        let zone =
            TimeZone::get(&text.timezone).map_err(|_| format!("{:?} is not an IANA time zone", text.timezone))?;
        if text.windows.is_empty() || text.windows.len() > 50 {
            return Err("needs between 1 and 50 windows".to_owned());
        }
        let windows = text.windows.iter().map(Window::read).collect::<Result<_, _>>()?;
        Ok(Self { zone, windows })
    }

    pub fn contains(&self, now: Timestamp) -> bool {
        let local = now.to_jiff().to_zoned(self.zone.clone());
        let day = 1 << local.weekday().to_monday_zero_offset();
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        self.windows.iter().any(|window| window.days & day != 0 && (window.from..window.to).contains(&minute))
    }
}

/// Whether `name` is an IANA time zone.
pub fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

impl Window {
    fn read(text: &WindowText) -> Result<Self, String> {
        let mut days = 0;
        for day in &text.days {
            days |= 1 << read_day(day)?.to_monday_zero_offset();
        }
        let (from, to) = (read_minute(&text.from)?, read_minute(&text.to)?);
        if days == 0 || from >= to {
            return Err("a window needs at least one day and from before to".to_owned());
        }
        Ok(Self { days, from, to })
    }
}

fn read_day(text: &str) -> Result<Weekday, String> {
    Ok(match text {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => return Err(format!("{text:?} is not one of mon tue wed thu fri sat sun")),
    })
}

fn read_minute(text: &str) -> Result<u16, String> {
    let bad = || format!("{text:?} is not a time such as 09:30");
    let (hour, minute) = text.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2).ok_or_else(bad)?;
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u16>().ok()).flatten();
    match (digits(hour), digits(minute)) {
        (Some(24), Some(0)) => Ok(24 * 60),
        (Some(hour @ 0..24), Some(minute @ 0..60)) => Ok(hour * 60 + minute),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(zone: &str, days: &[&str], from: &str, to: &str) -> Result<ActiveHours, String> {
        let days = days.iter().map(|day| day.to_string()).collect();
        let window = WindowText { days, from: from.to_owned(), to: to.to_owned() };
        ActiveHours::read(&HoursText { timezone: zone.to_owned(), windows: vec![window] })
    }

    #[test]
    fn the_named_place_decides() {
        let tokyo = hours("Asia/Tokyo", &["fri"], "09:00", "18:00").unwrap();
        // 2026-11-20 is a Friday; 09:00 in Tokyo is 00:00 UTC.
        for (at, inside) in [
            ("2026-11-20T00:00:00Z", true),
            ("2026-11-20T08:59:59Z", true),
            ("2026-11-20T09:00:00Z", false),
            ("2026-11-19T23:59:59Z", false),
            ("2026-11-21T01:00:00Z", false),
        ] {
            assert_eq!(tokyo.contains(at.parse().unwrap()), inside, "{at}");
        }
    }

    #[test]
    fn bad_texts() {
        for (zone, day, from, to) in [
            ("Mars/Base", "mon", "09:00", "10:00"),
            ("UTC", "monday", "09:00", "10:00"),
            ("UTC", "mon", "9:00", "10:00"),
            ("UTC", "mon", "10:00", "10:00"),
            ("UTC", "mon", "22:00", "02:00"),
            ("UTC", "mon", "10:00", "24:01"),
        ] {
            assert!(hours(zone, &[day], from, to).is_err(), "{zone} {day} {from} {to}");
        }
    }
}
