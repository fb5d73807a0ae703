//! The tests: what portguard must do, seen from outside.

mod checks;
mod decisions;

use crate::harness::{Needs, Test};

/// All tests, in the order in which they run.
#[must_use]
pub fn all() -> Vec<Test> {
    [decisions::TESTS].concat_tests()
}

/// Joins the tables of the modules.
trait ConcatTests {
    fn concat_tests(self) -> Vec<Test>;
}

impl<const N: usize> ConcatTests for [&'static [(&'static str, Needs, TestFn)]; N] {
    fn concat_tests(self) -> Vec<Test> {
        self.into_iter().flatten().map(|&(name, needs, run)| Test { name, needs, run }).collect()
    }
}

/// What a test does.
type TestFn = fn(&crate::harness::World) -> anyhow::Result<()>;

/// A module's tests.
type Table = &'static [(&'static str, Needs, TestFn)];
