//! The sums of a batch as a compact block of bytes: how they wait until they are added (`add_up`).

use std::borrow::Cow;

use keyward_core::sketch::Sketch;
use keyward_core::time::Timestamp;
use keyward_core::usd::Usd;
use keyward_core::varint;
use uuid::Uuid;

use super::bytes::{read_text, take, write_text};
use super::rollup::{ErrorLine, Level, Rollup, Slot};
use super::totals::Totals;

/// First byte of the block.
const VERSION: u8 = 1;

impl Rollup<'_> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + 128 * self.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&(self.sums.len() as u32).to_le_bytes());
        for (slot, totals) in &self.sums {
            bytes.push(slot.level as u8);
            bytes.extend_from_slice(&slot.starts_at.as_micros().to_le_bytes());
            bytes.extend_from_slice(slot.key.as_bytes());
            write_text(&mut bytes, &slot.route);
            for number in numbers(totals) {
                varint::write(&mut bytes, number.unsigned_abs());
            }
            let durations = totals.durations.to_bytes();
            varint::write(&mut bytes, durations.len() as u64);
            bytes.extend_from_slice(&durations);
        }
        for (line, calls) in &self.errors {
            bytes.extend_from_slice(&line.day.as_micros().to_le_bytes());
            bytes.extend_from_slice(line.key.as_bytes());
            varint::write(&mut bytes, line.status.unsigned_abs());
            write_text(&mut bytes, &line.error);
            varint::write(&mut bytes, calls.unsigned_abs());
        }
        bytes
    }
}

impl Rollup<'static> {
    /// Adds what a block holds; `None` for what `to_bytes` never wrote, and then only a part may have been added.
    pub(super) fn merge_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            let [level] = take(&mut rest)?;
            let level = *Level::ALL.get(usize::from(level))?;
            let (starts_at, key) = (read_time(&mut rest)?, Uuid::from_bytes(take(&mut rest)?));
            let slot = Slot { level, starts_at, key, route: Cow::Owned(read_text(&mut rest)?.to_owned()) };
            let totals = read_totals(&mut rest)?;
            self.sums.entry(slot).or_default().merge(&totals);
        }
        while !rest.is_empty() {
            let (day, key) = (read_time(&mut rest)?, Uuid::from_bytes(take(&mut rest)?));
            let status = read_sum(&mut rest)?;
            let line = ErrorLine { day, key, status, error: Cow::Owned(read_text(&mut rest)?.to_owned()) };
            *self.errors.entry(line).or_default() += read_sum(&mut rest)?;
        }
        Some(())
    }
}

/// Every sum but the durations, in the order of the block.
fn numbers(totals: &Totals) -> [i64; 8] {
    let Totals { calls, client_errors, server_errors, request_bytes, response_bytes, .. } = *totals;
    let Totals { tokens_in, tokens_out, cost, .. } = *totals;
    [calls, client_errors, server_errors, request_bytes, response_bytes, tokens_in, tokens_out, cost.as_nanos()]
}

fn read_totals(rest: &mut &[u8]) -> Option<Totals> {
    let mut numbers = [0; 8];
    for number in &mut numbers {
        *number = read_sum(rest)?;
    }
    let length = usize::try_from(varint::read(rest)?).ok()?;
    let (durations, left) = rest.split_at_checked(length)?;
    *rest = left;
    let [calls, client_errors, server_errors, request_bytes, response_bytes, tokens_in, tokens_out, cost] = numbers;
    Some(Totals {
        calls,
        client_errors,
        server_errors,
        request_bytes,
        response_bytes,
        tokens_in,
        tokens_out,
        cost: Usd::from_nanos(cost),
        durations: Sketch::from_bytes(durations)?,
    })
}

fn read_sum(rest: &mut &[u8]) -> Option<i64> {
    i64::try_from(varint::read(rest)?).ok()
}

fn read_time(rest: &mut &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_micros(i64::from_le_bytes(take(rest)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_adds_up() {
        let mut one = Rollup::default();
        let slot = |route: &'static str| Slot {
            level: Level::Day,
            starts_at: Timestamp::from_micros(-86_400_000_000),
            key: Uuid::from_u128(7),
            route: Cow::Borrowed(route),
        };
        let mut totals = Totals { calls: 300, cost: Usd::from_nanos(i64::MAX), ..Totals::default() };
        totals.durations.add(keyward_core::sketch::Bucket::of(1_000));
        one.sums.insert(slot(""), totals.clone());
        one.sums.insert(slot("GET /Größe"), Totals { tokens_out: 1, ..Totals::default() });
        let line = ErrorLine { day: Timestamp::from_micros(0), key: Uuid::nil(), status: 500, error: "down".into() };
        one.errors.insert(line.clone(), 128);
        let bytes = one.to_bytes();

        let mut read = Rollup::default();
        assert_eq!(read.merge_bytes(&bytes), Some(()));
        assert_eq!((&read.sums, &read.errors), (&one.sums, &one.errors));
        assert_eq!(read.merge_bytes(&bytes), Some(()));
        totals.merge(&totals.clone());
        assert_eq!((&read.sums[&slot("")], read.errors[&line]), (&totals, 256));

        assert!((1..bytes.len()).any(|end| Rollup::default().merge_bytes(&bytes[..end]).is_none()));
        assert_eq!(Rollup::default().merge_bytes(&[]), None);
        assert_eq!(Rollup::default().merge_bytes(&[VERSION + 1]), None);
    }
}
