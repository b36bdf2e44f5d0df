//! Values on their way to and from either database. A kind of value is stored in each database's own best type:
//! an instant is `timestamptz` or microseconds, an id `uuid` or sixteen bytes, JSON `jsonb` or text.

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef};
use sqlx::{Arguments, Decode, Encode, Postgres, Type, TypeInfo, ValueRef};
use uuid::Uuid;

use super::DbError;

/// A value of either database.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null(Kind),
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Uuid(Uuid),
    Time(Timestamp),
    /// JSON text.
    Json(String),
}

/// What an absent value would have been; PostgreSQL wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    Uuid,
    Time,
    Json,
}

/// What can be bound to a placeholder.
pub trait Bind {
    const KIND: Kind;
    fn into_value(self) -> Value;
}

/// What a column can be read as.
pub trait FromValue: Sized {
    fn from_value(value: Value) -> Result<Self, DbError>;
}

/// Marks a value that is stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

fn unexpected<T>(value: &Value) -> DbError {
    DbError::Unreadable(format!("{value:?} is not a {}", std::any::type_name::<T>()))
}

macro_rules! plain {
    ($($type:ty, $kind:ident, $into:expr, { $($pattern:pat => $read:expr),* };)*) => {$(
        impl Bind for $type {
            const KIND: Kind = Kind::$kind;
            fn into_value(self) -> Value {
                let into: fn(Self) -> Value = $into;
                into(self)
            }
        }
        impl FromValue for $type {
            fn from_value(value: Value) -> Result<Self, DbError> {
                match value {
                    $($pattern => Ok($read),)*
                    other => Err(unexpected::<Self>(&other)),
                }
            }
        }
    )*};
}

plain! {
    bool, Bool, Value::Bool, { Value::Bool(is) => is, Value::Int(number) => number != 0 };
    i64, Int, Value::Int, { Value::Int(number) => number };
    f64, Float, Value::Float, { Value::Float(number) => number, Value::Int(number) => number as f64 };
    String, Text, Value::Text, { Value::Text(text) | Value::Json(text) => text };
    Vec<u8>, Bytes, Value::Bytes, { Value::Bytes(bytes) => bytes };
    Uuid, Uuid, Value::Uuid, {
        Value::Uuid(uuid) => uuid,
        Value::Bytes(bytes) => Uuid::from_slice(&bytes).map_err(|error| DbError::Unreadable(error.to_string()))?
    };
    Timestamp, Time, Value::Time, { Value::Time(at) => at, Value::Int(micros) => Timestamp::from_micros(micros) };
}

impl Bind for u32 {
    const KIND: Kind = Kind::Int;
    fn into_value(self) -> Value {
        Value::Int(i64::from(self))
    }
}

impl FromValue for u32 {
    fn from_value(value: Value) -> Result<Self, DbError> {
        let number = i64::from_value(value)?;
        Self::try_from(number).map_err(|error| DbError::Unreadable(error.to_string()))
    }
}

impl Bind for &str {
    const KIND: Kind = Kind::Text;
    fn into_value(self) -> Value {
        Value::Text(self.to_owned())
    }
}

impl Bind for &String {
    const KIND: Kind = Kind::Text;
    fn into_value(self) -> Value {
        Value::Text(self.clone())
    }
}

impl<K: id::Kind> Bind for Id<K> {
    const KIND: Kind = Kind::Uuid;
    fn into_value(self) -> Value {
        Value::Uuid(self.uuid())
    }
}

impl<K: id::Kind> FromValue for Id<K> {
    fn from_value(value: Value) -> Result<Self, DbError> {
        Uuid::from_value(value).map(Self::from_uuid)
    }
}

impl<T: Serialize> Bind for Json<T> {
    const KIND: Kind = Kind::Json;
    fn into_value(self) -> Value {
        Value::Json(serde_json::to_string(&self.0).expect("what is stored as JSON can be written as JSON"))
    }
}

impl<T: DeserializeOwned> FromValue for Json<T> {
    fn from_value(value: Value) -> Result<Self, DbError> {
        let text = String::from_value(value)?;
        serde_json::from_str(&text).map(Self).map_err(|error| DbError::Unreadable(error.to_string()))
    }
}

