//! Who may do what at Keyward itself: the permissions and the five roles, in the one table that everything reads
//! (contract, section 8). Finding out who the caller is happens elsewhere.

use std::fmt;
use std::str::FromStr;

use crate::id::{Id, Organization, User};

/// How far a role's permission reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    All,
    /// Only what one created or owns.
    Own,
    Nothing,
}

/// What one row of the table says beyond the roles.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    /// In the order of `Role::ALL`.
    extents: [Extent; 5],
    delegable: bool,
    instance_only: bool,
    fresh_factor: bool,
}

macro_rules! permissions {
    ($($variant:ident $name:literal [$($extent:ident)*] $delegable:literal $instance:literal $fresh:literal;)*) => {
        /// One thing that a caller may be allowed to do at Keyward.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Permission { $($variant),* }

        impl Permission {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
        }

        const TABLE: &[Row] = &[
            $(Row { name: $name, extents: [$(Extent::$extent),*], delegable: $delegable, instance_only: $instance, fresh_factor: $fresh }),*
        ];
    };
}

permissions! {
    //                                       owner admin developer auditor viewer   to a key, instance only, fresh second factor
    KeysRead            "keys:read"            [All All Own All All]              true  false false;
    KeysCreate          "keys:create"          [All All Own Nothing Nothing]      true  false false;
    KeysUpdate          "keys:update"          [All All Own Nothing Nothing]      true  false false;
    KeysRotate          "keys:rotate"          [All All Own Nothing Nothing]      true  false false;
    KeysRevoke          "keys:revoke"          [All All Own Nothing Nothing]      true  false false;
    KeysDelete          "keys:delete"          [All All Own Nothing Nothing]      true  false false;
    KeysVerify          "keys:verify"          [All All Nothing Nothing Nothing]  true  false false;
    UsageRead           "usage:read"           [All All Own All All]              true  false false;
    UsageWrite          "usage:write"          [All All Nothing Nothing Nothing]  true  false false;
    PlansRead           "plans:read"           [All All All All All]              true  false false;
    PlansManage         "plans:manage"         [All All Nothing Nothing Nothing]  true  true  false;
    OrganizationsRead   "organizations:read"   [All All All All All]              true  false false;
    OrganizationsManage "organizations:manage" [All All Nothing Nothing Nothing]  true  false false;
    MembersRead         "members:read"         [All All Nothing All Nothing]      true  false false;
    MembersManage       "members:manage"       [All All Nothing Nothing Nothing]  false false true;
    RolesAssign         "roles:assign"         [All All Nothing Nothing Nothing]  false false true;
    SessionsManage      "sessions:manage"      [All All Nothing Nothing Nothing]  false false true;
    AuditRead           "audit:read"           [All All Own All Nothing]          true  false false;
    AuditWrite          "audit:write"          [All All Nothing Nothing Nothing]  true  false false;
    AuditExport         "audit:export"         [All All Nothing All Nothing]      true  false true;
    SystemRead          "system:read"          [All All Nothing All Nothing]      true  true  false;
    SystemMaintain      "system:maintain"      [All All Nothing Nothing Nothing]  false true  true;
    SettingsManage      "settings:manage"      [All Nothing Nothing Nothing Nothing] false false true;
    CryptoRotate        "crypto:rotate"        [All Nothing Nothing Nothing Nothing] false true true;
}

impl Permission {
    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// Whether a service key may hold it.
    pub fn delegable(self) -> bool {
        self.row().delegable
    }

    /// Whether only a role at the instance gives it.
    pub fn instance_only(self) -> bool {
        self.row().instance_only
    }

    /// Whether a person must have shown a second factor just now.
    pub fn needs_fresh_factor(self) -> bool {
        self.row().fresh_factor
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|permission| permission.as_str() == text).ok_or(())
    }
}

/// A person's role, in an organization or at the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    Owner,
    Admin,
    Developer,
    Auditor,
    Viewer,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Owner, Self::Admin, Self::Developer, Self::Auditor, Self::Viewer];

    pub fn as_str(self) -> &'static str {
        ["owner", "admin", "developer", "auditor", "viewer"][self as usize]
    }

    pub fn extent(self, permission: Permission) -> Extent {
        permission.row().extents[self as usize]
    }

    /// What the role gives, as two sets; instance-only permissions come along only with `at_instance`.
    fn rights(self, at_instance: bool) -> Rights {
        let mut rights = Rights::default();
        for permission in Permission::ALL.iter().copied().filter(|p| at_instance || !p.instance_only()) {
            match self.extent(permission) {
                Extent::All => rights.all.insert(permission),
                Extent::Own => rights.own.insert(permission),
                Extent::Nothing => {}
            }
        }
        rights
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// A set of permissions, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PermissionSet(u32);

impl PermissionSet {
    pub fn insert(&mut self, permission: Permission) {
        self.0 |= 1 << permission as u8;
    }

    pub fn contains(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u8 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.contains(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let mut set = Self::default();
        permissions.into_iter().for_each(|permission| set.insert(permission));
        set
    }
}

/// Permissions by how far they reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights {
    pub all: PermissionSet,
    pub own: PermissionSet,
}

impl Rights {
    pub fn extent(&self, permission: Permission) -> Extent {
        if self.all.contains(permission) {
            Extent::All
        } else if self.own.contains(permission) {
            Extent::Own
        } else {
            Extent::Nothing
        }
    }

    #[must_use]
    fn limited_to(self, set: PermissionSet) -> Self {
        Self { all: self.all.intersect(set), own: self.own.intersect(set) }
    }

    fn join(self, other: Self) -> Self {
        Self { all: PermissionSet(self.all.0 | other.all.0), own: PermissionSet(self.own.0 | other.own.0) }
    }
}

/// What a caller may do now: a service key's permissions within its owner's roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub organization: Id<Organization>,
    pub user: Option<Id<User>>,
    /// In the caller's own organization.
    pub home: Rights,
    /// In every organization and at the instance; empty for all but the operator's staff.
    pub instance: Rights,
    /// In further organizations of which the caller is a member.
    pub elsewhere: Box<[(Id<Organization>, Rights)]>,
}

