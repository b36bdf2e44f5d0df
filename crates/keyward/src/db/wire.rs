//! The types that PostgreSQL is sent and read in a form of our own: an instant without a calendar, JSON as the text that it is.

use keyward_core::time::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// Microseconds between 1970-01-01 and PostgreSQL's own epoch, 2000-01-01.
pub(super) const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// An instant, to the microsecond.
pub(super) struct PgTime(pub(super) Timestamp);

impl Type<Postgres> for PgTime {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl PgHasArrayType for PgTime {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of("timestamptz")
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

/// JSON text.
pub(super) struct PgJson(pub(super) String);

impl Type<Postgres> for PgJson {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("jsonb")
    }
}

impl PgHasArrayType for PgJson {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of("jsonb")
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
