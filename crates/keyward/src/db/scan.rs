//! Rows in great numbers, read as they lie: no value is made of a field until it is asked for, and none is copied. COPY on
//! PostgreSQL; on SQLite a plain reader of the same library, since the driver hands every field over from another thread.

use std::path::PathBuf;

use futures_util::StreamExt;
use keyward_core::time::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use sqlx::PgPool;
use sqlx::postgres::PgPoolCopyExt;

use super::wire::POSTGRES_EPOCH;
use super::{ACQUIRE_TIMEOUT, Db, DbError};

/// What PostgreSQL's binary COPY begins with, before two words of four bytes.
const COPY_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const COPY_HEADER: usize = COPY_SIGNATURE.len() + 8;

/// What PostgreSQL puts before the text of a `jsonb`; no JSON text begins so.
const JSON_VERSION: char = '\u{1}';

/// Bytes of a usual row, and the rows for which there is room from the beginning.
const USUAL_ROW: usize = 512;
const MOST_ROOM_ROWS: i64 = 1 << 16;

/// Rows, one behind the other, as binary COPY writes them: the number of fields, then each behind its length.
pub struct Scanned {
    bytes: Vec<u8>,
    /// Where the first row begins.
    start: usize,
    /// Where instants are counted from.
    epoch: i64,
}

impl Db {
    /// The rows of a statement of two numbers, all at once: the caller asks for as many as memory has room for.
    pub async fn scan(&self, select: &'static str, from: i64, to: i64) -> Result<Scanned, DbError> {
        match self {
            Self::Postgres { pool, .. } => copy(pool, select, from, to).await,
            Self::Sqlite { readers, .. } => {
                let file = readers.connect_options().get_filename().to_owned();
                let read = tokio::task::spawn_blocking(move || read(file, select, from, to));
                let bytes = read.await.map_err(|_| sqlx::Error::WorkerCrashed)?;
                let refused = |error: rusqlite::Error| DbError::Refused(sqlx::Error::AnyDriverError(error.into()));
                Ok(Scanned { bytes: bytes.map_err(refused)?, start: 0, epoch: 0 })
            }
        }
    }
}

async fn copy(pool: &PgPool, select: &str, from: i64, to: i64) -> Result<Scanned, DbError> {
    // COPY knows no placeholders; numbers need no quotes.
    let select = select.replace("$1", &from.to_string()).replace("$2", &to.to_string());
    let mut rows = pool.copy_out_raw(&format!("COPY ({select}) TO STDOUT (FORMAT binary)")).await?;
    let mut bytes = Vec::with_capacity(room(from, to));
    while let Some(row) = rows.next().await.transpose()? {
        bytes.extend_from_slice(&row);
    }
    if !bytes.starts_with(COPY_SIGNATURE) || bytes.len() < COPY_HEADER {
        return Err(DbError::Unreadable("COPY answered in another form".to_owned()));
    }
    Ok(Scanned { bytes, start: COPY_HEADER, epoch: POSTGRES_EPOCH })
}

fn read(file: PathBuf, select: &str, from: i64, to: i64) -> rusqlite::Result<Vec<u8>> {
    let connection =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(ACQUIRE_TIMEOUT)?;
    let mut statement = connection.prepare(select)?;
    let columns = statement.column_count();
    let mut rows = statement.query([from, to])?;
    let mut bytes = Vec::with_capacity(room(from, to));
    while let Some(row) = rows.next()? {
        bytes.extend_from_slice(&(columns as u16).to_be_bytes());
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => bytes.extend_from_slice(&(-1i32).to_be_bytes()),
                ValueRef::Integer(number) => field(&mut bytes, &number.to_be_bytes()),
                ValueRef::Real(number) => field(&mut bytes, &number.to_be_bytes()),
                ValueRef::Text(text) | ValueRef::Blob(text) => field(&mut bytes, text),
            }
        }
    }
    Ok(bytes)
}

