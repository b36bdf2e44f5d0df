//! Reports of leaked keys: found by the string itself, ended by policy, noted in the book. A report never brings the
//! string into the store or the log.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::record::{KeyStatus, SecretStatus};
use keyward_core::secret::Secret;
use keyward_core::verdict::Reach;
use serde_json::json;

use super::{Keys, sql as statements};
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::config::LeakPolicy;
use crate::context::Context;
use crate::db::sql;
use crate::error::{Error, Result};

/// A string that was found where it should not be.
#[derive(Debug, Clone)]
pub struct LeakedKey {
    pub text: Secret<String>,
    /// Where reports come from, e.g. `github` or a scanner's name.
    pub source: String,
    /// Where it was found.
    pub url: Option<String>,
}

/// What a report led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeakOutcome {
    /// No key within reach has this string.
    Unknown,
    /// It is one of ours; what was done.
    Known { key: Id<id::Key>, action: &'static str },
}

impl Keys {
    /// Takes a report from a caller who may revoke keys of that organization, or of all with instance reach.
    pub async fn report_leak(
        &self,
        context: &Context,
        organization: Option<Id<id::Organization>>,
        leaked: &LeakedKey,
    ) -> Result<LeakOutcome> {
        let reach = match organization {
            Some(organization) => {
                context.require(organization, Permission::KeysRevoke)?;
                Reach::Organization(organization)
            }
            None => context.require_at_instance(Permission::KeysRevoke).map(|()| Reach::Instance)?,
        };
        self.handle_leak(context, reach, leaked).await
    }

    /// Takes a report whose sender has proved itself by a signature.
    pub async fn report_leak_by_partner(&self, context: &Context, leaked: &LeakedKey) -> Result<LeakOutcome> {
        self.handle_leak(context, Reach::Instance, leaked).await
    }

    async fn handle_leak(&self, context: &Context, reach: Reach, leaked: &LeakedKey) -> Result<LeakOutcome> {
        for (pointer, text, limit) in
            [("/source", Some(leaked.source.as_str()), 64), ("/url", leaked.url.as_deref(), 2_000)]
        {
            text.map_or(Ok(()), |text| keyward_core::text::label(text, limit))
                .map_err(|why| Error::field(pointer, why))?;
        }
        let found = self.verifier.find_presented(leaked.text.expose(), reach).await?;
        let Some(record) = found else { return Ok(LeakOutcome::Unknown) };
        let mut change = Change::begin(&self.ground, context).await?;
        let now = change.now();
        let action = match self.leak_policy {
            _ if record.status == KeyStatus::Revoked => "none",
            LeakPolicy::Disable => {
                let update = sql(statements::DISABLE_LEAKED).bind(record.key_id).bind("reported as leaked").bind(now);
                update.execute(change.tx()).await?;
                "disabled"
            }
            LeakPolicy::Rotate => {
                let update =
                    sql(statements::SET_SECRET_STATUS).bind(record.secret_id).bind(SecretStatus::Revoked.as_str());
                update.bind(now).execute(change.tx()).await?;
                "secret_revoked"
            }
            LeakPolicy::Notify => "none",
        };
        change.touch_key(record.key_id).await?;
        let insert = sql(statements::INSERT_LEAK).bind(self.ground.new_id::<id::Leak>()).bind(record.key_id);
        let insert = insert.bind(record.tenant.id).bind(&leaked.source).bind(leaked.url.clone()).bind(action).bind(now);
        insert.execute(change.tx()).await?;
        let event = Event::new(EventType::Security, "key_leaked", "key", record.key_id).named(record.name());
        let details =
            json!({ "secret": record.secret_id, "source": leaked.source, "url": leaked.url, "action": action });
        change.commit(event.of(record.tenant.id).details(details)).await?;
        Ok(LeakOutcome::Known { key: record.key_id, action })
    }
}
