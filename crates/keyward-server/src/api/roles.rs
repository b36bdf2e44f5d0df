//! The table of permissions and roles, as everything reads it.

use axum::Json as Answer;
use keyward_core::access::{Extent, Permission, Role};
use schemars::JsonSchema;
use serde::Serialize;

use super::page::List;
use super::route::{Access::Open, Route, get};

pub fn routes() -> Vec<Route> {
    let open = Open("The table is part of the documentation");
    vec![
        get("/v1/roles", open, "The roles and what each may do", roles).answers::<List<RoleView>>(200),
        get("/v1/permissions", open, "The permissions and who holds them", permissions)
            .answers::<List<PermissionView>>(200),
    ]
}

/// How far a permission reaches: `all` in reach, or only one's `own`.
fn reach(role: Role, permission: Permission) -> Option<&'static str> {
    match role.extent(permission) {
        Extent::All => Some("all"),
        Extent::Own => Some("own"),
        Extent::Nothing => None,
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Held {
    name: &'static str,
    reach: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct RoleView {
    name: &'static str,
    permissions: Vec<Held>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Holder {
    role: &'static str,
    reach: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct PermissionView {
    name: &'static str,
    /// Whether a service key may hold it.
    delegable: bool,
    /// Whether only a role at the instance gives it.
    instance_only: bool,
    /// Whether a person must have shown a second factor within five minutes.
    fresh_second_factor: bool,
    roles: Vec<Holder>,
}

async fn roles() -> Answer<List<RoleView>> {
    let held = |role| {
        let held = |permission: &Permission| Some(Held { name: permission.as_str(), reach: reach(role, *permission)? });
        Permission::ALL.iter().filter_map(held).collect()
    };
    List::whole(Role::ALL.to_vec(), |role| RoleView { name: role.as_str(), permissions: held(role) })
}

async fn permissions() -> Answer<List<PermissionView>> {
    let holders = |permission| {
        let holder = |role| Some(Holder { role: Role::as_str(role), reach: reach(role, permission)? });
        Role::ALL.into_iter().filter_map(holder).collect()
    };
    List::whole(Permission::ALL.to_vec(), |permission| PermissionView {
        name: permission.as_str(),
        delegable: permission.delegable(),
        instance_only: permission.instance_only(),
        fresh_second_factor: permission.needs_fresh_factor(),
        roles: holders(permission),
    })
}
