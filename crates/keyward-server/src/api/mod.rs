//! The HTTP surface: a file per slice with its routes, bodies and thin handlers.

mod audit;
mod audit_log;
pub mod auth;
pub mod caller;
pub mod cookies;
mod csp_reports;
mod database;
pub mod docs;
mod invitations;
mod jobs;
pub mod json;
mod keys;
mod keyspaces;
mod leaks;
mod members;
pub mod openapi;
mod organizations;
mod origin;
mod page;
mod plans;
mod probes;
mod reservations;
mod roles;
pub mod route;
mod security;
mod sinks;
mod socket;
mod usage;
pub mod verify;

use axum::Router;
use http::Method;

use crate::app::SharedApp;
use crate::gateway::introspect;
use caller::Guard;
use route::{Body, Route};

/// Every route, in the order of the reference.
pub fn routes() -> Vec<Route> {
    [
        verify::routes(),
        keys::routes(),
        leaks::routes(),
        keyspaces::routes(),
        organizations::routes(),
        plans::routes(),
        reservations::routes(),
        usage::routes(),
        audit::routes(),
        audit_log::routes(),
        sinks::routes(),
        jobs::routes(),
        database::routes(),
        auth::routes(),
        members::routes(),
        invitations::routes(),
        roles::routes(),
        security::routes(),
        csp_reports::routes(),
        introspect::routes(),
        probes::routes(),
        docs::routes(),
    ]
    .concat()
}

/// The routes, each behind its guard.
pub fn router(app: &SharedApp) -> Router<SharedApp> {
    let mut router = Router::new();
    for route in routes() {
        let guard = Guard {
            app: app.clone(),
            access: route.access,
            limited: route.limited,
            idempotent: route.is_idempotent_by_key(),
        };
        let layer = axum::middleware::from_fn_with_state(guard, caller::guard);
        let mut handler = route.handler.clone();
        if route.method == Method::POST && matches!(route.takes, Body::Nothing) {
            handler = handler.route_layer(axum::middleware::from_fn_with_state(app.clone(), json::take_nothing));
        }
        for path in route.paths() {
            router = router.route(&path, handler.clone().route_layer(layer.clone()));
        }
    }
    router
}
