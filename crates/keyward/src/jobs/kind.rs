//! The kinds of jobs, in one table: what they are called, whose they are, and who may see and start them. What a kind
//! does stands in its own slice; `tasks` brings the two together.

use keyward_core::access::Permission;

/// Whose jobs of a kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Instance,
    Organization,
}

struct Row {
    name: &'static str,
    scope: Scope,
    lane: Lane,
    see: Permission,
    run: Permission,
    attempts: i64,
}

/// Which jobs wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// One at a time in the whole instance.
    Shared(&'static str),
    /// Waits for nobody.
    Own,
}

macro_rules! kinds {
    ($($variant:ident $name:literal $scope:ident $lane:expr, $see:ident $run:ident $attempts:literal;)*) => {
        /// What a job does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum JobKind { $($variant),* }

        impl JobKind {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
        }

        const TABLE: &[Row] = &[
            $(Row { name: $name, scope: Scope::$scope, lane: $lane, see: Permission::$see, run: Permission::$run, attempts: $attempts }),*
        ];
    };
}

/// The database is changed by one job at a time.
const UPKEEP: Lane = Lane::Shared("upkeep");

kinds! {
    //         name         of        lane     to see      to start    attempts
    Vacuum     "vacuum"     Instance  UPKEEP,  SystemRead  SystemMaintain 2;
    Analyze    "analyze"    Instance  UPKEEP,  SystemRead  SystemMaintain 2;
    Reindex    "reindex"    Instance  UPKEEP,  SystemRead  SystemMaintain 2;
    Partitions "partitions" Instance  UPKEEP,  SystemRead  SystemMaintain 3;
    Convert    "convert"    Instance  UPKEEP,  SystemRead  SystemMaintain 2;
}

impl JobKind {
    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    pub fn scope(self) -> Scope {
        self.row().scope
    }

    pub fn lane(self) -> Lane {
        self.row().lane
    }

    /// What a caller must hold to see jobs of this kind that others started.
    pub fn seen_by(self) -> Permission {
        self.row().see
    }

    /// What a caller must hold to start one, or to cancel another's.
    pub fn run_by(self) -> Permission {
        self.row().run
    }

    /// How often it is taken up when nodes die over it.
    pub fn attempts(self) -> i64 {
        self.row().attempts
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}
