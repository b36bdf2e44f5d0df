//! What the suite needs beside Rust, and how it gets it: Debian's packages, installed when we may, named when not.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program that the suite starts.
pub struct Needed {
    pub what: &'static str,
    pub package: &'static str,
    find: fn() -> Option<PathBuf>,
}

/// Everything that the suite starts.
pub const NEEDED: &[Needed] = &[
    Needed { what: "PostgreSQL", package: "postgresql", find: || postgres_program("postgres") },
    Needed { what: "nginx", package: "nginx-light", find: || on_path("nginx") },
];

/// A program of PostgreSQL: from `PG_BIN`, else the newest of Debian's versioned folders, else the search path.
pub fn postgres_program(name: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("PG_BIN") {
        return Some(PathBuf::from(folder).join(name)).filter(|path| path.exists());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin").join(name)))
        })
        .filter(|(_, path)| path.exists())
        .max_by_key(|(version, _)| *version);
    newest.map(|(_, path)| path).or_else(|| on_path(name))
}

/// A program on the search path; Debian keeps servers in `sbin`, which a user's path may lack.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Installs what is missing with apt-get as root; otherwise says exactly what to run.
pub fn ensure() -> Result<()> {
    let missing: Vec<&Needed> = NEEDED.iter().filter(|needed| (needed.find)().is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|needed| needed.package).collect();
    let named: Vec<&str> = missing.iter().map(|needed| needed.what).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    // SAFETY: geteuid has no preconditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root || on_path("apt-get").is_none() {
        bail!("the suite needs {}; install it with:\n  {by_hand}", named.join(" and "));
    }
    println!("installing {} for the suite", named.join(" and "));
    let apt = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("apt-get");
        // Debian would start the servers as services: RUNLEVEL=1 keeps them down.
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        let status = command.status().context("apt-get")?;
        if status.success() { Ok(()) } else { bail!("apt-get failed; install by hand:\n  {by_hand}") }
    };
    apt(&["update", "-q"])?;
    apt(&[&["install", "-y", "-q", "--no-install-recommends"], packages.as_slice()].concat())
}
