//! What the kernel knows: on which core something runs, how much processor time and memory a process has taken.
//!
//! Linux only, like the figures themselves.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};

/// Where the servers run, all of them; only one is under load at a time.
pub const SERVER_CORE: usize = 0;
/// Where the load generator runs.
pub const LOAD_CORE: usize = 1;

/// Binds this thread, and what it starts from now on, to one core.
pub fn pin(core: usize) -> Result<()> {
    bind(&[core]).with_context(|| format!("cannot run on core {core}; two cores are needed"))
}

/// Starts something that may run on either core: a database or a store beside the servers.
pub fn start_on_both<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    bind(&[SERVER_CORE, LOAD_CORE])?;
    let started = start();
    pin(LOAD_CORE)?;
    started
}

fn bind(to: &[usize]) -> Result<()> {
    let mut cores = CpuSet::new();
    to.iter().for_each(|core| cores.set(*core));
    Ok(sched_setaffinity(None, &cores)?)
}

/// User and system time of a process and all its threads, past ones included. Exact to a clock tick, 10 ms.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses that may contain anything; utime and stime are the 14th and 15th.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat is not as expected")?;
    Ok(ticks(fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?))
}

/// How long threads have run, by process and thread.
pub type RunTimes = HashMap<(u32, u32), Duration>;

/// How long each thread has run so far, those of the kernel as well, to the nanosecond. The clock ticks in /proc/stat see little of
/// what runs for a millisecond at a time. Empty where the kernel does not tell.
pub fn run_times() -> Result<RunTimes> {
    let mut times = RunTimes::new();
    for pid in numbers_in("/proc")? {
        // What ends meanwhile is left out.
        let Ok(threads) = numbers_in(&format!("/proc/{pid}/task")) else { continue };
        for thread in threads {
            let told = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).unwrap_or_default();
            if let Some(nanos) = told.split_whitespace().next() {
                times.insert((pid, thread), Duration::from_nanos(nanos.parse()?));
            }
        }
    }
    Ok(times)
}

/// How long all processes but ours have run since on our two cores: a thread counts to the core on which it ran last.
pub fn others_time(since: &RunTimes, ours: &[u32]) -> Result<Duration> {
    let mut others = Duration::ZERO;
    for (thread, time) in run_times()? {
        let ran = time.saturating_sub(since.get(&thread).copied().unwrap_or_default());
        if !ran.is_zero() && !ours.contains(&thread.0) && is_on_our_cores(thread) {
            others += ran;
        }
    }
    Ok(others)
}

/// What has ended meanwhile is not.
fn is_on_our_cores((pid, thread): (u32, u32)) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).unwrap_or_default();
    // The second field is a name in parentheses that may contain anything; the core is the 39th.
    let core = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(36)?.parse().ok());
    core.is_some_and(|core: usize| [SERVER_CORE, LOAD_CORE].contains(&core))
}

fn numbers_in(folder: &str) -> Result<Vec<u32>> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// What the host of a virtual machine took from our two cores while they had work, as far as it tells.
pub fn stolen_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let mut stolen = 0;
    for core in [SERVER_CORE, LOAD_CORE] {
        let prefix = format!("cpu{core} ");
        let fields = stat.lines().find_map(|line| line.strip_prefix(&prefix)).context("/proc/stat lacks a core")?;
        stolen += fields.split_whitespace().nth(7).map_or(Ok(0), str::parse::<u64>)?;
    }
    Ok(ticks(stolen))
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Memory of a process that is resident, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm.split_whitespace().nth(1).context("/proc/PID/statm is not as expected")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// What the figures were measured on.
pub fn describe() -> Value {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models = cpu_info.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let models: Vec<&str> = models.map(|(_, model)| model).collect();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({ "processor": models.first(), "cores": models.len(), "kernel": kernel.trim() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_meanwhile_is_told_but_not_of_ours() {
        pin(LOAD_CORE).unwrap();
        let own = std::process::id();
        let before = run_times().unwrap();
        let start = cpu_time(own).unwrap();
        while cpu_time(own).unwrap() - start < Duration::from_millis(50) {}
        let without = others_time(&before, &[own]).unwrap();
        let with_us = others_time(&before, &[]).unwrap();
        assert!(with_us >= without + Duration::from_millis(40), "{with_us:?} {without:?}");
    }
}
