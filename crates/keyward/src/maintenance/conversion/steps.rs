//! The statements of the change, in order. No database here: names and instants in, text out.

use keyward_core::month::Month;
use keyward_core::time::Timestamp;

use crate::db::{Ddl, ddl, row};
use crate::maintenance::partitions::{Range, attach};

row! {
    /// An index that the new table needs as well.
    #[derive(Debug, Clone)]
    pub struct IndexOf {
        pub name: String,
        /// From ` USING ` on, as the catalog writes it.
        pub definition: String,
    }
}

/// A table on its way to months.
#[derive(Debug, Clone)]
pub struct Steps {
    pub table: String,
    pub column: String,
    /// What lies before it stays where it is; months begin here.
    pub cut: Timestamp,
    pub key: Vec<String>,
    pub key_name: String,
    pub indexes: Vec<IndexOf>,
}

impl Steps {
    /// Where the rows from before the cut lie after the swap.
    pub fn legacy(&self) -> String {
        format!("{}_legacy", self.table)
    }

    /// The new table until the swap.
    fn new_table(&self) -> String {
        format!("{}_months", self.table)
    }

    fn check(&self) -> String {
        format!("{}_before_cut", self.table)
    }

    fn new_key(&self) -> String {
        format!("{}_months_key", self.table)
    }

    /// What an aborted run may have left.
    pub fn clean_up(&self) -> Vec<Ddl> {
        vec![
            ddl("DROP TABLE IF EXISTS ").name(&self.new_table()),
            ddl("ALTER TABLE ").name(&self.table).then(" DROP CONSTRAINT IF EXISTS ").name(&self.check()),
            ddl("DROP INDEX CONCURRENTLY IF EXISTS ").name(&self.new_key()),
        ]
    }

    /// Everything that others do not notice: the new table with its months, and what makes the old one fit as its first part.
    pub fn prepare(&self, months: u32) -> Vec<Ddl> {
        let mut steps = vec![self.create()];
        steps.extend(self.indexes.iter().map(|index| {
            let name = format!("{}_months", index.name);
            let start = ddl("CREATE INDEX ").name(&name).then(" ON ").name(&self.new_table());
            start.catalog(&index.definition)
        }));
        let mut month = Month::of(self.cut);
        for _ in 0..months {
            let range = Range { from: month.start(), to: month.end() };
            steps.push(attach(&self.new_table(), &format!("{}_{}", self.table, range.label()), range, None));
            month = Month::of(month.end());
        }
        let alter = || ddl("ALTER TABLE ").name(&self.table);
        let check = alter().then(" ADD CONSTRAINT ").name(&self.check()).then(" CHECK (").name(&self.column);
        steps.push(check.then(" < ").instant(self.cut).then(") NOT VALID"));
        steps.push(alter().then(" VALIDATE CONSTRAINT ").name(&self.check()));
        let unique = ddl("CREATE UNIQUE INDEX CONCURRENTLY ").name(&self.new_key()).then(" ON ").name(&self.table);
        steps.push(self.key_columns(unique.then(" ")));
        steps
    }

    fn create(&self) -> Ddl {
        let start = ddl("CREATE TABLE ").name(&self.new_table()).then(" (LIKE ").name(&self.table);
        let start = start.then(" INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMMENTS, PRIMARY KEY ");
        self.key_columns(start).then(") PARTITION BY RANGE (").name(&self.column).then(")")
    }

    /// The key's columns, with the instant among them.
    fn key_columns(&self, start: Ddl) -> Ddl {
        let extra = Some(&self.column).filter(|column| !self.key.contains(column));
        let columns = self.key.iter().chain(extra).enumerate();
        let list = columns.fold(start.then("("), |list, (place, column)| {
            let list = if place == 0 { list } else { list.then(", ") };
            list.name(column)
        });
        list.then(")")
    }

    /// One transaction: the old table gives its name away and becomes the first part.
    pub fn swap(&self) -> Ddl {
        let (table, legacy) = (&self.table, self.legacy());
        ddl("BEGIN; LOCK TABLE ")
            .name(table)
            .then(" IN ACCESS EXCLUSIVE MODE; ALTER TABLE ")
            .name(table)
            .then(" DROP CONSTRAINT ")
            .name(&self.key_name)
            .then(", ADD CONSTRAINT ")
            .name(&format!("{legacy}_pkey"))
            .then(" PRIMARY KEY USING INDEX ")
            .name(&self.new_key())
            .then("; ALTER TABLE ")
            .name(table)
            .then(" RENAME TO ")
            .name(&legacy)
            .then("; ALTER TABLE ")
            .name(&self.new_table())
            .then(" RENAME TO ")
            .name(table)
            .then("; ALTER TABLE ")
            .name(table)
            .then(" ATTACH PARTITION ")
            .name(&legacy)
            .then(" FOR VALUES FROM (MINVALUE) TO (")
            .instant(self.cut)
            .then("); COMMIT")
    }

    /// One transaction: the old table takes its name back, and what came after the cut with it.
    pub fn back(&self) -> Ddl {
        let (table, legacy) = (&self.table, self.legacy());
        ddl("BEGIN; LOCK TABLE ")
            .name(table)
            .then(" IN ACCESS EXCLUSIVE MODE; ALTER TABLE ")
            .name(table)
            .then(" DETACH PARTITION ")
            .name(&legacy)
            .then("; ALTER TABLE ")
            .name(&legacy)
            .then(" DROP CONSTRAINT ")
            .name(&self.check())
            .then("; INSERT INTO ")
            .name(&legacy)
            .then(" SELECT * FROM ")
            .name(table)
            .then("; DROP TABLE ")
            .name(table)
            .then("; ALTER TABLE ")
            .name(&legacy)
            .then(" RENAME TO ")
            .name(table)
            .then("; COMMIT")
    }

    pub fn analyze(&self) -> Ddl {
        ddl("ANALYZE ").name(&self.table)
    }

    /// Every statement of a run, for people to read first.
    pub fn all(&self, months: u32) -> Vec<Ddl> {
        let mut steps = self.prepare(months);
        steps.extend([self.swap(), self.analyze()]);
        steps
    }

    /// A question for rows, ends and checksum of what lies before the cut.
    pub fn sum(&self, of: &str) -> Ddl {
        ddl("SELECT count(*) AS rows, min(it.")
            .name(&self.column)
            .then(") AS first_at, max(it.")
            .name(&self.column)
            .then(") AS last_at, coalesce(sum(hashtextextended(it::text, 0)), 0)::text AS checksum FROM ")
            .name(of)
            .then(" AS it WHERE it.")
            .name(&self.column)
            .then(" < ")
            .instant(self.cut)
    }
}
