//! PostgreSQL for the suite: the server that the runner started (`KEYWARD_TEST_POSTGRES`), or our own, started from
//! the installed binaries on a free port. Each test gets a database of its own.

use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

static SERVER: OnceLock<Option<xtask::postgres::Server>> = OnceLock::new();

/// The address of a server, ending in the database `postgres`.
fn server_url() -> String {
    if let Ok(url) = std::env::var("KEYWARD_TEST_POSTGRES") {
        return url;
    }
    let server = SERVER.get_or_init(|| Some(xtask::postgres::Server::start().expect("PostgreSQL starts")));
    server.as_ref().expect("a server").url().to_owned()
}

/// Makes an empty database; answers its address.
pub async fn new_database() -> String {
    let url = server_url();
    let name = format!("test_{:032x}", rand::random::<u128>());
    let mut connection = PgConnection::connect(&url).await.expect("PostgreSQL answers");
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a new database");
    let (server, _) = url.rsplit_once('/').expect("an address with a database");
    format!("{server}/{name}")
}
