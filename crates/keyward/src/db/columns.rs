//! Rows turned into one array a column: what PostgreSQL unnests again. So a statement has the same text, and the same plan,
//! whatever the number of its rows.

use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;

use super::value::{Kind, Value};
use super::wire::{PgJson, PgTime};

/// The arrays of all columns, as arguments of a statement. Every row has the kinds of the first.
pub(super) fn arrays<const COLUMNS: usize>(rows: Vec<[Value; COLUMNS]>) -> Result<PgArguments, BoxDynError> {
    let mut columns: [Vec<Value>; COLUMNS] = std::array::from_fn(|_| Vec::with_capacity(rows.len()));
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let mut arguments = PgArguments::default();
    for column in columns {
        add(&mut arguments, column)?;
    }
    Ok(arguments)
}

/// The values of a column without their names; an absent one is `None`.
macro_rules! array {
    ($arguments:ident, $column:ident, $($pattern:pat => $value:expr),+) => {{
        let take = |value| match value {
            Value::Null(_) => Ok(None),
            $($pattern => Ok(Some($value)),)+
            other => Err(BoxDynError::from(format!("{other:?} is of another kind than its column"))),
        };
        $arguments.add($column.into_iter().map(take).collect::<Result<Vec<_>, _>>()?)
    }};
}

fn add(arguments: &mut PgArguments, column: Vec<Value>) -> Result<(), BoxDynError> {
    match column.first().map_or(Kind::Int, Value::kind) {
        Kind::Bool => array!(arguments, column, Value::Bool(is) => is),
        Kind::Int => array!(arguments, column, Value::Int(number) => number),
        Kind::Float => array!(arguments, column, Value::Float(number) => number),
        Kind::Text => array!(arguments, column, Value::Text(text) => text),
        Kind::Bytes => array!(arguments, column, Value::Bytes(bytes) => bytes),
        Kind::Uuid => array!(arguments, column, Value::Uuid(id) => id),
        Kind::Time => array!(arguments, column, Value::Time(at) => PgTime(at)),
        Kind::Json => array!(arguments, column, Value::Json(text) => PgJson(text)),
    }
}
