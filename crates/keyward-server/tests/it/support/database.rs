//! A test's own look into a node's database, for what no route tells, and for damage that only an accident would do.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

use super::Node;

impl Node {
    /// The one number that a statement answers, in a column `value`.
    pub async fn tell(&self, statement: &str) -> i64 {
        let statement = AssertSqlSafe(statement.to_owned());
        match self.place.database_url() {
            Some(url) => {
                let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
                sqlx::query_scalar(statement).fetch_one(&mut connection).await.expect("a number")
            }
            None => {
                let mut connection = self.file().connect().await.expect("the file opens");
                sqlx::query_scalar(statement).fetch_one(&mut connection).await.expect("a number")
            }
        }
    }

    /// Runs statements behind the node's back.
    pub async fn tamper(&self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned());
        match self.place.database_url() {
            Some(url) => {
                let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
                connection.execute(sqlx::raw_sql(statements)).await.expect("it is done");
            }
            None => {
                let mut connection = self.file().connect().await.expect("the file opens");
                connection.execute(sqlx::raw_sql(statements)).await.expect("it is done");
            }
        }
    }

    fn file(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(self.place.folder().join("keyward.db"))
    }
}
