//! What the suite needs beside Rust, and how it gets it: Debian's packages, installed when we may, named when not; and one
//! program of Python's, in a folder of its own under `target/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Something that the suite starts.
pub struct Needed {
    pub what: &'static str,
    /// Debian's package.
    pub package: &'static str,
    find: fn() -> Option<PathBuf>,
}

/// Everything that the suite starts: a line each.
pub const NEEDED: &[Needed] = &[
    Needed { what: "PostgreSQL", package: "postgresql", find: || postgres_program("postgres") },
    Needed { what: "Redis", package: "redis-server", find: || on_path("redis-server") },
    Needed { what: "nginx", package: "nginx-light", find: || on_path("nginx") },
    Needed { what: "Chromium", package: "chromium", find: || on_path("chromium") },
    Needed { what: "ChromeDriver", package: "chromium-driver", find: || on_path("chromedriver") },
    Needed { what: "oathtool", package: "oathtool", find: || on_path("oathtool") },
    Needed { what: "PyJWT", package: "python3-jwt", find: || python_module("jwt") },
    Needed { what: "Python's cryptography", package: "python3-cryptography", find: || python_module("cryptography") },
    Needed { what: "Python with venv", package: "python3-venv", find: python },
];

/// Debian's own Python, which has Debian's modules: another on the search path has not.
pub const PYTHON: &str = "/usr/bin/python3";

/// The identity provider that tests sign in by, in one version.
const PROVIDER: &str = "oidc-provider-mock";
const PROVIDER_VERSION: &str = "0.3.4";

/// Debian starts a server as soon as it is installed, unless this file says 101. It stays no longer than needed.
const INSTALL: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get update -q
apt-get install -y -q --no-install-recommends "$@"
"#;

/// Installs what is missing: with apt-get when we are root; otherwise says exactly what to run.
pub fn ensure() -> Result<()> {
    ensure_packages()?;
    ensure_provider()
}

/// Where the identity provider's program is, once it is installed.
pub fn provider_program() -> PathBuf {
    provider_folder().join("bin").join(PROVIDER)
}

fn provider_folder() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    target.join(format!("{PROVIDER}-{PROVIDER_VERSION}"))
}

fn ensure_provider() -> Result<()> {
    if provider_program().is_file() {
        return Ok(());
    }
    let folder = provider_folder();
    println!(
        "the suite needs an identity provider: installing {PROVIDER} {PROVIDER_VERSION} into {}",
        folder.display()
    );
    let python = python().context("Python with venv")?;
    let run = |program: &Path, arguments: &[&str]| -> Result<()> {
        let status = Command::new(program).args(arguments).stdin(Stdio::null()).status();
        ensure!(status.context("Python")?.success(), "{} {}: failed", program.display(), arguments.join(" "));
        Ok(())
    };
    run(&python, &["-m", "venv", &folder.to_string_lossy()])?;
    run(&folder.join("bin/pip"), &["install", "--quiet", &format!("{PROVIDER}=={PROVIDER_VERSION}")])
}

/// Debian's Python lacks what `venv` needs until its package is there.
fn python() -> Option<PathBuf> {
    let has_venv = |python: &PathBuf| {
        let mut check = Command::new(python);
        check.args(["-c", "import venv, ensurepip"]).stdin(Stdio::null()).stderr(Stdio::null());
        check.status().is_ok_and(|status| status.success())
    };
    on_path("python3").filter(has_venv).or_else(|| Some(PathBuf::from("/usr/bin/python3")).filter(has_venv))
}

fn ensure_packages() -> Result<()> {
    let missing: Vec<&Needed> = NEEDED.iter().filter(|needed| (needed.find)().is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|needed| needed.what).collect::<Vec<_>>().join(" and ");
    let packages: Vec<&str> = missing.iter().map(|needed| needed.package).collect();
    let by_hand = format!("  apt-get update\n  apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !rustix::process::geteuid().is_root() || on_path("apt-get").is_none() {
        bail!("the suite needs {names}; as root, run:\n{by_hand}");
    }
    println!("the suite needs {names}: installing {}", packages.join(" "));
    let mut install = Command::new("sh");
    install.args(["-c", INSTALL, "install"]).args(&packages).env("DEBIAN_FRONTEND", "noninteractive");
    let status = install.stdin(Stdio::null()).status().context("sh")?;
    ensure!(status.success(), "apt-get failed; by hand:\n{by_hand}");
    let absent: Vec<&str> =
        missing.iter().filter(|needed| (needed.find)().is_none()).map(|needed| needed.what).collect();
    ensure!(absent.is_empty(), "installed, and yet not found: {}", absent.join(" and "));
    Ok(())
}

/// A program of PostgreSQL: from `PG_BIN`, else the newest of Debian's versioned folders, else the search path.
pub fn postgres_program(name: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("PG_BIN") {
        return Some(PathBuf::from(folder).join(name)).filter(|program| program.is_file());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let programs = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin").join(name))).filter(|(_, program)| program.is_file())
    });
    programs.max_by_key(|(version, _)| *version).map(|(_, program)| program).or_else(|| on_path(name))
}

/// A module of Debian's Python.
fn python_module(name: &str) -> Option<PathBuf> {
    let module = PathBuf::from("/usr/lib/python3/dist-packages").join(name);
    (module.is_dir() && PathBuf::from(PYTHON).is_file()).then_some(module)
}

/// A program on the search path; Debian keeps servers in `sbin`, which a user's path may lack.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
