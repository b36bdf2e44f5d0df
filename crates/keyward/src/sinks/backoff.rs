//! How long a sink that failed is left in peace: a second at first, twice as long each time, a minute at most, a part of it by chance
//! so that nodes and sinks do not come all at once; never shorter than the sink asked for.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The wait after so many failures in a row, at least one; `told` is what the sink asked for.
pub fn wait_after(failures: i64, told: Option<Duration>) -> Duration {
    // Chance only spreads the load; without it the wait is the whole.
    wait(failures, told, getrandom::u32().unwrap_or(u32::MAX))
}

fn wait(failures: i64, told: Option<Duration>, chance: u32) -> Duration {
    let doublings = failures.clamp(1, 7) as u32 - 1;
    let whole = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let half = whole / 2;
    let some = half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX));
    some.max(FIRST).max(told.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_from_a_second_to_a_minute() {
        let millis = |failures, chance| wait(failures, None, chance).as_millis();
        for (failures, shortest, longest) in
            [(1, 1_000, 1_000), (2, 1_000, 2_000), (4, 4_000, 8_000), (7, 30_000, 60_000), (1_000, 30_000, 60_000)]
        {
            assert_eq!((millis(failures, 0), millis(failures, u32::MAX)), (shortest, longest), "{failures}");
        }
        assert_eq!(wait(1, Some(Duration::from_secs(90)), 0), Duration::from_secs(90));
    }
}
