//! The verb `test`: runs every step, whether or not earlier ones failed, and prints a summary.

mod guests;
mod steps;
mod summary;

use crate::vm::{self, GuestSpec, kernel};
use crate::{build, fuzz, tools};
use anyhow::{Result, bail};
use std::process::ExitCode;
use std::thread::{self, ScopedJoinHandle};
use summary::Steps;

/// Which tests to run; all of them if nothing is set.
#[derive(Default)]
pub(crate) struct Selection {
    /// The guests with these kernels.
    pub(crate) vm: Vec<String>,
    /// The tests on the kernel of this machine.
    pub(crate) native: bool,
    /// What needs neither root nor a guest.
    pub(crate) host: bool,
    /// Formatting, clippy, unit and property tests, and the tests of decisions in one guest.
    pub(crate) quick: bool,
    /// Of the native tests and those in guests, those whose name contains this.
    pub(crate) filter: Option<String>,
    /// The guests, of every kernel unless some are named.
    pub(crate) guests: bool,
}

impl Selection {
    fn everything(&self) -> bool {
        self.vm.is_empty() && !self.native && !self.host && !self.quick && !self.guests
    }

    /// The guests to boot.
    fn guests(&self) -> Result<Vec<GuestSpec>> {
        if self.quick {
            return Ok(guests::quick_guest());
        }
        let series = kernel::selected(&self.vm)?;
        let any = self.everything() || self.guests || !self.vm.is_empty();
        Ok(if any {
            guests::guests(&series, self.filter.as_deref())
        } else {
            Vec::new()
        })
    }
}

/// Runs the selected tests.
pub(crate) fn run(selection: &Selection) -> Result<ExitCode> {
    let guests = selection.guests()?;
    let (all, filter) = (selection.everything(), selection.filter.as_deref());
    let host = all || selection.host;
    let mut steps = Steps::new();
    if host || selection.quick {
        steps.plain("formatting", steps::formatting);
    }
    if host {
        steps.run("policy crate alone", steps::policy_crate);
    }
    steps.plain("tools", || {
        tools::for_building()?;
        if guests.is_empty() {
            Ok(())
        } else {
            tools::for_guests()
        }
    });
    thread::scope(|scope| {
        let downloads = scope.spawn(|| download(&guests));
        let built = steps.plain("build", || {
            if host || selection.quick {
                build::with_tests()
            } else {
                build::everything()
            }
        });
        if host || selection.quick {
            steps.plain("clippy", steps::clippy);
            steps.run("cargo test", steps::cargo_test);
        }
        if host {
            steps.plain("cargo doc", steps::documentation);
            steps.plain("dependencies", steps::dependencies);
            steps.run("advisories", steps::advisories);
            steps.run("alerts", steps::alerts);
            steps.run("policies", || if_built(built, steps::policies));
            steps.run("fuzz", || if_built(built, fuzz::short));
        }
        if all || selection.native {
            steps.run("native", || if_built(built, || steps::native(filter)));
        }
        if !guests.is_empty() {
            in_guests(&mut steps, &guests, downloads, built, filter);
        }
    });
    Ok(steps.finish())
}

/// Downloads kernels and packages while other steps keep the processors busy. What fails here is tried again where
/// it is needed, and fails there.
fn download(guests: &[GuestSpec]) {
    if guests.is_empty() {
        return;
    }
    if let Err(error) = vm::download(guests) {
        eprintln!("xtask: downloading for the guests: {error:#}");
    }
}

/// The steps in guests.
fn in_guests(
    steps: &mut Steps,
    guests: &[GuestSpec],
    downloads: ScopedJoinHandle<'_, ()>,
    built: bool,
    filter: Option<&str>,
) {
    let prepared = steps.plain("kernels", || {
        // A thread that panicked has printed why.
        let _ = downloads.join();
        if_built(built, || guests::prepare(guests))
    });
    if prepared {
        guests::run(steps, guests, filter);
    } else {
        guests::not_booted(steps, guests);
    }
}

/// Runs a step that needs the current build.
fn if_built<T>(built: bool, step: impl FnOnce() -> Result<T>) -> Result<T> {
    if !built {
        bail!("not run: the build failed");
    }
    step()
}

#[cfg(test)]
mod tests {
    use super::Selection;

    #[test]
    fn selection_decides_which_guests_are_booted() {
        let count = |selection: Selection| selection.guests().map(|guests| guests.len()).ok();
        let some = Selection::default;
        assert_eq!(count(some()), Some(13));
        assert_eq!(
            count(Selection {
                quick: true,
                ..some()
            }),
            Some(1)
        );
        assert_eq!(
            count(Selection {
                host: true,
                ..some()
            }),
            Some(0)
        );
        assert_eq!(
            count(Selection {
                native: true,
                ..some()
            }),
            Some(0)
        );
        let vm = vec!["6.1".to_owned()];
        assert_eq!(count(Selection { vm, ..some() }), Some(2));
        let filter = Some("attack_".to_owned());
        assert_eq!(
            count(Selection {
                guests: true,
                filter,
                ..some()
            }),
            Some(10)
        );
        let vm = vec!["2.6".to_owned()];
        assert_eq!(count(Selection { vm, ..some() }), None);
    }
}
