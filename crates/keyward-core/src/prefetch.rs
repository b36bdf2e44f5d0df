//! Memory that is asked for before it is needed, so that work goes on until it has come. This is for records of which there are
//! more than the processor's caches hold (`docs/decisions/0019`); it changes no value.

/// Bytes of a line of the cache, and so what one request brings.
const LINE: usize = 64;
/// More lines than this are not asked for: the processor has no more requests under way.
const MAX_LINES: usize = 8;

/// Has the memory of `thing` come near, and does not wait for it. Where the processor has no such instruction that is known here,
/// nothing.
#[inline]
pub fn prefetch<T: ?Sized>(thing: &T) {
    let start = std::ptr::from_ref(thing).cast::<i8>();
    for line in (0..size_of_val(thing)).step_by(LINE).take(MAX_LINES) {
        prefetch_line(start.wrapping_add(line));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(address: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction reads no value and faults at no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address) }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch_line(_: *const i8) {}