impl<T: Bind> Bind for Option<T> {
    const KIND: Kind = T::KIND;
    fn into_value(self) -> Value {
        self.map_or(Value::Null(T::KIND), T::into_value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Self, DbError> {
        match value {
            Value::Null(_) => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// Adds a value to an SQLite statement.
pub(super) fn bind_sqlite(arguments: &mut sqlx::sqlite::SqliteArguments, value: Value) -> Result<(), BoxDynError> {
    match value {
        Value::Null(_) => arguments.add(None::<i64>),
        Value::Bool(is) => arguments.add(is),
        Value::Int(number) => arguments.add(number),
        Value::Float(number) => arguments.add(number),
        Value::Text(text) | Value::Json(text) => arguments.add(text),
        Value::Bytes(bytes) => arguments.add(bytes),
        Value::Uuid(uuid) => arguments.add(uuid.as_bytes().to_vec()),
        Value::Time(at) => arguments.add(at.as_micros()),
    }
}

/// Adds a value to a PostgreSQL statement.
pub(super) fn bind_postgres(arguments: &mut sqlx::postgres::PgArguments, value: Value) -> Result<(), BoxDynError> {
    match value {
        Value::Null(Kind::Bool) => arguments.add(None::<bool>),
        Value::Null(Kind::Int) => arguments.add(None::<i64>),
        Value::Null(Kind::Float) => arguments.add(None::<f64>),
        Value::Null(Kind::Text) => arguments.add(None::<String>),
        Value::Null(Kind::Bytes) => arguments.add(None::<Vec<u8>>),
        Value::Null(Kind::Uuid) => arguments.add(None::<Uuid>),
        Value::Null(Kind::Time) => arguments.add(None::<PgTime>),
        Value::Null(Kind::Json) => arguments.add(None::<PgJson>),
        Value::Bool(is) => arguments.add(is),
        Value::Int(number) => arguments.add(number),
        Value::Float(number) => arguments.add(number),
        Value::Text(text) => arguments.add(text),
        Value::Bytes(bytes) => arguments.add(bytes),
        Value::Uuid(uuid) => arguments.add(uuid),
        Value::Time(at) => arguments.add(PgTime(at)),
        Value::Json(text) => arguments.add(PgJson(text)),
    }
}

pub(super) fn read_sqlite(raw: sqlx::sqlite::SqliteValueRef<'_>) -> Result<Value, BoxDynError> {
    if raw.is_null() {
        return Ok(Value::Null(Kind::Text));
    }
    let kind = raw.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "INTEGER" | "BOOLEAN" => Value::Int(Decode::<sqlx::Sqlite>::decode(raw)?),
        "REAL" => Value::Float(Decode::<sqlx::Sqlite>::decode(raw)?),
        "BLOB" => Value::Bytes(Decode::<sqlx::Sqlite>::decode(raw)?),
        _ => Value::Text(Decode::<sqlx::Sqlite>::decode(raw)?),
    })
}

pub(super) fn read_postgres(raw: PgValueRef<'_>) -> Result<Value, BoxDynError> {
    if raw.is_null() {
        return Ok(Value::Null(Kind::Text));
    }
    let kind = raw.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "BOOL" => Value::Bool(Decode::<Postgres>::decode(raw)?),
        "INT2" => Value::Int(<i16 as Decode<Postgres>>::decode(raw)?.into()),
        "INT4" => Value::Int(<i32 as Decode<Postgres>>::decode(raw)?.into()),
        "INT8" => Value::Int(Decode::<Postgres>::decode(raw)?),
        "FLOAT8" => Value::Float(Decode::<Postgres>::decode(raw)?),
        "BYTEA" => Value::Bytes(Decode::<Postgres>::decode(raw)?),
        "UUID" => Value::Uuid(Decode::<Postgres>::decode(raw)?),
        "TIMESTAMPTZ" => Value::Time(PgTime::decode(raw)?.0),
        "JSONB" => Value::Json(PgJson::decode(raw)?.0),
        _ => Value::Text(Decode::<Postgres>::decode(raw)?),
    })
}

/// Microseconds between 1970-01-01 and PostgreSQL's own epoch, 2000-01-01.
pub(super) const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

struct PgTime(Timestamp);

impl Type<Postgres> for PgTime {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl Encode<'_, Postgres> for PgTime {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0.as_micros().saturating_sub(POSTGRES_EPOCH), buffer)
    }
}

impl<'r> Decode<'r, Postgres> for PgTime {
    fn decode(raw: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let micros = i64::from_be_bytes(raw.as_bytes()?.try_into()?);
        Ok(Self(Timestamp::from_micros(micros.saturating_add(POSTGRES_EPOCH))))
    }
}

struct PgJson(String);

impl Type<Postgres> for PgJson {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("jsonb")
    }
}

impl Encode<'_, Postgres> for PgJson {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // The binary form of jsonb is a version byte and the text.
        buffer.push(1);
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for PgJson {
    fn decode(raw: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let bytes = raw.as_bytes()?;
        let text = bytes.strip_prefix(&[1]).ok_or("jsonb of an unknown version")?;
        Ok(Self(std::str::from_utf8(text)?.to_owned()))
    }
}
