//! Syslog (RFC 5424), one message a line, each behind its length in octets (RFC 6587, 3.4.1; RFC 5425). The receiver's end of a batch
//! is awaited: see `connection`.

use std::fmt::Write as _;

use super::connection::Connector;
use super::{Line, Taken, Trouble};
use crate::config::{Severity, SinkSettings};
use crate::error::Result;

/// "log audit" (RFC 5424, table 1).
const FACILITY: u8 = 13;
/// The enterprise number for documentation (RFC 5612): Keyward has none of its own.
const DATA_ID: &str = "event@32473";
/// Longest HOSTNAME and MSGID (RFC 5424, 6).
const MOST_HOST: usize = 255;
const MOST_ID: usize = 32;

pub struct Syslog {
    connector: Connector,
    host: String,
}

impl Syslog {
    pub fn open(settings: &SinkSettings, host: &str) -> Result<Self> {
        Ok(Self { connector: Connector::open(settings)?, host: header_field(host, MOST_HOST) })
    }

    pub async fn send(&self, lines: &[Line]) -> Result<Taken, Trouble> {
        let mut bytes = Vec::new();
        for line in lines {
            let message = message(line, &self.host);
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(message.as_bytes());
        }
        self.connector.deliver(&bytes).await.map_err(Trouble::later)?;
        Ok(Taken::default())
    }
}

fn message(line: &Line, host: &str) -> String {
    let severity = match line.severity {
        Severity::Informational => 6,
        Severity::Low => 5,
        Severity::Medium => 4,
        Severity::High => 3,
    };
    let (priority, id) = (FACILITY * 8 + severity, header_field(&line.action, MOST_ID));
    let mut message = format!("<{priority}>1 {} {host} keyward - {id} [{DATA_ID}", line.at);
    let sequence = line.sequence.map(|sequence| sequence.to_string());
    for (name, value) in [
        ("id", Some(line.id.as_str())),
        ("sequence", sequence.as_deref()),
        ("type", Some(line.event_type.as_str())),
        ("organization", line.organization.as_deref()),
    ] {
        if let Some(value) = value {
            write!(message, " {name}=\"{}\"", escaped(value)).expect("a string takes everything");
        }
    }
    message + "] " + line.text.get()
}

/// A field of the header: printable ASCII without spaces, `-` when nothing is left.
fn header_field(text: &str, most: usize) -> String {
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}

/// A parameter's value (RFC 5424, 6.3.3).
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '"' | '\\' | ']') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_full() {
        let mut line = super::super::a_line("aud_1");
        line.organization = Some(r#"a"b\c]d"#.into());
        line.action = "über login".into();
        assert_eq!(
            message(&line, "keyward.example"),
            "<108>1 2026-11-20T12:00:00.000001Z keyward.example keyward - berlogin [event@32473 id=\"aud_1\" sequence=\"3\" \
             type=\"SECURITY\" organization=\"a\\\"b\\\\c\\]d\"] {\"a\":\"é\"}"
        );
        (line.severity, line.sequence, line.action) = (Severity::High, None, "é".into());
        assert!(
            message(&line, "-")
                .starts_with("<107>1 2026-11-20T12:00:00.000001Z - keyward - - [event@32473 id=\"aud_1\" type=")
        );
    }
}
