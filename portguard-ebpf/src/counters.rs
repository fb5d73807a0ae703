//! Counters: of decisions, of what went wrong, and of each rule's hits.

use crate::maps::{COUNTERS, MapImage};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use portguard_common::{Counter, Image as _, PAGE_WORDS, hits_slot};

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a map value, eight bytes and aligned, which programs only touch by atomic adds.
        unsafe { increment(slot) };
    }
}

/// Counts a decision by `rule` in the policy's own pages.
#[inline(always)]
pub fn count_hit(image: &MapImage<'_>, hits_page: u64, rule: u16) {
    let slot = hits_slot(rule);
    let page = hits_page as u32 + slot / PAGE_WORDS as u32;
    if let Some(words) = image.0.get_ptr_mut(page) {
        let at = MapImage::opaque(slot) as usize & (PAGE_WORDS - 1);
        // SAFETY: within the page.
        let word = unsafe { words.cast::<u64>().add(at) };
        // SAFETY: a word of a map value, aligned, which programs only touch by atomic adds.
        unsafe { increment(word) };
    }
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
