//! Settings of the systems that events of the book are sent to, and what cannot be meant by them. How each is spoken to stands in
//! the slice of the same name.

use std::path::PathBuf;

use reqwest::Url;
use serde::Deserialize;
use toml::Value;

/// One table of `[[audit.sinks]]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    pub name: String,
    pub kind: SinkKind,
    pub url: String,
    #[serde(default)]
    pub token: String,
    #[serde(default)]
    pub token_file: PathBuf,
    #[serde(default)]
    pub format: SinkFormat,
    #[serde(default)]
    pub event_types: Vec<String>,
    #[serde(default)]
    pub min_severity: Severity,
    #[serde(default)]
    pub index: String,
    #[serde(default)]
    pub sourcetype: String,
    #[serde(default)]
    pub ca_file: PathBuf,
}

impl std::fmt::Debug for SinkSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkSettings").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What a sink understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    Syslog,
    SplunkHec,
    Elasticsearch,
    Datadog,
    Http,
}

impl SinkKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syslog => "syslog",
            Self::SplunkHec => "splunk_hec",
            Self::Elasticsearch => "elasticsearch",
            Self::Datadog => "datadog",
            Self::Http => "http",
        }
    }
}

/// The words in which an event is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkFormat {
    #[default]
    Ecs,
    Ocsf,
    Keyward,
}

impl SinkFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ecs => "ecs",
            Self::Ocsf => "ocsf",
            Self::Keyward => "keyward",
        }
    }
}

/// How much an event matters, as OCSF numbers it from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    #[default]
    Informational = 1,
    Low = 2,
    Medium = 3,
    High = 4,
}

/// Reads secrets from their files and refuses what cannot be meant; says which setting and why.
pub(super) fn complete(sinks: &mut [SinkSettings]) -> Result<(), String> {
    for index in 0..sinks.len() {
        let (before, rest) = sinks.split_at_mut(index);
        let Some(sink) = rest.first_mut() else { break };
        let at = |field: &str| format!("audit.sinks[{index}].{field}");
        if sink.token_file.as_os_str().is_empty() {
            sink.token = sink.token.trim().to_owned();
        } else {
            let read = std::fs::read_to_string(&sink.token_file);
            let text = read.map_err(|error| format!("{}: {}: {error}", at("token_file"), sink.token_file.display()))?;
            sink.token = text.trim().to_owned();
        }
        sink.check().map_err(|(field, why)| format!("{} {why}", at(field)))?;
        if before.iter().any(|other| other.name == sink.name) {
            return Err(format!("{} is the name of two sinks", at("name")));
        }
    }
    Ok(())
}

/// The list as it may be shown.
pub(super) fn without_secrets(sinks: &Value) -> String {
    let mut sinks = sinks.clone();
    for table in sinks.as_array_mut().into_iter().flatten().filter_map(Value::as_table_mut) {
        if let Some(token) = table.get_mut("token") {
            *token = "[redacted]".into();
        }
        // Some receivers take their key in the query.
        if let Some(url) = table.get_mut("url")
            && let Some((place, _)) = url.as_str().and_then(|url| url.split_once('?'))
        {
            *url = format!("{place}?[redacted]").into();
        }
    }
    sinks.to_string()
}

impl SinkSettings {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_name = |letter: u8| letter.is_ascii_alphanumeric() || b"_-.".contains(&letter);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(is_name) {
            return Err(("name", "must be 1 to 64 letters, digits, dots, hyphens and underscores"));
        }
        let url = Url::parse(&self.url).map_err(|_| ("url", "is not a URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(("url", "must not hold a name or password: give a token"));
        }
        if self.kind == SinkKind::Syslog {
            let is_bare = ["", "/"].contains(&url.path()) && url.query().is_none() && url.fragment().is_none();
            if !matches!(url.scheme(), "tcp" | "tls") || url.host_str().is_none() || url.port().is_none() || !is_bare {
                return Err(("url", "must be tcp://host:port or tls://host:port"));
            }
            if !self.token.is_empty() {
                return Err(("token", "has no place in syslog"));
            }
        } else {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(("url", "must begin with http:// or https://"));
            }
            if url.fragment().is_some() || url.query().is_some() && self.kind != SinkKind::Http {
                return Err(("url", "must end with its path"));
            }
        }
        if !is_plain(&self.token) && (self.kind != SinkKind::Elasticsearch || self.token.contains(char::is_control)) {
            return Err(("token", "must be one word of ASCII"));
        }
        if self.token.is_empty() && matches!(self.kind, SinkKind::SplunkHec | SinkKind::Datadog) {
            return Err(("token", "is needed for this kind"));
        }
        match self.kind {
            SinkKind::Elasticsearch if !is_index(&self.index) => {
                return Err(("index", "must name an index or data stream, in small letters"));
            }
            SinkKind::Elasticsearch | SinkKind::SplunkHec => {}
            _ if !self.index.is_empty() => return Err(("index", "is for Splunk and Elasticsearch only")),
            _ => {}
        }
        if !self.sourcetype.is_empty() && self.kind != SinkKind::SplunkHec {
            return Err(("sourcetype", "is for Splunk only"));
        }
        if !self.ca_file.as_os_str().is_empty() && !matches!(url.scheme(), "tls" | "https") {
            return Err(("ca_file", "is for tls:// and https:// only"));
        }
        let is_type = |name: &String| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        if !self.event_types.iter().all(is_type) {
            return Err(("event_types", "must be capital letters, digits and underscores each, e.g. \"SECURITY\""));
        }
        Ok(())
    }
}

