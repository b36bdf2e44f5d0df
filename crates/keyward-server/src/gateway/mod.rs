//! Other people's protocols onto verify: forward-auth for proxies, token introspection, partners' leak reports.

pub mod forward_auth;
pub mod introspect;
pub mod partner;
