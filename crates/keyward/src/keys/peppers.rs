//! The instance's peppers: from the settings, or made once and kept in the database.
//!
//! The first one listed makes new digests; older ones are still accepted and replaced on use. A mark in the database
//! tells a wrong pepper from a right one, so that a node with a wrong one refuses to start instead of refusing keys.

use hmac::{Hmac, KeyInit, Mac};
use keyward_core::key::Pepper;
use keyward_core::text::from_hex;
use sha2::Sha256;

use super::sql as statements;
use crate::db::{Db, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;

/// Fewest bytes of a pepper.
const MIN_BYTES: usize = 32;

/// The pepper for new digests, and those that are still accepted.
#[derive(Debug)]
pub struct Peppers {
    current: Pepper,
    older: Vec<Pepper>,
}

row! {
    struct PepperRow { version: u32, value: Option<Vec<u8>>, mark: Vec<u8> }
}

impl Peppers {
    pub fn current(&self) -> &Pepper {
        &self.current
    }

    pub fn older(&self) -> impl Iterator<Item = &Pepper> {
        self.older.iter()
    }

    /// Reads the peppers of the settings, or the one in the database, which is made when there is none.
    pub(crate) async fn open(ground: &Ground, configured: &[String]) -> Result<Self> {
        let configured = configured.iter().map(|text| read_configured(text)).collect::<Result<Vec<_>>>()?;
        if configured.is_empty() {
            let mut random = vec![0; MIN_BYTES];
            getrandom::fill(&mut random).expect("the operating system gives randomness");
            // Only an empty table takes it: of two nodes that start at once, one makes it and both read it.
            let insert = sql(statements::FIRST_PEPPER).bind(random.clone()).bind(mark(&random)).bind(ground.now());
            insert.execute(&ground.db).await?;
        }
        for (version, secret) in &configured {
            let insert = sql(statements::KNOW_PEPPER).bind(*version).bind(mark(secret)).bind(ground.now());
            insert.execute(&ground.db).await?;
        }
        let rows: Vec<PepperRow> = sql(statements::PEPPERS).all(&ground.db).await?;
        compare(&configured, &rows)?;
        let stored = rows.into_iter().filter_map(|row| Some((row.version, row.value?)));
        let stored: Vec<(u32, Vec<u8>)> =
            stored.filter(|(version, _)| configured.iter().all(|(known, _)| known != version)).collect();
        let mut peppers = configured.iter().chain(&stored).map(|(version, secret)| Pepper::new(*version, secret));
        let Some(current) = peppers.next() else {
            return Err(held_outside());
        };
        if configured.is_empty() {
            tracing::info!("the pepper is kept in the database; set keys.peppers to hold it apart");
        }
        Ok(Self { current, older: peppers.collect() })
    }
}

/// Where digests get their pepper from.
pub(crate) enum Kept {
    Outside,
    InDatabase,
    /// Nowhere yet: the first start makes one.
    Nowhere,
}

/// Looks for the pepper without making one; says what is wrong with those of the settings.
pub(crate) async fn look(db: &Db, configured: &[String]) -> Result<Kept> {
    let configured = configured.iter().map(|text| read_configured(text)).collect::<Result<Vec<_>>>()?;
    let rows: Vec<PepperRow> = sql(statements::PEPPERS).all(db).await?;
    compare(&configured, &rows)?;
    match (configured.is_empty(), rows.is_empty()) {
        (false, _) => Ok(Kept::Outside),
        (true, true) => Ok(Kept::Nowhere),
        (true, false) if rows.iter().any(|row| row.value.is_some()) => Ok(Kept::InDatabase),
        (true, false) => Err(held_outside()),
    }
}

/// Whether the configured peppers are those that the database knows; new ones are nobody's yet.
fn compare(configured: &[(u32, Vec<u8>)], rows: &[PepperRow]) -> Result<()> {
    for (version, secret) in configured {
        if rows.iter().any(|row| row.version == *version && row.mark != mark(secret)) {
            return Err(wrong(format!(
                "The configured pepper {version} is not the one that this database was used with."
            )));
        }
    }
    Ok(())
}

fn held_outside() -> Error {
    wrong("This database was used with a pepper that is held outside; set keys.peppers.".to_owned())
}

fn wrong(detail: String) -> Error {
    Error::new(keyward_core::problem::Code::NotReady, detail)
}

/// Tells one pepper from another and nothing else about it.
fn mark(secret: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(b"keyward pepper mark");
    mac.finalize().into_bytes().to_vec()
}

/// Refuses settings that no pepper can be read from.
pub fn check(configured: &[String]) -> Result<()> {
    configured.iter().try_for_each(|text| read_configured(text).map(drop))
}

/// `version:hex`.
fn read_configured(text: &str) -> Result<(u32, Vec<u8>)> {
    let bad = || Error::field("/keys/peppers", format!("must be version:hex, of at least {MIN_BYTES} bytes"));
    let (version, hex) = text.split_once(':').ok_or_else(bad)?;
    let secret = from_hex(hex).filter(|secret| secret.len() >= MIN_BYTES).ok_or_else(bad)?;
    Ok((version.parse().map_err(|_| bad())?, secret))
}
