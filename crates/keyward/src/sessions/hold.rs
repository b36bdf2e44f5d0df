//! The one order in which rows are locked: a person before anything that is theirs (sessions, waiting sign-ins, factors, codes,
//! passkeys), and nothing of a second person. Whoever has the person is alone with all of it, so no two changes wait for each
//! other, and a set of codes is replaced as a whole. A refresh locks its session alone.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;

use super::sql as statements;
use super::{PersonRow, Sessions};
use crate::accounts::people;
use crate::change::Change;
use crate::context::Context;
use crate::db::sql;
use crate::error::{Error, Result};

impl Sessions {
    /// Begins a change of what is this person's, and holds them until it ends.
    pub(super) async fn begin_for<'a>(&'a self, context: &'a Context, person: Id<id::User>) -> Result<Change<'a>> {
        let mut change = Change::begin(&self.ground, context).await?;
        people::hold(&mut change, person).await?;
        Ok(change)
    }

    /// The same for somebody who has shown who they are: refuses when the password that was shown is no longer theirs, or the
    /// account was closed meanwhile.
    pub(super) async fn begin_as<'a>(&'a self, context: &'a Context, person: &PersonRow) -> Result<Change<'a>> {
        let mut change = Change::begin(&self.ground, context).await?;
        let hold = sql(statements::HOLD_PERSON).bind(person.id).bind(person.password_hash.clone());
        match hold.execute(change.tx()).await? {
            0 => Err(Error::new(Code::InvalidCredentials, "The account was changed meanwhile; sign in again.")),
            _ => Ok(change),
        }
    }
}
