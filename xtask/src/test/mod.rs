//! The verb `test`: runs every step, whether or not earlier ones failed, and prints a summary.

mod guests;
mod steps;
mod summary;

use crate::build::{self, Profile};
use crate::vm::{self, GuestSpec, kernel};
use crate::{fuzz, tools};
use anyhow::{Result, bail};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
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
    /// Whether what needs neither root nor a guest runs, whole.
    fn host(&self) -> bool {
        self.everything() || self.host
    }

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

/// Runs the selected tests: what needs a guest, and beside it what does not, so that neither leaves a processor idle.
pub(crate) fn run(selection: &Selection) -> Result<ExitCode> {
    let guests = selection.guests()?;
    let steps = Steps::new();
    let (built, build) = mpsc::channel();
    thread::scope(|scope| {
        let steps = &steps;
        scope.spawn(move || host(steps, selection, &build));
        let downloads = scope.spawn(|| download(&guests));
        let good = prepare(steps, selection, !guests.is_empty());
        // Nobody waits for it if no step on this machine is selected.
        let _ = built.send(good);
        if !guests.is_empty() {
            in_guests(steps, &guests, downloads, good, selection.filter.as_deref());
        }
    });
    Ok(steps.finish())
}

/// Installs the tools and builds the programs; whether that worked.
fn prepare(steps: &Steps, selection: &Selection, in_guests: bool) -> bool {
    let tools = steps.plain("tools", || {
        tools::for_building()?;
        if in_guests {
            tools::for_guests()
        } else {
            Ok(())
        }
    });
    tools
        && steps.plain("build", || {
            if selection.host() || selection.quick {
                build::with_tests()
            } else {
                build::everything(Profile::Suite)
            }
        })
}

/// The steps on this machine: those that need no build at once, the others after it.
fn host(steps: &Steps, selection: &Selection, build: &Receiver<bool>) {
    let (host, native) = (selection.host(), selection.everything() || selection.native);
    if host || selection.quick {
        steps.plain("formatting", steps::formatting);
        steps.run("policy crate alone", steps::policy_crate);
        steps.run("xtask", steps::xtask);
    }
    // An error means that the other thread panicked, which ends the run.
    let built = build.recv().unwrap_or(false);
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
    if native {
        let filter = selection.filter.as_deref();
        steps.run("native", || if_built(built, || steps::native(filter)));
    }
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
    steps: &Steps,
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