/// For most rows, so that what was read is seldom moved.
fn room(from: i64, to: i64) -> usize {
    (to - from).clamp(0, MOST_ROOM_ROWS) as usize * USUAL_ROW
}

fn field(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(&(value.len() as i32).to_be_bytes());
    bytes.extend_from_slice(value);
}

impl Scanned {
    pub fn rows(&self) -> Rows<'_> {
        Rows { rest: &self.bytes[self.start..], epoch: self.epoch }
    }
}

pub struct Rows<'a> {
    rest: &'a [u8],
    epoch: i64,
}

impl<'a> Iterator for Rows<'a> {
    type Item = Fields<'a>;

    fn next(&mut self) -> Option<Fields<'a>> {
        let (count, mut end) = self.rest.split_first_chunk()?;
        // COPY ends with a count of -1.
        let count = u16::try_from(i16::from_be_bytes(*count)).ok()?;
        let start = end;
        for _ in 0..count {
            split_field(&mut end)?;
        }
        self.rest = end;
        Some(Fields { rest: &start[..start.len() - end.len()], epoch: self.epoch })
    }
}

/// The fields of a row, in the order of the statement. `None` is a field that cannot be what it is asked for.
pub struct Fields<'a> {
    rest: &'a [u8],
    epoch: i64,
}

/// Takes the next field off; the inner `None` is NULL.
fn split_field<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, after) = rest.split_first_chunk()?;
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        *rest = after;
        return Some(None);
    };
    let (value, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(Some(value))
}

impl<'a> Fields<'a> {
    pub fn bytes_or_null(&mut self) -> Option<Option<&'a [u8]>> {
        split_field(&mut self.rest)
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        self.bytes_or_null()?
    }

    pub fn text_or_null(&mut self) -> Option<Option<&'a str>> {
        match self.bytes_or_null()? {
            Some(bytes) => Some(Some(std::str::from_utf8(bytes).ok()?)),
            None => Some(None),
        }
    }

    pub fn text(&mut self) -> Option<&'a str> {
        self.text_or_null()?
    }

    /// The text of a JSON value, which PostgreSQL sends behind the version of its form.
    pub fn json(&mut self) -> Option<&'a str> {
        let text = self.text()?;
        Some(text.strip_prefix(JSON_VERSION).unwrap_or(text))
    }

    /// A whole number of any width, or a truth.
    pub fn int(&mut self) -> Option<i64> {
        match *self.bytes()? {
            [byte] => Some(byte.into()),
            ref bytes => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        }
    }

    pub fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp::from_micros(self.int()?.checked_add(self.epoch)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_lie() {
        let mut bytes = Vec::new();
        for row in [1i64, 2] {
            bytes.extend_from_slice(&6u16.to_be_bytes());
            field(&mut bytes, &row.to_be_bytes());
            bytes.extend_from_slice(&(-1i32).to_be_bytes());
            field(&mut bytes, &[1]);
            field(&mut bytes, "ä".as_bytes());
            field(&mut bytes, b"\x01{}");
            field(&mut bytes, b"{}");
        }
        bytes.extend_from_slice(&(-1i16).to_be_bytes());
        let scanned = Scanned { bytes, start: 0, epoch: 10 };
        let read = |mut row: Fields<'_>| {
            let plain = (row.time(), row.text_or_null() == Some(None), row.int(), row.text() == Some("ä"));
            (plain, row.json() == Some("{}"), row.json() == Some("{}"), row.text().is_none())
        };
        let rows = scanned.rows().map(read);
        let row = |micros| ((Some(Timestamp::from_micros(micros)), true, Some(1), true), true, true, true);
        assert_eq!(rows.collect::<Vec<_>>(), [row(11), row(12)]);
        // What breaks off is no row.
        let cut = Scanned { bytes: scanned.bytes[..scanned.bytes.len() - 3].to_vec(), ..scanned };
        assert_eq!(cut.rows().count(), 1);
    }
}
