//! Pages of a list, newest first, by an opaque cursor that stands for the last row shown.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use uuid::Uuid;

use crate::error::{Error, Result};

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    /// 1–200.
    pub limit: u32,
    after: Option<Position>,
}

/// Where a row stands in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub at: Timestamp,
    pub id: Uuid,
}

/// A part of a list and the way to the next.
#[derive(Debug, Clone)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

pub const DEFAULT_LIMIT: u32 = 50;
pub const MAX_LIMIT: u32 = 200;

impl PageRequest {
    pub fn new(limit: Option<u32>, cursor: Option<&str>) -> Result<Self> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::new(Code::MalformedRequest, format!("limit must be between 1 and {MAX_LIMIT}.")));
        }
        let after = cursor.map(Position::read).transpose()?;
        Ok(Self { limit, after })
    }

    /// Bounds for `(created_at, id) < ($a, $b)`: past the newest row when there is no cursor.
    pub fn before(&self) -> Position {
        self.after.unwrap_or(Position { at: Timestamp::LATEST, id: Uuid::max() })
    }

    /// The same for a list whose rows are numbered.
    pub fn before_sequence(&self) -> i64 {
        self.before().id.as_u128().try_into().unwrap_or(i64::MAX)
    }

    /// Where to begin in the given direction.
    pub fn start(&self, oldest_first: bool) -> Position {
        let beginning = Position { at: Timestamp::from_micros(0), id: Uuid::nil() };
        if oldest_first { self.after.unwrap_or(beginning) } else { self.before() }
    }

    /// Statements ask for one row more than wanted; its presence means that there is a next page.
    pub fn fetch(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    pub fn page<T>(&self, mut items: Vec<T>, position: impl Fn(&T) -> Position) -> Page<T> {
        let more = items.len() > self.limit as usize;
        items.truncate(self.limit as usize);
        let next_cursor = items.last().filter(|_| more).map(|last| position(last).write());
        Page { items, next_cursor }
    }
}

impl Position {
    /// Of a row that is numbered.
    pub fn of_sequence(sequence: i64) -> Self {
        Self { at: Timestamp::from_micros(0), id: Uuid::from_u128(sequence.max(0) as u128) }
    }

    fn write(self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.at.as_micros().to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn read(cursor: &str) -> Result<Self> {
        let bad = || Error::new(Code::InvalidCursor, Code::InvalidCursor.meaning());
        let bytes: [u8; 24] =
            URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(bad)?;
        let (at, id) = bytes.split_at(8);
        let micros = i64::from_be_bytes(at.try_into().map_err(|_| bad())?);
        // A forged instant outside of what can be written would be refused by PostgreSQL.
        if !(0..=Timestamp::LATEST.as_micros()).contains(&micros) {
            return Err(bad());
        }
        Ok(Self { at: Timestamp::from_micros(micros), id: Uuid::from_slice(id).map_err(|_| bad())? })
    }
}

impl<T> Page<T> {
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_bad_ones_are_refused() {
        let position = Position { at: Timestamp::from_micros(7), id: Uuid::from_u128(9) };
        let request = PageRequest::new(None, Some(&position.write())).unwrap();
        assert_eq!(request.before(), position);
        let negative = Position { at: Timestamp::from_micros(-1), ..position }.write();
        for bad in ["", "x", "!!!!", negative.as_str()] {
            assert_eq!(PageRequest::new(None, Some(bad)).unwrap_err().code, Code::InvalidCursor, "{bad}");
        }
        assert!(PageRequest::new(Some(0), None).is_err() && PageRequest::new(Some(201), None).is_err());
    }
}
