//! Counters: of decisions, and of what went wrong.

use crate::maps::MapImage;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use portguard_common::{Counter, Image as _, RuleWord};

/// One slot for each [`Counter`]. Shared memory with atomic adds, so that preemption loses none.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.counters")]
static mut COUNTERS: [u64; Counter::COUNT as usize] = [0; Counter::COUNT as usize];

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    // SAFETY: within the counters.
    let slot = unsafe { (&raw mut COUNTERS).cast::<u64>().add(counter as usize) };
    // SAFETY: as above, aligned, which programs only touch by atomic adds.
    unsafe { increment(slot) };
}

/// Adds one to the counter of a decision's verdict.
#[inline(always)]
pub fn count_verdict(word: RuleWord) {
    // The first counters have the numbers of the verdicts.
    let at = MapImage::opaque(u32::from(word.0)) as usize & 3;
    // SAFETY: within the counters, of which there are more than four.
    let slot = unsafe { (&raw mut COUNTERS).cast::<u64>().add(at) };
    // SAFETY: as above, aligned, which programs only touch by atomic adds.
    unsafe { increment(slot) };
}

/// Adds one to a word of a map value.
///
/// `AtomicU64::fetch_add` does not exist on targets without compare-and-swap, which is how rustc sees BPF.
///
/// # Safety
/// `word` is eight bytes of a map value, aligned, and whatever else writes it does so by atomic adds.
#[inline(always)]
pub unsafe fn increment(word: *mut u64) {
    // SAFETY: by the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, 1) };
}
