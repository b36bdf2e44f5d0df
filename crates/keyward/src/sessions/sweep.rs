//! What is out of date about signing in is deleted, and signing keys are made in time.

use super::sql as statements;
use super::{Sessions, attempts, passkeys};
use crate::db::sql;
use crate::error::Result;

/// How long an ended session is still told apart from one that never was, in days.
const ENDED_DAYS: i64 = 30;

impl Sessions {
    /// Run from time to time.
    pub async fn sweep(&self) -> Result<()> {
        let now = self.ground.now();
        for statement in [
            statements::SWEEP_PENDING,
            statements::SWEEP_DEVICES,
            statements::SWEEP_RESETS,
            passkeys::sql::SWEEP_CHALLENGES,
        ] {
            sql(statement).bind(now).execute(&self.ground.db).await?;
        }
        sql(statements::SWEEP_SESSIONS).bind(now.plus_days(-ENDED_DAYS)).execute(&self.ground.db).await?;
        let (age, ceiling) = attempts::SWEEP;
        let sweep = statements::SWEEP_FAILURES.on(&self.ground.db).bind(now.plus_seconds(-age)).bind(ceiling);
        sweep.execute(&self.ground.db).await?;
        self.tokens.rotate().await
    }
}
