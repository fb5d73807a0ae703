//! What the actors need on the machine: cgroups and set-user-ID copies of this program.

use super::actors::{JAIL, THREADS, THREADS_FREE, THREADS_JAIL, YARD};
use super::run_actor::{ActorBind, make_setuid_copy};
use crate::harness::TestEnv;
use anyhow::{Context as _, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Removed when dropped.
pub(super) struct Stage {
    pub(super) root: PathBuf,
    _setuid: Vec<tempfile::TempPath>,
}

impl Stage {
    pub(super) fn build(env: &TestEnv) -> anyhow::Result<Self> {
        let root = env.cgroups.join("pgattack");
        let stage = Self {
            _setuid: [0, 33, 1000]
                .into_iter()
                .map(make_setuid_copy)
                .collect::<Result<_, _>>()?,
            root,
        };
        fs::create_dir(&stage.root)?;
        for path in [JAIL, YARD, THREADS, THREADS_FREE, THREADS_JAIL] {
            fs::create_dir(stage.root.join(path)).with_context(|| path.to_owned())?;
        }
        for path in [THREADS_FREE, THREADS_JAIL] {
            fs::write(stage.root.join(path).join("cgroup.type"), "threaded")
                .with_context(|| path.to_owned())?;
        }
        Ok(stage)
    }

    /// Runs an actor: its binds.
    pub(super) fn run(&self, index: usize) -> anyhow::Result<Vec<ActorBind>> {
        let output = Command::new("/proc/self/exe")
            .args(["attack", &index.to_string()])
            .arg(&self.root)
            .arg("0")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "it ended with {}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for path in [THREADS_JAIL, THREADS_FREE, THREADS, YARD, JAIL, ""] {
            // They are empty, since every actor has ended.
            let _ = fs::remove_dir(self.root.join(path));
        }
    }
}
