//! Who looks after the tables. Only who owns a table may make its months, take them out, vacuum it and rebuild its indexes; a server
//! that connects as a role which owns nothing does its upkeep through a second address.

use std::time::Duration;

use keyward_core::problem::Code;
use tokio::time::timeout;

use super::book::BOOK;
use super::health::Panel;
use super::partitions::Parent;
use super::{Maintenance, sql as statements};
use crate::config::MaintenanceSettings;
use crate::db::{Db, row, sql};
use crate::error::{Error, Result};

/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(5);

row! {
    struct OwnerRow {
        owner: String,
        role: String,
        /// Whether the role may do what only the owner may.
        ours: bool,
    }
}

/// Where upkeep connects: to the database as it is, or by the address of who owns its tables, when it is first needed.
pub(crate) fn connect(db: &Db, settings: &MaintenanceSettings) -> Result<Db> {
    match settings.database_url.as_str() {
        "" => Ok(db.clone()),
        url if db.is_postgres() => Ok(Db::postgres_when_needed(url)?),
        _ => Err(Error::new(Code::NotReady, "maintenance.database_url is set, and the database is SQLite.")),
    }
}

impl Maintenance {
    fn has_owner_of_its_own(&self) -> bool {
        !self.settings.database_url.is_empty()
    }

    /// Refuses an address that is not reached, or that leads elsewhere: what is done there would be written down here.
    pub(super) async fn require_owner(&self) -> Result<()> {
        if !self.has_owner_of_its_own() {
            return Ok(());
        }
        self.trouble_with_owner().await?.map_or(Ok(()), |why| Err(Error::new(Code::Conflict, why)))
    }

    /// Why upkeep cannot be done from here, if it cannot.
    async fn trouble_with_owner(&self) -> Result<Option<String>> {
        let mut session = match timeout(PATIENCE, self.owner.session()).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) if self.has_owner_of_its_own() => {
                return Ok(Some(format!("maintenance.database_url: {}", error.told())));
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Ok(Some("The database does not answer who looks after it.".to_owned())),
        };
        let (here,): (String,) = sql(statements::WHICH_DATABASE).one(&self.ground.db).await?;
        let (there,): (String,) = sql(statements::WHICH_DATABASE).one(&mut session).await?;
        if here != there {
            return Ok(Some("maintenance.database_url leads to another database than database.url.".to_owned()));
        }
        let row: Option<OwnerRow> = sql(statements::OWNER).bind(BOOK).optional(&mut session).await?;
        Ok(row.filter(|row| !row.ours).map(|OwnerRow { owner, role, .. }| {
            format!(
                "The role {role} does not own the tables, {owner} does: no month is made or taken out, and no table vacuumed, from \
                 here. Set maintenance.database_url to an address of {owner}, or run `keyward database maintain partitions` as \
                 {owner} once a day."
            )
        }))
    }

    /// Whether upkeep can be done from here.
    pub(super) async fn check_owner(&self) -> Result<Panel> {
        let panel =
            Panel::new("owner", "Upkeep by who owns the tables", "", "unknown where it is another role".to_owned());
        Ok(match self.trouble_with_owner().await? {
            Some(why) => panel.unknown(why),
            None => panel,
        })
    }

    /// The role to which a new month of the table is closed, so that it is reached through the table alone: the server's, where
    /// months are made by another.
    pub(super) async fn shut_out(&self, parent: &Parent) -> Result<Option<String>> {
        if parent.name != BOOK || !self.has_owner_of_its_own() {
            return Ok(None);
        }
        let (server,): (String,) = sql(statements::ROLE).one(&self.ground.db).await?;
        let (owner,): (String,) = sql(statements::ROLE).one(&self.owner).await?;
        Ok((server != owner).then_some(server))
    }
}
