//! Who is asking, from where, in which request. Every verb takes it first; nothing is read from globals.

use std::net::IpAddr;

use keyward_core::access::{Extent, Grant, Permission};
use keyward_core::id::{self, Id};

use crate::error::{Error, Result};

/// Who acts, as the book writes it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub kind: ActorKind,
    pub id: String,
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorKind {
    User,
    Key,
    System,
    External,
}

impl ActorKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Key => "key",
            Self::System => "system",
            Self::External => "external",
        }
    }
}

impl Actor {
    /// Keyward itself, in one of its parts.
    pub fn system(part: &str) -> Self {
        Self { kind: ActorKind::System, id: part.to_owned(), name: None }
    }
}

/// The circumstances of one call.
#[derive(Debug, Clone)]
pub struct Context {
    pub actor: Actor,
    /// What the caller may do; `None` for Keyward itself, which may do everything.
    pub grant: Option<Grant>,
    /// Scopes of the calling key, parted by spaces: what it hands on stays within them.
    pub scopes: String,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub request_id: Option<Id<id::Request>>,
}

/// How far a permitted call reaches: everything in the organization, or one person's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Everyones,
    Only(Id<id::User>),
}

impl Whose {
    pub fn includes(self, owner: Option<Id<id::User>>) -> bool {
        match self {
            Self::Everyones => true,
            Self::Only(user) => owner == Some(user),
        }
    }

    pub fn owner(self) -> Option<Id<id::User>> {
        match self {
            Self::Everyones => None,
            Self::Only(user) => Some(user),
        }
    }
}

impl Context {
    /// Keyward's own work: set-up, tasks, the command line on the database.
    pub fn system(part: &str) -> Self {
        Self {
            actor: Actor::system(part),
            grant: None,
            scopes: String::new(),
            ip: None,
            user_agent: None,
            request_id: None,
        }
    }

    pub fn user(&self) -> Option<Id<id::User>> {
        self.grant.as_ref().and_then(|grant| grant.user)
    }

    /// Refuses unless the permission is held in that organization. An organization out of reach looks absent.
    pub fn require(&self, organization: Id<id::Organization>, permission: Permission) -> Result<Whose> {
        let Some(grant) = &self.grant else { return Ok(Whose::Everyones) };
        match (grant.extent_in(organization, permission), grant.user) {
            (Extent::All, _) => Ok(Whose::Everyones),
            (Extent::Own, Some(user)) => Ok(Whose::Only(user)),
            _ if grant.is_member_of(organization) || grant.holds_at_instance() => Err(Error::forbidden(permission)),
            _ => Err(Error::not_found()),
        }
    }

    /// Refuses unless the permission is held at the instance.
    pub fn require_at_instance(&self, permission: Permission) -> Result<()> {
        match &self.grant {
            Some(grant) if !grant.at_instance(permission) => Err(Error::forbidden(permission)),
            _ => Ok(()),
        }
    }

    /// Refuses unless the permission is held somewhere.
    pub fn require_anywhere(&self, permission: Permission) -> Result<()> {
        match &self.grant {
            Some(grant) if !grant.holds(permission) => Err(Error::forbidden(permission)),
            _ => Ok(()),
        }
    }
}
