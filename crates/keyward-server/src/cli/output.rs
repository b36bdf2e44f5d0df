//! How answers are shown: JSON for machines, a table or lines for people.

use std::io::Write;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde_json::Value;

/// Writes a line. A reader that has gone away (`| head`) ends the command quietly.
pub fn line(text: impl std::fmt::Display) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Columns of a terminal that are too few to be meant: some tell none at all.
const NARROW: u16 = 40;

/// A table without a frame.
pub fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if table.width().is_some_and(|width| width >= NARROW) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// A table of objects; `columns` are field names.
pub fn list(items: &[Value], columns: &[&str], json: bool) {
    if json {
        line(format_args!("{:#}", Value::from(items)));
        return;
    }
    if items.is_empty() {
        line("none");
        return;
    }
    let mut table = table();
    table.set_header(columns.iter().map(|column| column.to_uppercase()));
    for item in items {
        table.add_row(columns.iter().map(|column| text(&item[*column])));
    }
    for (index, column) in columns.iter().enumerate() {
        // A word is not broken: an identifier is there to be copied.
        if items.iter().all(|item| !text(&item[*column]).contains(' '))
            && let Some(column) = table.column_mut(index)
        {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    line(format_args!("{table}"));
}

/// An object, a field a line.
pub fn object(value: &Value, json: bool) {
    match value.as_object().filter(|_| !json) {
        None => line(format_args!("{value:#}")),
        Some(fields) => {
            let width = fields.keys().map(String::len).max().unwrap_or_default();
            for (name, value) in fields.iter().filter(|(_, value)| says_something(value)) {
                line(format_args!("{name:width$}  {}", text(value)));
            }
        }
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

/// A value in a few words.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        Value::Array(items) => items.len().to_string(),
        other => other.to_string(),
    }
}
