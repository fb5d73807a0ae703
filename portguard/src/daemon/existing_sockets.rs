//! Sockets bound before the policy came into force: counted, logged, and closed with `--enforce-existing`.

use crate::inventory::{self, Holder, Inventory, InventoryError};
use crate::loader::{CompiledPolicy, release_memory};
use crate::sandbox::Sandbox;
use crate::stderr::log_line;
use portguard_policy::policy::Mode;
use tokio::task::JoinHandle;

/// The existing sockets that violate the policy, and what to log of them.
pub(super) struct Violations {
    count: u64,
    lines: Vec<String>,
}

/// The scan that runs, and the result of the last.
pub(super) struct ExistingSockets {
    /// Close the violations.
    enforce: bool,
    host_netns: u32,
    /// Replaced by the scan for a newer policy; the result of the older one is then ignored.
    running: Option<JoinHandle<Result<Violations, InventoryError>>>,
    violations: Option<u64>,
}

impl ExistingSockets {
    pub(super) const fn new(enforce: bool, host_netns: u32) -> Self {
        Self {
            enforce,
            host_netns,
            running: None,
            violations: None,
        }
    }

    /// How many sockets violate the policy; `None` where no scan has succeeded.
    pub(super) const fn violations(&self) -> Option<u64> {
        self.violations
    }

    /// Starts to look for sockets that hold the ports that `fresh` protects. It takes a while, and nothing waits
    /// for it.
    pub(super) fn scan(&mut self, fresh: CompiledPolicy) {
        let CompiledPolicy { policy, tables, .. } = fresh;
        let host_netns = self.host_netns;
        let close = self.enforce && policy.mode == Mode::Enforce;
        self.running = Some(tokio::task::spawn_blocking(move || {
            let found = inventory::take(&policy, &tables, host_netns)?;
            if !close {
                return Ok(Violations::of(&found));
            }
            let violations = found.violations();
            let lines = violations.map(|holder| holder.describe_closing(&holder.destroy()));
            let lines = lines.collect();
            // A listener that no longer accepts connections may still hold its port.
            let left = inventory::take(&policy, &tables, host_netns)?;
            Ok(Violations {
                count: left.violations().count() as u64,
                lines,
            })
        }));
    }

    /// Waits for the scan, forever where none runs.
    pub(super) async fn scanned(&mut self) -> Result<Violations, InventoryError> {
        loop {
            let Some(running) = &mut self.running else {
                return std::future::pending().await;
            };
            let ended = running.await;
            self.running = None;
            // The panic hook has logged a scan that panicked.
            if let Ok(found) = ended {
                return found;
            }
        }
    }

    /// Logs and counts what a scan found.
    pub(super) fn on_inventory(
        &mut self,
        found: Result<Violations, InventoryError>,
        sandbox: &Sandbox,
    ) {
        // The scan has read every process.
        release_memory();
        match found {
            Ok(violations) => {
                for line in &violations.lines {
                    log_line!("portguard: {line}");
                }
                self.violations = Some(violations.count);
            }
            Err(error) => {
                self.violations = None;
                let hint = hint(&error, sandbox);
                log_line!("portguard: existing sockets cannot be listed: {error}{hint}");
            }
        }
    }
}

impl Violations {
    fn of(found: &Inventory) -> Self {
        let warning = |holder: &Holder| {
            format!(
                "warning: {} was already bound before portguard started and violates the policy: see `portguard \
                 inventory`",
                holder.describe()
            )
        };
        let lines: Vec<String> = found.violations().map(warning).collect();
        Self {
            count: lines.len() as u64,
            lines,
        }
    }
}

/// Why root may lack a right.
fn hint(error: &InventoryError, sandbox: &Sandbox) -> &'static str {
    match error {
        InventoryError::Rights { .. } if sandbox.is_on() => {
            "; portguard keeps what `scope: all` needs only if its policy has that at the start: restart it"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_right_of_confined_daemon_is_explained() {
        let rights = InventoryError::Rights {
            what: "cannot enter network namespace 7: EPERM".into(),
            capability: "CAP_SYS_ADMIN",
        };
        assert_eq!(hint(&rights, &Sandbox::off()), "");
        // A thread of its own: it stays filtered.
        let confined = std::thread::spawn(Sandbox::enter).join();
        let confined = confined.unwrap_or_default();
        assert!(
            hint(&rights, &confined)
                .ends_with("only if its policy has that at the start: restart it")
        );
        assert_eq!(hint(&InventoryError::NoHost(7), &confined), "");
    }
}
