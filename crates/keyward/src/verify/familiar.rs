//! Whoever asks again over the same connection presents the same service key again. What was found for it then holds as long
//! as nothing at all was announced since: not one rule is skipped, only the look-up.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use keyward_core::record::KeyRecord;
use keyward_core::time::Timestamp;
use keyward_core::verify::CannotJudge;
use zeroize::Zeroizing;

use super::Verifier;

/// The service key that a connection presented last, if it was one.
#[derive(Default)]
pub struct Familiar(Option<Known>);

struct Known {
    presented: Zeroizing<String>,
    record: Arc<KeyRecord>,
    /// How many announcements there were before it was looked up.
    posted: u64,
}

impl Familiar {
    fn holds(&self, presented: &str, posted: u64) -> bool {
        self.0.as_ref().is_some_and(|known| {
            known.posted == posted
                && !known.record.tenant.is_superseded()
                && verify_slices_are_equal(known.presented.as_bytes(), presented.as_bytes()).is_ok()
        })
    }
}

impl Verifier {
    /// `identify` as of `now`, for a connection whose last caller is familiar.
    pub async fn identify_again<'f>(
        &self,
        presented: &str,
        ip: Option<IpAddr>,
        now: Timestamp,
        familiar: &'f mut Familiar,
    ) -> Result<Option<&'f KeyRecord>, CannotJudge> {
        let posted = self.ground.board.posted();
        if !self.ground.board.is_fresh(now) || !familiar.holds(presented, posted) {
            familiar.0 = None;
            let Some(record) = self.identify_at(presented, ip, now).await? else { return Ok(None) };
            let presented = Zeroizing::new(presented.to_owned());
            let known = familiar.0.insert(Known { presented, record, posted });
            return Ok(Some(&known.record));
        }
        let record = familiar.0.as_ref().map(|known| &*known.record);
        Ok(record.filter(|record| self.admits(record, ip, now)))
    }
}
