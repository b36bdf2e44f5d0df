//! Tokens that show that a request comes from our own pages: an HMAC over the session, a random part and the time, so none is
//! stored, and none fits another session (statement W-02).

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use subtle::ConstantTimeEq;

use super::{Sessions, vault};

/// How long a token is good for.
pub const CSRF_SECONDS: i64 = 3_600;
const PREFIX: &str = "kwx";
const PURPOSE: &str = "csrf token";

impl Sessions {
    /// A new token for a session.
    pub fn csrf_token(&self, session: Id<id::Session>) -> String {
        let begin = format!("{:x}.{}", self.ground.now().as_seconds(), vault::new_token("r"));
        let mac = self.macs_of(session, &begin).next().expect("there is a current pepper");
        format!("{begin}.{mac}")
    }

    /// Until when a token is good; `None` when it is not one of this session's, or no longer good.
    pub fn check_csrf(&self, session: Id<id::Session>, token: &str) -> Option<Timestamp> {
        let (begin, mac) = token.rsplit_once('.')?;
        let fits = |known: String| bool::from(known.as_bytes().ct_eq(mac.as_bytes()));
        if token.len() > 256 || !self.macs_of(session, begin).any(fits) {
            return None;
        }
        let made_at = i64::from_str_radix(begin.split_once('.')?.0, 16).ok()?;
        let until = Timestamp::from_micros(0).plus_seconds(made_at + CSRF_SECONDS);
        (until > self.ground.now()).then_some(until)
    }

    fn macs_of(&self, session: Id<id::Session>, begin: &str) -> std::vec::IntoIter<String> {
        let message = format!("{session} {begin}");
        let macs = self.vault.macs(PURPOSE, message.as_bytes()).map(|mac| vault::token_of(PREFIX, &mac));
        macs.collect::<Vec<_>>().into_iter()
    }
}
