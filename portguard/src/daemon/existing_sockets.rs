//! Sockets older than the policy in force: counted, said, and closed where that is wanted.

use super::Daemon;
use crate::inventory::{self, Holder, Inventory, InventoryError};
use crate::loader::CompiledPolicy;
use crate::memory;
use crate::stderr::log_line;
use portguard_policy::policy::Mode;
use tokio::task::JoinHandle;

/// What a look found: those against the policy, and what came of each that was to be closed.
pub(super) struct ExistingSockets {
    violations: u64,
    said: Vec<String>,
}

/// A look on its way. Dropped, its outcome is of no interest any more.
pub(super) type Scan = JoinHandle<Result<ExistingSockets, InventoryError>>;

impl Daemon<'_> {
    /// Begins to look who holds ports that `fresh` protects: it takes a while, and nothing waits for it.
    pub(super) fn scan_existing_sockets(&mut self, fresh: CompiledPolicy) {
        let CompiledPolicy { policy, tables, .. } = fresh;
        let host_netns = self.environment.host_netns;
        let close = self.enforce_existing && policy.mode == Mode::Enforce;
        self.scan = Some(tokio::task::spawn_blocking(move || {
            let found = inventory::take(&policy, &tables, host_netns)?;
            if !close {
                return Ok(ExistingSockets::of(&found));
            }
            let violations = found.violations();
            let said = violations.map(|holder| holder.describe_closing(&holder.destroy()));
            let said = said.collect();
            // What accepts no more has its port none the less.
            let left = inventory::take(&policy, &tables, host_netns)?;
            Ok(ExistingSockets {
                violations: left.violations().count() as u64,
                said,
            })
        }));
    }

    /// Takes in what the look found.
    pub(super) fn on_inventory(&mut self, found: Result<ExistingSockets, InventoryError>) {
        // Every process was looked at.
        memory::give_back();
        match found {
            Ok(elders) => {
                for line in &elders.said {
                    log_line!("portguard: {line}");
                }
                self.violations = Some(elders.violations);
            }
            Err(error) => {
                self.violations = None;
                log_line!("portguard: who holds protected ports already cannot be told: {error}");
            }
        }
    }
}

impl ExistingSockets {
    fn of(found: &Inventory) -> Self {
        let warning = |holder: &Holder| {
            format!(
                "warning: {} has been there before, against the policy: see `portguard inventory`",
                holder.describe()
            )
        };
        let said: Vec<String> = found.violations().map(warning).collect();
        Self {
            violations: said.len() as u64,
            said,
        }
    }
}

/// Waits for the end of a look, for ever where there is none.
pub(super) async fn scanned(look: &mut Option<Scan>) -> Result<ExistingSockets, InventoryError> {
    loop {
        let Some(running) = look else {
            return std::future::pending().await;
        };
        let ended = running.await;
        *look = None;
        // One that panicked has said so.
        if let Ok(found) = ended {
            return found;
        }
    }
}
