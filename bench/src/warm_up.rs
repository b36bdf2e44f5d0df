//! Verifies keys before anything is measured, so that none of them is read from the database any more.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::api::Api;
use crate::connection::Expected;
use crate::keyset::Keyset;
use crate::load::Load;
use crate::request::Request;
use crate::schedule::Pace;

/// Last uses and new hashes are written once a second.
const FLUSH_TIME: Duration = Duration::from_secs(2);
const MAX_WARM_UPS: u32 = 20;
/// All that wait are written in some 240 flushes; many times that.
const MAX_FLUSHES: u32 = 2_000;
const CONNECTIONS: usize = 64;

impl Api {
    /// Verifies every key until none had to be read from the database. The first time that replaces the imported
    /// hashes, which are remembered only once that is written.
    pub fn warm_up(&self, keys: &Keyset) -> Result<()> {
        let request = Request::verify(self.address, &self.service_key, keys.get(0).len());
        let (to, expected) = (vec![self.address], Expected::VALID);
        let load = Load { to, request: &request, keys, expected, connections: CONNECTIONS };
        for _ in 0..MAX_WARM_UPS {
            let before = self.cache_misses()?;
            let outcome = load.run(Pace::EachOnce)?;
            ensure!(outcome.errors == 0, "{} of {} keys were not valid", outcome.errors, outcome.requests);
            std::thread::sleep(FLUSH_TIME);
            let misses = self.cache_misses()? - before;
            eprintln!("  verified {} keys, {misses} read from the database", keys.len());
            if misses == 0 {
                return Ok(());
            }
        }
        bail!("after {MAX_WARM_UPS} passes over all keys some are still read from the database")
    }

    /// How many keys had to be read from the database so far.
    pub fn cache_misses(&self) -> Result<u64> {
        self.metric("keyward_cache_misses_total")
    }

    /// Returns when every last use is written, and a flush more has passed.
    pub fn come_to_rest(&self) -> Result<()> {
        for _ in 0..MAX_FLUSHES {
            std::thread::sleep(FLUSH_TIME);
            if self.metric("keyward_waiting_uses")? == 0 {
                std::thread::sleep(FLUSH_TIME);
                return Ok(());
            }
        }
        bail!("after {MAX_FLUSHES} flushes some last uses still wait")
    }

    fn metric(&self, name: &str) -> Result<u64> {
        let metrics = self.get("/metrics")?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("/metrics has no {name}"))?;
        Ok(value.trim().parse::<f64>()? as u64)
    }
}
