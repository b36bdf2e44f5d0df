//! Every named statement of the platform, prepared on both databases: no statement waits for a rare day to be found wrong.
//!
//! The files of statements are read here a second time, as modules of this one. A statement that stands in no list below is
//! never used here, and that is an error of the compiler: no list can fall behind. A file that is left out is told by the test.
#![deny(dead_code)]

use std::path::{Path, PathBuf};

use keyward::db::dialect::Pair;
use keyward::db::{Bulk, Upsert};
use sqlx::postgres::PgTypeInfo;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, SqlSafeStr};

use crate::support::on_both;

const PLATFORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../keyward/src");

/// PostgreSQL says so where a table or a schema of an extension is not there.
const ABSENT: [&str; 2] = ["42P01", "3F000"];
/// It says so last of all, when a statement is good and nothing but the bound value tells what a parameter is (`$2 IS NULL`).
const UNTYPED: (&str, &str) = ("42P08", "could not determine data type of parameter");
/// Statements that can only be read when it is known what their parameters are.
const TYPED: [(&str, &[&str]); 1] = [("audit::OWN_COUNTS", &["uuid", "text", "timestamptz", "timestamptz"])];

/// Where a statement is asked.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Both,
    Postgres,
    Sqlite,
    /// On PostgreSQL, where an extension is installed: at least it can be read.
    Extensions,
}

struct Statement {
    name: &'static str,
    place: Place,
    sqlite: String,
    postgres: String,
}

/// What statements are written down as.
trait Spelled {
    fn spelled(self) -> [String; 2];
}

impl Spelled for &str {
    fn spelled(self) -> [String; 2] {
        [self.to_owned(), self.to_owned()]
    }
}

impl Spelled for Pair {
    fn spelled(self) -> [String; 2] {
        [self.sqlite.to_owned(), self.postgres.to_owned()]
    }
}

impl<const COLUMNS: usize> Spelled for Bulk<COLUMNS> {
    /// COPY cannot be prepared, but it takes the same columns.
    fn spelled(self) -> [String; 2] {
        Upsert::<COLUMNS>(self.0, "").spelled()
    }
}

impl<const COLUMNS: usize> Spelled for Upsert<COLUMNS> {
    /// A row of it.
    fn spelled(self) -> [String; 2] {
        let places: Vec<String> = (1..=COLUMNS).map(|place| format!("${place}")).collect();
        let insert = format!("INSERT INTO {} VALUES ({}) {}", self.0, places.join(", "), self.1);
        [insert.clone(), insert]
    }
}

