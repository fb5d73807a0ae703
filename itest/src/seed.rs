//! Seeds: every random test prints its seed, and `PORTGUARD_SEED` repeats it.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::time::{SystemTime, UNIX_EPOCH};

/// The seed of this run: `PORTGUARD_SEED`, else one from the clock.
#[must_use]
pub fn seed() -> u64 {
    number("PORTGUARD_SEED").unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64)
    })
}

/// The number of cases: `PORTGUARD_CASES`, else `usual`.
#[must_use]
pub fn cases(usual: u32) -> u32 {
    number("PORTGUARD_CASES").map_or(usual, |cases| cases as u32)
}

/// A runner of this many cases, and the seed that determines them.
#[must_use]
pub fn runner(cases: u32) -> (u64, TestRunner) {
    let seed = seed();
    (seed, runner_from(seed, cases))
}

/// A runner of this many cases from a given seed.
#[must_use]
pub fn runner_from(seed: u64, cases: u32) -> TestRunner {
    // Never zero, which that generator cannot leave; the multiplier is of SplitMix64.
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes = [seed.to_le_bytes(), mixed.to_le_bytes()].concat();
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    // A guest spends a fifth less on its requests than with ChaCha, whose vectors QEMU emulates.
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &bytes))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
