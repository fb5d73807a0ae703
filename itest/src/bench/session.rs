//! A daemon for the rows that share its programs: each row gives it a policy, and measures while it is stopped.

use super::policies;
use crate::harness::foreign_links::detach_cgroup_links;
use crate::harness::frozen::Frozen;
use crate::harness::instance::Instance;
use crate::harness::{Kind, TestEnv};
use crate::oracle::Model;

/// The programs that are attached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Programs {
    /// Those of the LSM alone, as for a policy that grants nothing.
    Lsm,
    /// Those of the cgroup tree too. The policy has a grant for another port.
    Both,
}

impl Programs {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Lsm => "LSM alone",
            Self::Both => "both programs",
        }
    }
}

/// A daemon, started for the first row.
pub(super) struct Session {
    pub(super) programs: Programs,
    /// Whether equal decisions become one event; else each has its own.
    folds: bool,
    instance: Option<Instance>,
}

impl Session {
    pub(super) const fn new(programs: Programs, folds: bool) -> Self {
        Self {
            programs,
            folds,
            instance: None,
        }
    }

    /// Measures under a policy, while the daemon is stopped.
    pub(super) fn under<T>(
        &mut self,
        model: Model,
        measure: impl FnOnce(&Frozen<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let model = match self.programs {
            Programs::Lsm => model,
            Programs::Both => policies::with_grant(model),
        };
        let instance = match self.instance.take() {
            Some(running) => {
                running.reload(&model.to_yaml())?;
                running
            }
            None => self.start(&model)?,
        };
        let measured = Frozen::new(&instance).and_then(|frozen| measure(&frozen));
        self.instance = Some(instance);
        measured
    }

    fn start(&self, model: &Model) -> anyhow::Result<Instance> {
        let mut arguments = vec!["--output", "json", "--no-watch", "--check-every", "3600"];
        if !self.folds {
            arguments.push("--no-fold");
        }
        let env = TestEnv::new(Kind::Guest)?;
        let instance = Instance::start_by(&env, &model.to_yaml(), "lsm", &arguments)?;
        if self.programs == Programs::Lsm {
            detach_cgroup_links()?;
        }
        Ok(instance)
    }
}
