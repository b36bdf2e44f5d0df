//! Allowed countries, told from the address by a database in MaxMind's format. The database is made here: one network
//! of Japan and one of Germany.

use serde_json::json;

use crate::support::{Backend, Node};

/// A text as the format writes it: its type and length, then itself.
fn text(value: &str) -> Vec<u8> {
    [&[0b010_00000 | value.len() as u8], value.as_bytes()].concat()
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let body = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat());
    std::iter::once(0b111_00000 | entries.len() as u8).chain(body).collect()
}

/// Unsigned 16 bits; 32-bit values only differ in the type.
fn number(kind: u8, value: u16) -> Vec<u8> {
    [&[kind << 5 | 2], value.to_be_bytes().as_slice()].concat()
}

/// 0.0.0.0/1 is Japan, 128.0.0.0/2 Germany, the rest unknown: a search tree of two nodes with 24-bit records.
fn database() -> Vec<u8> {
    let country = |code: &str| map(&[("country", map(&[("iso_code", text(code))]))]);
    let (japan, germany) = (country("JP"), country("DE"));
    let nodes = 2u32;
    let data = |offset: usize| nodes + 16 + offset as u32;
    let records = [data(0), 1, data(japan.len()), nodes];
    let tree = records.iter().flat_map(|record| record.to_be_bytes()[1..].to_vec());
    let metadata = map(&[
        ("binary_format_major_version", number(5, 2)),
        ("binary_format_minor_version", number(5, 0)),
        ("build_epoch", vec![0b000_00001, 0b000_00010, 0]),
        ("database_type", text("Country")),
        ("description", map(&[])),
        ("ip_version", number(5, 4)),
        ("languages", vec![0b000_00000, 0b000_00100]),
        ("node_count", number(6, nodes as u16)),
        ("record_size", number(5, 24)),
    ]);
    let marker = b"\xAB\xCD\xEFMaxMind.com".to_vec();
    tree.chain([0; 16]).chain(japan).chain(germany).chain(marker).chain(metadata).collect()
}

async fn check(backend: Backend) {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("countries.mmdb");
    std::fs::write(&path, database()).unwrap();
    let node = Node::start_with(backend, |layers| layers.flag("verify.country_database", path.to_str().unwrap())).await;
    let issued = node.new_key(json!({ "allowed_countries": ["JP"] })).await;
    let key = issued["key"].as_str().unwrap();
    for (address, wanted) in [
        ("1.2.3.4", "valid"),
        ("::ffff:1.2.3.4", "valid"),
        ("130.1.1.1", "country_forbidden"),
        ("200.1.1.1", "country_forbidden"),
    ] {
        assert_eq!(node.verify(json!({ "key": key, "ip": address })).await.code(), wanted, "{address}");
    }
    assert_eq!(node.code_of(key).await, "country_forbidden", "without an address");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_country_of_the_address_decides_on_sqlite() {
    check(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_country_of_the_address_decides_on_postgres() {
    check(Backend::Postgres).await;
}