/// What Elasticsearch takes as a name.
fn is_index(name: &str) -> bool {
    let is_letter =
        |letter: char| !letter.is_uppercase() && !letter.is_control() && !r#"\/*?"<>| ,#:"#.contains(letter);
    !name.is_empty() && name.len() <= 255 && !name.starts_with(['-', '_', '+', '.']) && name.chars().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SinkSettings, String> {
        let sink: SinkSettings = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut sinks = [sink];
        complete(&mut sinks)?;
        let [sink] = sinks;
        Ok(sink)
    }

    #[test]
    fn nonsense_is_refused_with_the_setting_and_the_reason() {
        let sink = |kind: &str, url: &str, rest: &str| {
            read(&format!("name = \"siem\"\nkind = \"{kind}\"\nurl = \"{url}\"\n{rest}"))
        };
        for (kind, url, rest) in [
            ("syslog", "tcp://127.0.0.1:6514", ""),
            ("syslog", "tls://[::1]:6514", "ca_file = \"ca.pem\""),
            ("splunk_hec", "https://splunk.example:8088", "token = \"t\"\nindex = \"main\"\nsourcetype = \"_json\""),
            ("elasticsearch", "http://127.0.0.1:9200/es", "token = \"elastic:pass word\"\nindex = \"logs-keyward\""),
            ("datadog", "https://intake.example", "token = \"t\"\nevent_types = [\"KEY\"]\nmin_severity = \"low\""),
            ("http", "https://example.com/in?tag=a", "format = \"ocsf\""),
        ] {
            assert_eq!(sink(kind, url, rest).map(|sink| sink.kind.as_str()), Ok(kind), "{url}");
        }
        for (kind, url, rest, expected) in [
            ("pigeon", "http://x", "", "unknown variant `pigeon`"),
            ("http", "http://x", "colour = 1", "unknown field `colour`"),
            ("http", "x", "", "audit.sinks[0].url is not a URL"),
            ("http", "tcp://x:1", "", "audit.sinks[0].url must begin with http"),
            ("http", "https://a:b@x", "", "audit.sinks[0].url must not hold a name or password"),
            ("syslog", "tcp://x", "", "audit.sinks[0].url must be tcp://host:port"),
            ("syslog", "udp://x:514", "", "audit.sinks[0].url must be tcp://host:port"),
            ("syslog", "tcp://x:514", "token = \"t\"", "audit.sinks[0].token has no place"),
            ("syslog", "tcp://x:514", "ca_file = \"ca.pem\"", "audit.sinks[0].ca_file is for tls"),
            ("splunk_hec", "https://x", "", "audit.sinks[0].token is needed"),
            ("datadog", "https://x", "token = \"a b\"", "audit.sinks[0].token must be one word"),
            ("elasticsearch", "https://x", "", "audit.sinks[0].index must name"),
            ("elasticsearch", "https://x", "index = \"Logs\"", "audit.sinks[0].index must name"),
            ("http", "https://x", "index = \"a\"", "audit.sinks[0].index is for"),
            ("http", "https://x", "event_types = [\"key\"]", "audit.sinks[0].event_types must be"),
            ("http", "https://x", "token_file = \"/nowhere/at/all\"", "audit.sinks[0].token_file: /nowhere/at/all"),
        ] {
            let error = sink(kind, url, rest).expect_err(expected);
            assert!(error.starts_with(expected), "{error}, not {expected}");
        }
    }

    #[test]
    fn two_sinks_have_two_names_and_no_token_is_shown() {
        let text = "[[sinks]]\nname = \"a\"\nkind = \"http\"\nurl = \"http://x?k=hunter3\"\ntoken = \"hunter2\"\n";
        let table: toml::Table = text.repeat(2).parse().expect("TOML");
        let shown = without_secrets(&table["sinks"]);
        assert!(!shown.contains("hunter") && shown.contains("[redacted]"), "{shown}");
        let mut sinks: Vec<SinkSettings> = table["sinks"].clone().try_into().expect("sinks");
        assert!(!format!("{sinks:?}").contains("hunter"));
        assert_eq!(complete(&mut sinks), Err("audit.sinks[1].name is the name of two sinks".to_owned()));
    }
}
