//! The allocator. Its memory lies in large pages, and what is freed is kept for a while (`docs/decisions/0017`).

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

#[global_allocator]
static MEMORY: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3; the crate names few options.
const PURGE_DELAY: mi_option_t = 15;
/// How long freed memory is kept before the system gets it back, in milliseconds. A flush wants each second what the one before has
/// freed; the allocator's own second is just too short for that, and Linux clears two megabytes where a verification waits.
const KEPT: c_long = 60_000;

/// To be called first. `MIMALLOC_PURGE_DELAY` in the environment is obeyed instead.
pub fn keep_freed() {
    // SAFETY: it sets a number that is the allocator's own, and there is no other thread yet.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    fn the_number_is_that_of_the_delay_and_freed_memory_is_kept() {
        // SAFETY: it reads a number.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        // The delay's default, and no other option's.
        assert_eq!(delay(), 1_000);
        keep_freed();
        assert_eq!(delay(), KEPT);
    }
}
