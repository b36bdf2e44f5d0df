//! The country of an address, from a database in MaxMind's format that the operator names. Read once, at the start.

use std::net::IpAddr;
use std::path::Path;

use keyward_core::problem::Code;
use maxminddb::{PathElement, Reader};

use crate::error::{Error, Result};

/// Knows the country of addresses, or of none without a database.
pub struct Countries(Option<Reader<Vec<u8>>>);

impl Countries {
    /// Opens the database; an empty path is none.
    pub fn open(path: &Path) -> Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(Self(None));
        }
        let unreadable = |error| {
            let detail = format!("verify.country_database: {} cannot be read: {error}", path.display());
            Error::new(Code::NotReady, detail)
        };
        Reader::open_readfile(path).map(|reader| Self(Some(reader))).map_err(unreadable)
    }

    /// ISO 3166-1 alpha-2, when the address is in the database.
    pub fn of(&self, address: IpAddr) -> Option<[u8; 2]> {
        let found = self.0.as_ref()?.lookup(address).ok()?;
        let code = found.decode_path::<&str>(&[PathElement::Key("country"), PathElement::Key("iso_code")]).ok()??;
        code.as_bytes().try_into().ok()
    }
}
