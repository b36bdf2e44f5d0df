//! How much resident memory a cached key costs.

use std::path::Path;

use anyhow::Result;

use crate::figures::{Figure, Target::AtLeast, Target::AtMost};
use crate::instance::Instance;
use crate::report::Report;

/// Imports keys, starts the server anew, and compares its memory before every key was verified with that after their last uses
/// were written. What it holds besides the cache, such as the database's own, counts as well.
pub fn measure(count: usize, program: &Path, report: &mut Report) -> Result<()> {
    eprintln!("Memory of {count} cached keys");
    let instance = Instance::set_up(program)?;
    let keys = instance.import(count, count)?;
    // Imported hashes become native here, so that the second start reads each key as it will stay.
    instance.api.warm_up(&keys)?;
    let instance = instance.restart()?;
    let before = instance.resident_bytes()?;
    instance.api.warm_up(&keys)?;
    let per_key = || Ok::<_, anyhow::Error>(instance.resident_bytes()?.saturating_sub(before) as f64 / count as f64);
    let busy = per_key()?;
    instance.api.come_to_rest()?;
    let name = format!("memory of a cached key, of {count}");
    report.figures.push(Figure::new(&name, "bytes", vec![per_key()?], AtMost(400.0)));
    report.figures.push(Figure::new(name + ", while uses wait", "bytes", vec![busy], AtLeast(0.0)));
    Ok(())
}
