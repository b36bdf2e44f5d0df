//! The data folder: whose it is, who else may look into it, and how much room there is.

use std::path::Path;

use keyward::checkup::{Finding, Status};
use keyward::config::Settings;
use rustix::fs::{Access, access, statvfs};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const MEBIBYTE: u64 = 1 << 20;
/// Below this a busy book fills the disk within a day; below that a start may fail.
const ROOM_WARNS: u64 = 1_024 * MEBIBYTE;
const ROOM_FAILS: u64 = 128 * MEBIBYTE;

pub fn look(settings: &Settings) -> Vec<Finding> {
    let folder = settings.database.data_dir.as_path();
    if !settings.database.url.is_empty() {
        let reason = "The database is PostgreSQL's: its disk is not looked at from here.";
        return vec![Finding::unknown("disk", reason, "Watch the disk where PostgreSQL keeps its data.")];
    }
    vec![look_at(folder), room(folder)]
}

fn look_at(folder: &Path) -> Finding {
    let (check, named) = ("folder", folder.display());
    let found = match std::fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return look_above(folder),
        Err(error) => {
            return Finding::unknown(check, format!("{named}: {error}"), "Ask as the user that runs Keyward.");
        }
    };
    if !found.is_dir() {
        return Finding::failure(check, format!("{named} is not a folder."), "Set database.data_dir to a folder.");
    }
    if access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let reason = format!("{named} belongs to the user {}, and we may not write there.", found.uid());
        return Finding::failure(
            check,
            reason,
            "Run Keyward, and this command, as that user; or give the folder away.",
        );
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let reason = format!("{named} is open to others (mode {mode:03o}), and holds the pepper and every digest.");
        return Finding::bad(
            check,
            Status::Warning,
            reason,
            format!("chmod 700 {named}; a start of Keyward does it too."),
        );
    }
    Finding::ok(check, format!("{named} is ours alone."))
}

/// Where there is no folder yet, the nearest one above must let us make it.
fn look_above(folder: &Path) -> Finding {
    let above = existing(folder);
    let reason = format!("There is no {} yet.", folder.display());
    if access(above, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let action = format!("Make it, or let us write in {}: a start cannot.", above.display());
        return Finding::failure("folder", reason, action);
    }
    let action = "`keyward serve` makes it; or name the right one by --data-dir.";
    Finding::bad("folder", Status::Warning, reason, action)
}

/// The folder, or the nearest one above that exists.
fn existing(folder: &Path) -> &Path {
    let above = folder.ancestors().find(|folder| folder.exists());
    above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn room(folder: &Path) -> Finding {
    let (check, place) = ("disk", existing(folder));
    let found = match statvfs(place) {
        Ok(found) => found,
        Err(error) => return Finding::unknown(check, format!("{}: {error}", place.display()), "Look with `df`."),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let reason = format!("{} MiB are free at {}.", free / MEBIBYTE, place.display());
    match free {
        free if free < ROOM_FAILS => Finding::failure(check, reason, "Make room: without it nothing can be changed."),
        free if free < ROOM_WARNS => Finding::bad(check, Status::Warning, reason, "Make room before it is full."),
        _ => Finding::ok(check, reason),
    }
}
