//! A test's own look into a node's database, for what no route tells, and for damage that only an accident would do.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, SqlSafeStr};

use super::{Node, Place};

impl Place {
    /// The one number that a statement answers, in a column `value`.
    pub async fn tell(&self, statement: &str) -> i64 {
        let statement = AssertSqlSafe(statement.to_owned());
        match self.database_url() {
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

    /// Runs statements, whoever else has the database open.
    pub async fn run(&self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned()).into_sql_str();
        match self.database_url() {
            Some(url) => {
                let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
                let mut done = connection.execute(sqlx::raw_sql(statements.clone())).await;
                // What gives rights and what makes partitions may meet in the catalog.
                for _ in 0..3 {
                    if !done.as_ref().is_err_and(|error| error.to_string().contains("concurrently updated")) {
                        break;
                    }
                    done = connection.execute(sqlx::raw_sql(statements.clone())).await;
                }
                done.expect("it is done");
            }
            None => {
                let mut connection = self.file().connect().await.expect("the file opens");
                connection.execute(sqlx::raw_sql(statements)).await.expect("it is done");
            }
        }
    }

    fn file(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(self.folder().join("keyward.db"))
    }
}

impl Node {
    /// The one number that a statement answers, in a column `value`.
    pub async fn tell(&self, statement: &str) -> i64 {
        if statement.contains("audit_event") {
            // Events wait for their number before they stand in the book.
            self.app.keyward.audit.sequence().await.expect("they are numbered");
        }
        self.place.tell(statement).await
    }

    /// Runs statements behind the node's back, as somebody who owns the database can: no trigger keeps them from it.
    pub async fn tamper_with_the_book(&self, statements: &str) {
        let untied = match self.place.database_url() {
            Some(_) => format!("SET session_replication_role = replica; {statements}"),
            None => {
                format!(
                    "DROP TRIGGER IF EXISTS audit_event_is_kept; DROP TRIGGER IF EXISTS audit_event_is_unchanged; {statements}"
                )
            }
        };
        self.tamper(&untied).await;
    }

    /// What the database says when it refuses statements.
    pub async fn refuses(&self, statements: &str) -> String {
        let statements = AssertSqlSafe(statements.to_owned());
        let refused = match self.place.database_url() {
            Some(url) => PgConnection::connect(url)
                .await
                .expect("PostgreSQL answers")
                .execute(sqlx::raw_sql(statements))
                .await
                .map(|_| ()),
            None => self
                .file()
                .connect()
                .await
                .expect("the file opens")
                .execute(sqlx::raw_sql(statements))
                .await
                .map(|_| ()),
        };
        refused.expect_err("it is refused").to_string()
    }

    /// Runs statements behind the node's back.
    pub async fn tamper(&self, statements: &str) {
        self.place.run(statements).await;
    }

    fn file(&self) -> SqliteConnectOptions {
        self.place.file()
    }
}
