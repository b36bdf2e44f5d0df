//! Guessing made slow: failures are counted by account and source, and by account alone, in transactions of their own.
//! A try is counted before it is judged, so that tries at the same time cannot outrun the count.

use std::net::IpAddr;

use keyward_core::limit::Exceeded;
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;

use super::sql as statements;
use super::{Sessions, vault};
use crate::db::{row, sql};
use crate::error::{Error, Result};

/// Failures of one account from one source before a wait begins (statement B-01).
const FREE_TRIES: i64 = 5;
/// The first wait; each further failure doubles it, up to the longest.
const FIRST_WAIT_SECONDS: i64 = 30;
const LONGEST_WAIT_SECONDS: i64 = 15 * 60;
/// A source that has not failed for so long begins anew.
const FORGET_SECONDS: i64 = 24 * 3_600;
/// Failures of one account in a row after which its password must be reset (statement B-02).
const CEILING: i64 = 100;
/// Codes that one account may try within an hour (statement T-05).
const CODES_PER_HOUR: i64 = 10;
const HOUR: i64 = 3_600;

row! {
    struct FailureRow { failures: i64, first_at: Timestamp, last_at: Timestamp }
}

/// Whose tries are counted together.
pub(super) struct Subjects {
    pair: Vec<u8>,
    account: Vec<u8>,
}

impl Subjects {
    /// A device that the account's owner trusts counts apart from every address: whoever guesses from elsewhere does not
    /// keep the owner out (statement B-03).
    pub(super) fn of(account: &str, source: &str, is_trusted: bool) -> Self {
        let kind = if is_trusted { "device" } else { "source" };
        Self {
            pair: vault::digest(&format!("{kind}\n{account}\n{source}")),
            account: vault::digest(&format!("account\n{kind}\n{account}")),
        }
    }
}

/// Where a try comes from: an IPv6 host owns its whole /64, so that is one source (statement B-04).
pub(super) fn source_of(address: Option<IpAddr>) -> String {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(six)) => format!("{:x}/64", six.to_bits() >> 64),
        Some(four) => four.to_string(),
        None => String::new(),
    }
}

impl Sessions {
    /// Counts a try with a password, or refuses it. The right password gets the same answer as a wrong one. What cannot be
    /// counted is not tried (statement B-07).
    pub(super) async fn count_try(&self, subjects: &Subjects) -> Result<()> {
        self.try_counting(subjects).await.map_err(closed)
    }

    async fn try_counting(&self, subjects: &Subjects) -> Result<()> {
        let now = self.ground.now();
        let mut tx = self.ground.db.begin().await?;
        // The account before the pair: every try takes the two in this order.
        let account: FailureRow =
            sql(statements::COUNT_FAILURE_OF).bind(subjects.account.clone()).bind(now).one(&mut tx).await?;
        if account.failures >= CEILING {
            return Err(Error::new(Code::PasswordResetRequired, Code::PasswordResetRequired.meaning()));
        }
        let pair: FailureRow =
            sql(statements::COUNT_FAILURE_OF).bind(subjects.pair.clone()).bind(now).one(&mut tx).await?;
        let is_old = now.as_seconds() - pair.last_at.as_seconds() > FORGET_SECONDS;
        let failures = if is_old { 0 } else { pair.failures };
        let free_at = pair.last_at.plus_seconds(wait_after(failures));
        if free_at > now {
            return Err(limited("sign-in", FREE_TRIES, wait_after(failures), free_at.as_seconds() - now.as_seconds()));
        }
        let set = |subject: &Vec<u8>, failures: i64, first_at| {
            sql(statements::SET_FAILURES).bind(subject.clone()).bind(failures).bind(first_at).bind(now)
        };
        set(&subjects.account, account.failures + 1, account.first_at).execute(&mut tx).await?;
        set(&subjects.pair, failures + 1, pair.first_at).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The try was right: nothing is held against the account any more.
    pub(super) async fn forget_tries(&self, subjects: &Subjects) -> Result<()> {
        let mut tx = self.ground.db.begin().await?;
        for subject in [&subjects.account, &subjects.pair] {
            sql(statements::FORGET_FAILURES).bind(subject.clone()).execute(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// A reset opens the account again.
    pub(super) async fn forget_account(&self, account: &str) -> Result<()> {
        for is_trusted in [false, true] {
            let subject = Subjects::of(account, "", is_trusted).account;
            sql(statements::FORGET_FAILURES).bind(subject).execute(&self.ground.db).await?;
        }
        Ok(())
    }

    /// Counts a try with a code of an account, or refuses it.
    pub(super) async fn count_code(&self, person: &str) -> Result<()> {
        self.try_counting_code(person).await.map_err(closed)
    }

    async fn try_counting_code(&self, person: &str) -> Result<()> {
        let (now, subject) = (self.ground.now(), code_subject(person));
        let mut tx = self.ground.db.begin().await?;
        let known: FailureRow = sql(statements::COUNT_FAILURE_OF).bind(subject.clone()).bind(now).one(&mut tx).await?;
        let is_old = now.as_seconds() - known.first_at.as_seconds() >= HOUR;
        let (failures, first_at) = if is_old { (0, now) } else { (known.failures, known.first_at) };
        if failures >= CODES_PER_HOUR {
            let wait = first_at.as_seconds() + HOUR - now.as_seconds();
            return Err(limited("codes", CODES_PER_HOUR, HOUR, wait));
        }
        let set = sql(statements::SET_FAILURES).bind(subject).bind(failures + 1).bind(first_at).bind(now);
        set.execute(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn forget_codes(&self, person: &str) -> Result<()> {
        sql(statements::FORGET_FAILURES).bind(code_subject(person)).execute(&self.ground.db).await?;
        Ok(())
    }
}

fn code_subject(person: &str) -> Vec<u8> {
    vault::digest(&format!("code\n{person}"))
}

/// Seconds from the last failure to the next try.
fn wait_after(failures: i64) -> i64 {
    match failures - FREE_TRIES {
        ..0 => 0,
        beyond => (FIRST_WAIT_SECONDS << beyond.min(10)).min(LONGEST_WAIT_SECONDS),
    }
}

/// Whatever keeps tries from being counted closes the door.
fn closed(error: Error) -> Error {
    match error.code {
        Code::Internal => {
            let closed = Error::new(Code::NotReady, "Tries to sign in cannot be counted now, so nobody can sign in.");
            closed.with_source(error)
        }
        _ => error,
    }
}

fn limited(policy: &str, limit: i64, window: i64, wait: i64) -> Error {
    Error::limited(Exceeded {
        policy: policy.to_owned(),
        limit: limit.unsigned_abs(),
        window_seconds: window.unsigned_abs(),
        retry_after_seconds: wait.max(1).unsigned_abs(),
    })
}

/// Failures that are swept away once they are old: those that reached the ceiling stay.
pub(super) const SWEEP: (i64, i64) = (FORGET_SECONDS * 7, CEILING);

#[cfg(test)]
mod tests {
    use super::wait_after;

    #[test]
    fn waits_double_up_to_a_quarter_of_an_hour() {
        assert_eq!([0, 4, 5, 6, 9, 10, 100].map(wait_after), [0, 0, 30, 60, 480, 900, 900]);
    }
}