impl Grant {
    /// Effective right = owner's role now ∩ key's permissions (contract, section 1). A key reaches beyond its organization only
    /// where its owner is at home: what the operator's staff make in a customer's organization stays in there.
    pub fn of_service_key(
        organization: Id<Organization>,
        user: Option<Id<User>>,
        permissions: PermissionSet,
        home_role: Option<Role>,
        instance_role: Option<Role>,
    ) -> Self {
        let rights = |role: Option<Role>, at_instance| {
            role.map(|role| role.rights(at_instance)).unwrap_or_default().limited_to(permissions)
        };
        let instance = rights(instance_role.filter(|_| home_role.is_some()), true);
        let home = rights(home_role, false).join(rights(instance_role, false)).join(instance);
        Self { organization, user, home, instance, elsewhere: Box::default() }
    }

    /// What a signed-in person may do: everything that their roles give. `home` is the organization that calls without one mean.
    pub fn of_person(
        user: Id<User>,
        home: Id<Organization>,
        roles: &[(Id<Organization>, Role)],
        instance_role: Option<Role>,
    ) -> Self {
        let instance = instance_role.map(|role| role.rights(true)).unwrap_or_default();
        let all = roles.iter().map(|(organization, role)| (*organization, role.rights(false).join(instance)));
        let (at_home, elsewhere): (Vec<_>, Vec<_>) = all.partition(|(organization, _)| *organization == home);
        let at_home = at_home.first().map_or(instance, |(_, rights)| *rights);
        Self { organization: home, user: Some(user), home: at_home, instance, elsewhere: elsewhere.into() }
    }

    /// How far the permission reaches in that organization.
    pub fn extent_in(&self, organization: Id<Organization>, permission: Permission) -> Extent {
        if organization == self.organization {
            return self.home.extent(permission);
        }
        let member = self.elsewhere.iter().find(|(known, _)| *known == organization);
        member.map_or(self.instance, |(_, rights)| *rights).extent(permission)
    }

    /// Whether the caller belongs to the operator's staff for this permission.
    pub fn at_instance(&self, permission: Permission) -> bool {
        self.instance.all.contains(permission)
    }

    /// Whether the caller has any right at the instance.
    pub fn holds_at_instance(&self) -> bool {
        self.instance != Rights::default()
    }

    /// Everything the caller may do somewhere; what it may hand on to a key that it makes.
    pub fn holds(&self, permission: Permission) -> bool {
        self.rights().any(|rights| rights.extent(permission) != Extent::Nothing)
    }

    /// Whether the caller belongs to that organization.
    pub fn is_member_of(&self, organization: Id<Organization>) -> bool {
        organization == self.organization || self.elsewhere.iter().any(|(known, _)| *known == organization)
    }

    fn rights(&self) -> impl Iterator<Item = Rights> {
        std::iter::once(self.home).chain(self.elsewhere.iter().map(|(_, rights)| *rights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        assert_eq!(Permission::ALL.len(), 24);
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse(), Ok(*permission));
        }
    }

    #[test]
    fn a_key_never_exceeds_its_owners_role_now() {
        let organization = Id::from_uuid(uuid::Uuid::nil());
        let asked = [Permission::KeysCreate, Permission::KeysVerify].into_iter().collect();
        let grant = |role| Grant::of_service_key(organization, None, asked, role, None);
        assert_eq!(grant(Some(Role::Owner)).home.extent(Permission::KeysVerify), Extent::All);
        assert_eq!(grant(Some(Role::Developer)).home.extent(Permission::KeysVerify), Extent::Nothing);
        assert_eq!(grant(Some(Role::Developer)).home.extent(Permission::KeysCreate), Extent::Own);
        assert_eq!(grant(None).home, Rights::default());
        assert_eq!(grant(Some(Role::Owner)).home.extent(Permission::KeysRead), Extent::Nothing);
    }

    #[test]
    fn instance_permissions_need_a_role_at_the_instance() {
        let organization = Id::from_uuid(uuid::Uuid::nil());
        let all: PermissionSet = Permission::ALL.iter().copied().collect();
        let member = Grant::of_service_key(organization, None, all, Some(Role::Owner), None);
        assert_eq!(member.home.extent(Permission::PlansManage), Extent::Nothing);
        let staff = Grant::of_service_key(organization, None, all, Some(Role::Viewer), Some(Role::Admin));
        assert_eq!(staff.home.extent(Permission::PlansManage), Extent::All);
        assert!(staff.at_instance(Permission::KeysRead) && !member.at_instance(Permission::KeysRead));
    }

    #[test]
    fn what_staff_make_in_a_customers_organization_stays_there() {
        let organization = Id::from_uuid(uuid::Uuid::nil());
        let all: PermissionSet = Permission::ALL.iter().copied().collect();
        let abroad = Grant::of_service_key(organization, None, all, None, Some(Role::Owner));
        assert_eq!(abroad.home.extent(Permission::KeysRead), Extent::All);
        assert_eq!(abroad.home.extent(Permission::PlansManage), Extent::Nothing);
        assert!(!abroad.holds_at_instance());
    }
}
