//! How answers are shown: JSON for machines, a table or lines for people.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// A table of objects; `columns` are field names.
pub fn list(items: &[Value], columns: &[&str], json: bool) {
    if json {
        println!("{:#}", Value::from(items));
        return;
    }
    if items.is_empty() {
        println!("none");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_NO_BORDERS).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().copied());
    for item in items {
        table.add_row(columns.iter().map(|column| text(&item[*column])));
    }
    println!("{table}");
}

/// An object, a field a line.
pub fn object(value: &Value, json: bool) {
    match value.as_object().filter(|_| !json) {
        None => println!("{value:#}"),
        Some(fields) => {
            let width = fields.keys().map(String::len).max().unwrap_or_default();
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                println!("{name:width$}  {}", text(value));
            }
        }
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
        other => other.to_string(),
    }
}
