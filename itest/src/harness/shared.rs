//! The daemon that tests of decisions share: a start takes a second in an emulated guest, a reload does not.

use crate::harness::env::TestEnv;
use crate::harness::instance::Instance;

/// A running portguard whose policy each test replaces; at most one, by the hook asked for last.
#[derive(Default)]
pub struct SharedInstance(Option<Instance>);

impl SharedInstance {
    /// Puts a policy in force by the hook that `--hook auto` takes. Events of earlier binds are discarded, for which
    /// the policy must report binds of port 999.
    pub fn enforce(&mut self, env: &TestEnv, policy: &str) -> anyhow::Result<&Instance> {
        self.enforce_by(env, env.auto_hook(), policy)
    }

    /// The same by a given hook.
    pub fn enforce_by(
        &mut self,
        env: &TestEnv,
        hook: &'static str,
        policy: &str,
    ) -> anyhow::Result<&Instance> {
        if self.0.as_ref().is_some_and(|running| running.hook != hook) {
            self.stop()?;
        }
        let instance = match self.0.take() {
            Some(running) => {
                running.reload(policy)?;
                running
            }
            None => Instance::start_with(env, policy, hook, "json")?,
        };
        let instance = self.0.insert(instance);
        instance.lines_until_now()?;
        Ok(instance)
    }

    /// Ends it as an administrator would.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        match self.0.take() {
            Some(instance) => instance.stop().map(drop),
            None => Ok(()),
        }
    }

    pub fn kill(&mut self) {
        self.0 = None;
    }
}
