//! The two tables on the terminal, and the same as JSON in a file.

use std::path::Path;

use anyhow::{Context, Result};
use keyward_core::time::Clock;
use serde_json::json;

use crate::contest::{Run, Runs};
use crate::figures::{Figure, median};
use crate::machine;

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    pub runs: Runs,
    pub figures: Vec<Figure>,
}

impl Report {
    pub fn print(&self) {
        self.print_runs();
        self.print_figures();
        let disturbed = self.runs.0.iter().filter(|run| !run.is_quiet()).count();
        if disturbed > 0 {
            println!("\n{disturbed} of {} runs were disturbed: others took too much of the cores.", self.runs.0.len());
        }
    }

    fn print_runs(&self) {
        let (full, fixed): (Vec<_>, Vec<_>) = self.runs.0.iter().partition(|run| !run.at_fixed_rate);
        for (title, runs) in [("At full speed", full), ("At half of that speed", fixed)] {
            if runs.is_empty() {
                continue;
            }
            println!(
                "\n{title:<24}{:>12}{:>10}{:>8}{:>9}{:>9}{:>10}{:>9}",
                "requests/s", "CPU µs", "core", "p50 µs", "p99 µs", "p99.9 µs", "others"
            );
            let mut subjects: Vec<&str> = runs.iter().map(|run| run.subject).collect();
            subjects.sort_unstable();
            subjects.dedup();
            for subject in subjects {
                let of = |figure: fn(&Run) -> f64| {
                    let values = runs.iter().filter(|run| run.subject == subject).map(|run| figure(run));
                    median(&values.collect::<Vec<_>>())
                };
                println!(
                    "{subject:<24}{:>12.0}{:>10.2}{:>7.0}%{:>9.0}{:>9.0}{:>10.0}{:>8.1}%",
                    of(|run| run.requests_per_second),
                    of(|run| run.cpu_micros_per_request),
                    of(|run| run.core_share) * 100.0,
                    of(|run| run.p50_micros),
                    of(|run| run.p99_micros),
                    of(|run| run.p999_micros),
                    of(|run| run.others_share) * 100.0
                );
            }
        }
    }

    fn print_figures(&self) {
        if self.figures.is_empty() {
            return;
        }
        println!("\n{:<72}{:>10}{:>20}{:>12}  holds", "", "median", "min – max", "target");
        for figure in &self.figures {
            let (low, high) = figure.range();
            let range = format!("{} – {}", number(low), number(high));
            let name = [figure.name.as_str(), figure.unit].join(if figure.unit.is_empty() { "" } else { ", " });
            let holds = if figure.holds() { "yes" } else { "NO" };
            println!(
                "{name:<72}{:>10}{range:>20}{:>12}  {holds}",
                number(median(&figure.values)),
                figure.target.to_string()
            );
        }
    }

    /// Writes the report as JSON; the folder is made where it is missing.
    pub fn write(&self, path: &Path) -> Result<()> {
        let report = json!({
            "measured_at": Clock::System.now(),
            "machine": machine::describe(),
            "figures": self.figures.iter().map(Figure::to_json).collect::<Vec<_>>(),
            "runs": self.runs.0,
        });
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Three digits that matter, for ratios and microseconds alike.
fn number(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}
