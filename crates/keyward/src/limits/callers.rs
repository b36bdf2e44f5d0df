//! Limits of the management API: for each caller, and for each address where nobody is known. Verify and forward-auth
//! have none of these. Counted on each node, up to its share of the limit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use keyward_core::id::{self, Id};
use keyward_core::limit::{Exceeded, SlidingWindow};
use keyward_core::time::Timestamp;

use crate::announce::Board;
use crate::config::CallerLimitSettings;

const MINUTE_SECONDS: u64 = 60;
const MINUTE: i64 = 60_000_000;
/// Most sources that are counted apart. Beyond it new ones share a counter, so that many addresses take no memory.
const MAX_SOURCES: usize = 100_000;

macro_rules! calls {
    ($($(#[$meta:meta])* $variant:ident $name:literal $setting:ident;)*) => {
        /// What kind of call is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Call { $($(#[$meta])* $variant),* }

        impl Call {
            /// The name of the limit's policy.
            pub fn policy(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            fn limit(self, settings: &CallerLimitSettings) -> u64 {
                match self { $(Self::$variant => settings.$setting),* }
            }
        }
    };
}

calls! {
    /// Without a valid credential, whatever was asked.
    Unauthenticated "unauthenticated" unauthenticated_per_minute;
    /// Passwords, codes and one-time links.
    Authentication "authentication" authentication_per_minute;
    Create "create" create_per_minute;
    Import "import" import_per_minute;
    List "list" list_per_minute;
    Rotate "rotate" rotate_per_minute;
    Revoke "revoke" revoke_per_minute;
    RevokeAll "revoke-all" revoke_all_per_minute;
    Stats "stats" stats_per_minute;
    Health "health" health_per_minute;
}

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    Caller(Id<id::Key>),
    Person(Id<id::User>),
    /// An IPv4 address, or the /64 of an IPv6 address: see `Source::address`.
    Address(u64, bool),
    /// All that found no counter of their own.
    Others,
}

impl Source {
    /// An IPv6 host owns its whole /64, so that is one source.
    pub fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(four) => Self::Address(u64::from(four.to_bits()), false),
            IpAddr::V6(six) => Self::Address((six.to_bits() >> 64) as u64, true),
        }
    }
}

/// The counters of the management API.
pub struct CallerLimits {
    settings: CallerLimitSettings,
    board: Arc<Board>,
    windows: Mutex<HashMap<(Call, Source), Seen>>,
}

#[derive(Default)]
struct Seen {
    window: SlidingWindow,
    told: bool,
}

/// How much a source may still call after a call that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub policy: &'static str,
    pub limit: u64,
    pub window_seconds: u64,
    /// On this node.
    pub remaining: u64,
    /// Until all of it is free again if nothing more is called: the call just counted is the last to leave the window.
    pub reset_seconds: u64,
}

/// A call beyond its limit.
#[derive(Debug)]
pub struct Refused {
    pub exceeded: Exceeded,
    /// Whether it is the first since this source was last within the limit.
    pub first: bool,
}

impl CallerLimits {
    pub(crate) fn new(settings: CallerLimitSettings, board: Arc<Board>) -> Self {
        Self { settings, board, windows: Mutex::default() }
    }

    /// Counts a call, or refuses it.
    pub fn take(&self, call: Call, source: Source, now: Timestamp) -> Result<Room, Refused> {
        let whole = call.limit(&self.settings);
        let limit = (whole / u64::from(self.board.live_nodes())).max(1);
        let mut windows = self.windows.lock().expect("no one panics while counting");
        if windows.len() >= MAX_SOURCES && !windows.contains_key(&(call, source)) {
            windows.retain(|_, seen| seen.window.used(now.as_micros(), MINUTE) > 0);
        }
        let source = if windows.len() < MAX_SOURCES { source } else { Source::Others };
        let seen = windows.entry((call, source)).or_default();
        let used = seen.window.used(now.as_micros(), MINUTE);
        if used < limit {
            seen.window.add(now.as_micros(), 1, 1);
            seen.told = false;
            return Ok(Room {
                policy: call.policy(),
                limit: whole,
                window_seconds: MINUTE_SECONDS,
                remaining: limit - used - 1,
                reset_seconds: MINUTE_SECONDS,
            });
        }
        let wait = seen.window.wait(MINUTE, limit, 1).unwrap_or(MINUTE);
        let first = !std::mem::replace(&mut seen.told, true);
        let retry_after_seconds = (wait as u64).div_ceil(1_000_000).max(1);
        let policy = call.policy().to_owned();
        Err(Refused {
            exceeded: Exceeded { policy, limit: whole, window_seconds: MINUTE_SECONDS, retry_after_seconds },
            first,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_its_whole_network() {
        let source = |text: &str| Source::address(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("0.0.0.1"), source("::1:0:0:0:1"));
    }
}