macro_rules! slices {
    ($($path:literal as $slice:ident { $($place:ident: [$($name:ident),* $(,)?],)* })*) => {
        $(#[path = $path] mod $slice;)*

        const FILES: &[&str] = &[$($path),*];

        fn statements() -> Vec<Statement> {
            let mut all = Vec::new();
            $($($({
                let [sqlite, postgres] = $slice::$name.spelled();
                let name = concat!(stringify!($slice), "::", stringify!($name));
                all.push(Statement { name, place: Place::$place, sqlite, postgres });
            })*)*)*
            all
        }
    };
}

slices! {
    "../../../keyward/src/accounts/sql.rs" as accounts {
        Both: [
            ENSURE_PLAN, INSERT_PLAN, RENAME_PLAN, SET_PLAN_VERSION, DELETE_PLAN, FIND_PLAN, LIST_PLANS, LOCK_PLAN,
            INSERT_PLAN_VERSION, PLAN_VERSIONS, LAST_PLAN_VERSION, SCHEDULED_VERSION, DUE_VERSIONS, TAKE_EFFECT,
            CANCEL_VERSION, KEEP_ON_VERSION, FOLLOWERS, ORGANIZATIONS_ON_PLAN, FIND_ORGANIZATION, LIST_ORGANIZATIONS,
            COUNT_SLUGS, INSERT_ORGANIZATION, UPDATE_ORGANIZATION, SET_ORGANIZATION_STATUS, DELETE_ORGANIZATION, LOCK_ORGANIZATION,
            KEY_LIMIT, SET_SPARE_KEYS, LOCK_ORGANIZATIONS_ON_PLAN, COUNT_KEYS, DELETE_KEYS_OF, COUNT_PEOPLE,
            INSERT_PERSON, DELETE_PERSON, STANDING, PLACES_OWNED, FIND_BINDING, INSERT_BINDING, UPDATE_BINDING, PROVIDED_ROLES,
            DELETE_BINDING, LOCK_OWNERS, COUNT_OTHER_OWNERS, MEMBERS, COUNT_PLACES_BUT, SET_DISABLED, END_SESSIONS_OF,
            FIND_BY_EMAIL, INSERT_INVITATION, INVITATIONS, OPEN_INVITATION, INVITED, ACCEPT_INVITATION, REVOKE_INVITATION,
            SET_FACTOR_POLICY, FACTOR_POLICY, MEMBERS_OF, FORGET_SETUP_TOKENS, HOLD, INSERT_SETUP_TOKEN, CHECK_SETUP_TOKEN,
            USE_SETUP_TOKEN,
        ],
    }
    "../../../keyward/src/announce/sql.rs" as announce {
        Postgres: [
            ANNOUNCE, NOTIFY, HORIZON, SINCE, BEAT, LIVE_NODES, LEAVE, ACKNOWLEDGE, SILENT, FORGET_ANNOUNCEMENTS,
            FORGET_NODES,
        ],
    }
    "../../../keyward/src/audit/sql.rs" as audit {
        Both: [
            QUEUE, WAITING, QUEUED, DELETE_QUEUED, LOCK_ORDER, HEAD, FIRST_HEAD, MOVE_HEAD, KNOWN_IDS, EVENTS, TILES,
            WRITE_TILES, ADD_COUNTS, ADD_ACTORS, ADD_HOURS, DISTINCT, DISTINCTS, WRITE_DISTINCT, COUNTS,
            OWN_COUNTS, TOP_ACTORS, GET, EVENTS_FROM, LEAVES, NAMESAKES, ROW_BEFORE, LAST_SINCE, FIRST_SINCE, KEEP_FROM, DELETE_RETIRED,
            OF_SUBJECT, ERASE_ACTOR, ERASE_OBJECT, FORGET_ACTOR,
        ],
        Postgres: [PARTITIONS_AT],
        Sqlite: [
            LIST_ACTORS, PLACES_BETWEEN, RAREST, INDEXED_UNTIL, DETAILS, TERMS, WRITE_SEGMENT, DELETE_TERMS, RETIRED_DETAILS,
            DELETE_RETIRED_SEGMENTS,
        ],
    }
    "../../../keyward/src/checkup/sql.rs" as checkup {
        Both: [HAS_STEPS, STEPS, ANSWER, LAST_LOGGED],
        Postgres: [VERSION_NUMBER, CLOCK],
    }
    "../../../keyward/src/jobs/sql.rs" as jobs {
        Both: [
            ADD, GET, LIST, WAITING, CLAIM, KEEP, END, RELEASE, CANCEL_QUEUED, CANCEL_RUNNING, TELL, LINES,
            LAST_SUCCESS, FORGET, SCHEDULE, NEW_SCHEDULE, MOVE_SCHEDULE,
        ],
    }
    "../../../keyward/src/keys/sql.rs" as keys {
        Both: [
            FIRST_PEPPER, KNOW_PEPPER, PEPPERS, ENSURE_KEYSPACE, INSERT_KEYSPACE, UPDATE_KEYSPACE, LOCK_KEYSPACE, DELETE_KEYSPACE,
            FIND_KEYSPACE, LIST_KEYSPACES, COUNT_KEYS_IN_KEYSPACE, INSERT_KEY, UPDATE_KEY, LOCK_KEY, TOUCH_KEY,
            SET_STATUS, DELETE_KEY, FIND_KEY, REVOKE_ALL, DELETE_EXPIRED, LIST_NEWEST, LIST_OLDEST, COUNTS,
            SECRETS_OF_KEY, SECRETS_OF_KEYS, INSERT_SECRET, END_SECRETS, SET_SECRET_STATUS, DIGEST_EXISTS,
            COUNT_UNHINTED, KNOW_PREFIX, DISABLE_LEAKED, INSERT_LEAK,
        ],
    }
    "../../../keyward/src/limits/sql.rs" as limits {
        Both: [QUOTA_USE, ADD_USE, FORGET_USE],
    }
    "../../../keyward/src/maintenance/sql.rs" as maintenance {
        Both: [VERSION, TABLES, INDEXES, PARTITIONS, CHECKPOINTS_FROM, ADD_EVENT_ARCHIVE],
        Postgres: [
            LOCK_TIMEOUT, STATEMENT_TIMEOUT, OWN_PROCESS, CANCEL, LEFTOVERS, IS_MONITOR, ROLE, STATISTICS_RESET,
            HAS_STATEMENTS, INDEX_STATE, WHICH_DATABASE, OWNER,
        ],
        Sqlite: [INTEGRITY, PAGE_COUNT, PAGE_SIZE, FREE_PAGES],
        Extensions: [SLOW],
    }
    "../../../keyward/src/maintenance/conversion/sql.rs" as conversion {
        Postgres: [EXISTS, KEY_COLUMNS, KEY_NAME, INDEXES, OBSTACLES, INVALID_INDEXES],
    }
    "../../../keyward/src/maintenance/partitions/sql.rs" as partitions {
        Both: [ARCHIVE, ADD_ARCHIVE, END_ARCHIVE],
        Postgres: [PARENTS, CHILDREN, TRY_LOCK, PARTMAN_SCHEMA, HAS_CRON, SUMMARISE, RETIRED_AND_PRESENT],
        Extensions: [CRON_JOBS],
    }
    "../../../keyward/src/oidc/sql.rs" as oidc {
        Both: [
            INSERT_LOGIN, TAKE_LOGIN, SWEEP_LOGINS, USE_IDENTITY, INSERT_IDENTITY, IS_ANOTHERS, ORGANIZATION_BY_SLUG,
            ORGANIZATION_BY_ID,
        ],
    }
    "../../../keyward/src/proofs/sql.rs" as proofs {
        Both: [SIGNER, FIRST_SIGNER, SEAL_SIGNER, LATEST, ALL, KEEP, FORGET_SINCE],
    }
    "../../../keyward/src/reservations/sql.rs" as reservations {
        Both: [INSERT, TAKE, EXPIRE],
    }
    "../../../keyward/src/sessions/sql.rs" as sessions {
        Both: [
            PERSON_BY_EMAIL, PERSON_BY_ID, SET_PASSWORD, HOLD_PERSON, SET_HASH, ROLES, COUNT_FAILURE_OF, SET_FAILURES,
            FORGET_FAILURES, SWEEP_FAILURES, INSERT_PENDING, TRY_PENDING, END_PENDING_OF, FIND_PENDING, END_PENDING,
            SWEEP_PENDING, INSERT_SESSION, INSERT_REFRESH, FIND_REFRESH, DIGEST_OF_GENERATION, LOCK_SESSION,
            FIND_SESSION, ROTATE, CONFIRM, SEEN, NOTE_SHOWN, END_SESSION, END_SESSIONS, LIST_SESSIONS, SWEEP_SESSIONS,
            SIGNING_KEYS, INSERT_SIGNING_KEY, SWEEP_SIGNING_KEYS, FACTORS, DELETE_PASSKEYS, PUT_TOTP, FIND_TOTP,
            USE_STEP, CONFIRM_TOTP, DELETE_TOTP, INSERT_BACKUP_CODE, USE_BACKUP_CODE, COUNT_BACKUP_CODES,
            DELETE_BACKUP_CODES, INSERT_DEVICE, FIND_DEVICE, DELETE_DEVICES, SWEEP_DEVICES, INSERT_RESET, FIND_RESET,
            USE_RESET, SWEEP_RESETS, PUT_MAIL, DUE_MAIL, TAKE_MAIL, FORGET_MAIL,
            END_VOUCHED, IDENTITIES, FIND_IDENTITY, DELETE_IDENTITY, OTHER_WAYS,
        ],
    }
    "../../../keyward/src/sessions/passkeys/sql.rs" as passkeys {
        Both: [
            INSERT, LIST, FIND, RENAME, DELETE, CREDENTIAL_IDS, OWNER, LOCK, USE, INSERT_CHALLENGE, SPEND_CHALLENGE,
            SWEEP_CHALLENGES,
        ],
    }
    "../../../keyward/src/sinks/sql.rs" as sinks {
        Both: [FIRST, GET, CLAIM, RENEW, RELEASE, SAVE],
    }
    "../../../keyward/src/usage/sql.rs" as usage {
        Both: [
            KNOWN_KEYS, NEW_RECORDS, RECORDS_IF_NEW, JOIN_RECORDS, HOLD_RECORDS, WRITE_SUMS, NEWEST_SUMS, TAKE_SUMS,
            ORGANIZATIONS_WAITING, LOCK_SUMS, ROLLUPS, WRITE_ROLLUPS, COUNT_ROUTES, ADD_ERRORS, LAST_BATCH,
            NOTE_BATCH, FORGET_METERS, INSERT_BATCH, DELETE_BATCH, PENDING, WAITING_BATCHES, BATCH, DELETE_BATCHES,
            NEXT_PART, ADD_COUNTS, SUMS, SUMS_OF_OWNER, VERIFIES, VERIFIES_OF_OWNER, ROUTES, ROUTES_OF_OWNER, ERRORS,
            CONSUMERS_BY_CALLS, CONSUMERS_BY_COST, ORGANIZATIONS_WITH_SUMS, RECORDS, CLEAR_SUMS, CLEAR_ERRORS, DAYS,
            FORGET_RECORDS, FORGET_SUMS, FORGET_ERRORS, FORGET_COUNTS,
        ],
    }
    "../../../keyward/src/verify/sql.rs" as verify {
        Both: [FIND, FIND_BY_SECRET, SALTED, IMPORT_PREFIXES, DIGESTS, REHASH, TOUCH],
    }
}

/// Their statements stand in one table, with what is made of them.
#[path = "../../../keyward/src/maintenance/checks/mod.rs"]
#[allow(dead_code, reason = "only the statements are looked at")]
mod checks;

/// Lists of events are joined from parts, `{}` standing for a value. Every part stands in one of these.
fn lists_of_events(is_postgres: bool) -> Vec<String> {
    let narrowing = [
        audit::OF_PERSON.spelled(),
        audit::OF_ORGANIZATION.spelled(),
        audit::OF_ORGANIZATION_AND.spelled(),
        audit::AND_TYPE.spelled(),
        audit::OF_TYPE.spelled(),
        audit::OF_ACTION.spelled(),
        audit::OF_ACTOR.spelled(),
        audit::OF_RESOURCE.spelled(),
        audit::OF_OUTCOME.spelled(),
        audit::SINCE.spelled(),
        audit::UNTIL.spelled(),
        audit::FROM_ADDRESS.spelled(),
        audit::WITH_TEXT.spelled(),
        audit::SINCE_BESIDE_DETAILS.spelled(),
        audit::UNTIL_BESIDE_DETAILS.spelled(),
        audit::CONTAINS.spelled(),
    ]
    .map(|[sqlite, postgres]| if is_postgres { postgres } else { sqlite });
    let joined = |list: &str, first: &[&str], last: &str| {
        let parts = first.iter().copied().chain(narrowing.iter().map(String::as_str)).chain([last]);
        let parts = (1..).zip(parts).map(|(place, part): (usize, &str)| part.replace("{}", &format!("${place}")));
        format!("{list}{}", parts.collect::<String>())
    };
    let mut lists = vec![
        joined(audit::LIST, &[audit::BEFORE], audit::NEWEST_FIRST),
        joined(audit::LIST, &[audit::FROM_PLACE, audit::AND_BEFORE], audit::OLDEST_FIRST),
    ];
    if !is_postgres {
        let by_term = [
            audit::OF_TERM,
            audit::AT_PLACE,
            audit::FROM_SEGMENT,
            audit::UP_TO_SEGMENT,
            audit::AND_FROM,
            audit::AND_BEFORE,
        ];
        let orders = [audit::NEWEST_TERM_FIRST, audit::OLDEST_TERM_FIRST];
        lists.extend(orders.map(|order| joined(audit::LIST_BY_TERM, &by_term, order)));
    }
    lists
}

/// Every statement that this database is asked, with its name.
fn asked(is_postgres: bool) -> Vec<(String, String)> {
    let named = statements().into_iter().filter(|statement| match statement.place {
        Place::Both => true,
        Place::Postgres | Place::Extensions => is_postgres,
        Place::Sqlite => !is_postgres,
    });
    let mut all: Vec<(String, String)> = named
        .map(|statement| (statement.name.to_owned(), if is_postgres { statement.postgres } else { statement.sqlite }))
        .collect();
    all.extend(lists_of_events(is_postgres).into_iter().map(|text| ("a list of events".to_owned(), text)));
    if is_postgres {
        all.extend(
            checks::CHECKS.iter().map(|check| (format!("the check {}", check.name), check.statement.to_owned())),
        );
    }
    all
}

/// Whether an error tells of nothing that is wrong: an extension is not installed, or a type is not known before the value.
fn is_no_fault(name: &str, error: &sqlx::Error) -> bool {
    let listed = statements().iter().any(|statement| statement.name == name && statement.place == Place::Extensions);
    let Some(error) = error.as_database_error() else { return false };
    let code = error.code().unwrap_or_default();
    code == UNTYPED.0 && error.message().starts_with(UNTYPED.1) || listed && ABSENT.contains(&code.as_ref())
}

on_both! {
    async fn every_statement_can_be_prepared(node: Node) {
        let mut wrong = Vec::new();
        if let Some(url) = node.place.database_url() {
            let mut connection = PgConnection::connect(url).await.unwrap();
            for (name, text) in asked(true) {
                let typed = TYPED.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, types)| *types);
                let types: Vec<PgTypeInfo> = typed.iter().map(|name| PgTypeInfo::with_name(name)).collect();
                match connection.prepare_with(AssertSqlSafe(text).into_sql_str(), &types).await {
                    Err(error) if !is_no_fault(&name, &error) => wrong.push(format!("{name}: {error}")),
                    _ => {}
                }
            }
        } else {
            let file = SqliteConnectOptions::new().filename(node.place.folder().join("keyward.db"));
            let mut connection = file.connect().await.unwrap();
            for (name, text) in asked(false) {
                if let Err(error) = connection.prepare(AssertSqlSafe(text).into_sql_str()).await {
                    wrong.push(format!("{name}: {error}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Files named `sql.rs` below a folder.
fn files_of_statements(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_of_statements(&path, found);
        } else if path.ends_with("sql.rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_of_statements_is_left_out() {
    let mut found = Vec::new();
    files_of_statements(Path::new(PLATFORM), &mut found);
    // The door itself has none; the checks are read by their own module.
    let own = ["db/sql.rs", "maintenance/checks/sql.rs"];
    let mut missing = found.iter().map(|path| path.strip_prefix(PLATFORM).unwrap().display().to_string());
    let is_read =
        |place: &str| own.contains(&place) || FILES.iter().any(|file| file.ends_with(&format!("/src/{place}")));
    assert_eq!(missing.find(|place| !is_read(place)), None);
    assert_eq!(found.len(), FILES.len() + own.len());
}
