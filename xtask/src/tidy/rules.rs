//! The rules as tables: change them here, after ARCHITECTURE.md.

/// Where the platform is.
pub const PLATFORM: &str = "crates/keyward/src/";

/// The modules of the platform, lowest step first, as ARCHITECTURE.md has them. A module knows its own step and those
/// below.
pub const STEPS: &[&[&str]] = &[
    &["error", "config", "db", "page", "context", "metrics", "mail", "aside"],
    &["ground", "announce", "audit", "change"],
    &["idempotency", "jobs", "limits"],
    &["accounts", "maintenance"],
    &["usage"],
    &["keys", "verify"],
    &["reservations", "sessions"],
    &["proofs", "oidc"],
    &["sinks"],
    &["tasks", "checkup"],
    // The whole, as the root exports it.
    &["platform", "Keyward"],
];

/// What the rules of `keyward-core` must not touch: they are pure.
pub const IMPURE: &[&str] = &[
    "tokio",
    "sqlx",
    "axum",
    "hyper",
    "reqwest",
    "tracing",
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
];

/// Crates that are at home in a few places only.
pub const HOMES: &[(&str, &[&str])] = &[
    ("sqlx", &["crates/keyward/src/db/"]),
    ("rusqlite", &["crates/keyward/src/db/"]),
    ("axum", WEB),
    ("hyper", WEB),
    ("hyper_util", WEB),
    ("http", WEB),
    ("http_body", WEB),
    ("http_body_util", WEB),
    ("tower", WEB),
    ("tower_http", WEB),
    ("keyward", &["crates/keyward-server/"]),
    ("clap", &["crates/keyward-server/src/cli/"]),
    ("anyhow", &["crates/keyward-server/src/main.rs", "crates/keyward-server/src/cli/"]),
];

const WEB: &[&str] = &["crates/keyward-server/", "crates/keyward-tower/"];

/// Names that say nothing, for a file or a folder.
pub const EMPTY_NAMES: &[&str] = &[
    "common", "data", "helper", "helpers", "info", "manager", "managers", "misc", "service", "services", "util",
    "utils",
];

/// Unfinished work, and panics on input.
pub const MARKS: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "#[ignore", ".unwrap()"];

/// The marks that tests must not bear either.
pub const MARKS_IN_TESTS: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "#[ignore"];

pub const MOST_LINES: usize = 800;
pub const ARGUABLE_LINES: usize = 400;
pub const MOST_LINES_MEDIAN: usize = 200;
pub const MOST_LINES_90TH: usize = 400;

/// Places of one machine: text must not name them.
pub const MACHINE_PLACES: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Where packages are fetched from is each machine's own matter.
pub const REGISTRY_HOSTS: &[&str] = &[
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("sparse", "+http"),
    concat!("registry.", "npmjs"),
    concat!("files.", "pythonhosted"),
    concat!("proxy.", "golang"),
    concat!("deb.", "debian.org"),
    concat!("arti", "factory"),
];

/// The one source of packages that Cargo.lock names.
pub const PACKAGE_SOURCE: &str = r#"source = "registry+https://github.com/rust-lang/crates.io-index""#;

/// What may stay although it breaks a rule: file, rule, a word of the sentence, reason. A line that is no longer
/// needed is a finding.
pub const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[
    ("crates/keyward/src/announce/nodes.rs", "home", "sqlx", "only the driver can LISTEN"),
    ("crates/keyward-server/src/app.rs", "home", "anyhow", "start-up fails with a sentence for the command line"),
    ("crates/keyward-server/src/serve.rs", "home", "anyhow", "start-up fails with a sentence for the command line"),
    ("crates/keyward-server/src/gateway/partner.rs", "home", "anyhow", "read at start-up, by app.rs"),
];
