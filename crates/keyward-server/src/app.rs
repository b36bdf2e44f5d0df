//! What every handler can reach: the platform, and what the server itself was told.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use keyward::Keyward;
use keyward::config::Settings;
use keyward_core::network::{AddressRules, parse_block};

use crate::connections::Connections;
use crate::fixed_headers;
use crate::gateway::partner::PartnerKeys;
use crate::hot::fields::{Fields, text};

const FORWARDED_FOR: http::HeaderName = http::HeaderName::from_static("x-forwarded-for");

/// Shared by all connections.
pub struct App {
    pub keyward: Keyward,
    /// Before every link that leaves the server; empty for relative ones.
    pub public_url: String,
    pub key_header: Option<http::HeaderName>,
    pub key_query: Option<String>,
    pub partner_keys: PartnerKeys,
    pub connections: Connections,
    pub hsts: http::HeaderValue,
    trusted_proxies: AddressRules,
    cors_origins: Vec<String>,
}

pub type SharedApp = Arc<App>;

/// What the server reads out of its settings at the start.
pub struct Front {
    trusted_proxies: AddressRules,
    key_header: Option<http::HeaderName>,
    partner_keys: PartnerKeys,
}

impl Front {
    /// Says which setting does not hold.
    pub fn read(settings: &Settings) -> anyhow::Result<Self> {
        let proxies = settings.server.trusted_proxies.iter().map(|text| {
            parse_block(text).with_context(|| format!("server.trusted_proxies: {text:?} is not an address block"))
        });
        let key_header = match settings.server.key_header.as_str() {
            "" => None,
            name => Some(name.parse().context("server.key_header is not a header name")?),
        };
        Ok(Self {
            trusted_proxies: AddressRules { allowed: proxies.collect::<anyhow::Result<_>>()?, denied: Box::default() },
            key_header,
            partner_keys: PartnerKeys::read(&settings.leaks.partner_keys)?,
        })
    }
}

impl App {
    pub fn new(keyward: Keyward) -> anyhow::Result<Self> {
        let Front { trusted_proxies, key_header, partner_keys } = Front::read(&keyward.settings)?;
        let settings = &keyward.settings.server;
        Ok(Self {
            public_url: settings.public_url.trim_end_matches('/').to_owned(),
            key_header,
            key_query: Some(settings.key_query.clone()).filter(|name| !name.is_empty()),
            partner_keys,
            connections: Connections::default(),
            hsts: fixed_headers::hsts(settings.hsts_preload),
            trusted_proxies,
            cors_origins: settings.cors_origins.clone(),
            keyward,
        })
    }

    /// The client's address: the peer, or what trusted proxies say, counted from the right of X-Forwarded-For.
    pub fn client_address(&self, peer: IpAddr, fields: &impl Fields) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.is_trusted(peer) {
            return peer;
        }
        let lines = fields.every(&FORWARDED_FOR);
        let mut client = peer;
        for hop in lines.into_iter().rev().filter_map(text).flat_map(|line| line.rsplit(',')) {
            // What stands left of an unreadable hop cannot be believed.
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
            if !self.is_trusted(client) {
                break;
            }
        }
        client
    }

    /// Whether pages of that origin may call with credentials: exactly one of those that the settings list.
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.cors_origins.iter().any(|known| known == origin)
    }

    /// Whether the origin is this instance's own: its public address, or without one the host that was asked.
    pub fn is_own_origin(&self, origin: &str, headers: &http::HeaderMap) -> bool {
        if !self.public_url.is_empty() {
            return origin == self.public_url;
        }
        let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        authority.is_some() && authority == host
    }

    /// Whether that peer is a proxy whose word is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.is_trusted(peer.to_canonical())
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        !self.trusted_proxies.allowed.is_empty() && self.trusted_proxies.permits(address)
    }
}
