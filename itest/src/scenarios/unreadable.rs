//! Callers whose cgroup or groups the kernel has no memory to read: `deny` rules that could match apply, otherwise
//! the default, and the event has the reason.

use super::checks::{Verdict, allow, default, deny, expect_decision};
use super::pins::{PinCleanup, directory};
use crate::harness::cgroups::Cgroups;
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, Probe};
use crate::harness::{Needs, Table, TestEnv};
use aya::Pod;
use aya::maps::{HashMap, Map, MapData, MapError};

pub(super) const TESTS: Table = &[
    ("groups_without_memory", Needs::Guest, groups_without_memory),
    ("cgroup_without_memory", Needs::Guest, cgroup_without_memory),
];

/// A thread id that no thread has.
const NO_THREAD: u64 = 1 << 62;

/// A pinned map of the programs, in which entries of threads that do not exist leave no room.
struct Full<V: Pod>(HashMap<MapData, u64, V>);

impl<V: Pod> Full<V> {
    /// Fills the map `name` with copies of `value`.
    fn new(name: &str, value: V) -> anyhow::Result<Self> {
        let map = MapData::from_pin(directory()?.join(name))?;
        let mut full = Self(HashMap::try_from(Map::from_map_data(map)?)?);
        let mut thread = NO_THREAD;
        while let Ok(()) = full.0.insert(thread, value, 0) {
            thread += 1;
        }
        Ok(full)
    }

    /// Makes room again.
    fn empty(mut self) -> Result<(), MapError> {
        let keys: Vec<u64> = self.0.keys().collect::<Result<_, _>>()?;
        let mut threads = keys
            .iter()
            .filter(|key| **key & NO_THREAD != 0 && **key < 2 * NO_THREAD);
        threads.try_for_each(|thread| self.0.remove(thread))
    }
}

/// Words of a value of `GROUPS_OF`.
const WORDS_OF_A_CALLER: usize = size_of::<portguard_common::GroupRules>() / size_of::<u64>();

fn groups_without_memory(env: &TestEnv) -> anyhow::Result<()> {
    let policy = "{ version: 1, default: kernel, rules: [
        { name: web, action: allow, ports: [80], groups: [33] },
        { name: not, action: deny, ports: [81], groups: [70000] } ] }";
    let web = || Probe::user(33).bind(Attempt::tcp(80));
    let root = || Probe::user(0).bind(Attempt::tcp(81));
    for hook in env.deciding_hooks() {
        let _cleanup = PinCleanup;
        let instance = Instance::start_by(env, policy, hook, &["--pin", "--no-fold"])?;
        let check =
            |probe: &Probe, verdict: Verdict| expect_decision(env, &instance, probe, verdict);
        check(&web(), allow("web"))?;
        check(&root(), default("kernel"))?;
        // The rules that the groups of a thread leave.
        let full = Full::new("GROUPS_OF", [0u64; WORDS_OF_A_CALLER])?;
        check(&web(), default("kernel").because("no_memory"))?;
        check(&root(), deny("not"))?;
        full.empty()?;
        check(&web(), allow("web"))?;
        check(&root(), default("kernel"))?;
        instance.stop()?;
    }
    Ok(())
}

fn cgroup_without_memory(env: &TestEnv) -> anyhow::Result<()> {
    let top = format!("pgfull-{}", std::process::id());
    let policy = format!(
        "{{ version: 1, default: kernel, rules: [
        {{ name: web, action: allow, ports: [80], cgroups: [\"/{top}\"] }},
        {{ name: not, action: deny, ports: [81], cgroups: [\"/{top}/elsewhere\"] }} ] }}"
    );
    let mut cgroups = Cgroups::default();
    let mut in_new_cgroup = |name: &str| {
        let path = vec![top.clone(), name.to_owned()];
        cgroups.make(&path)?;
        let bind = |uid, port| {
            let probe = Probe::user(uid).bind(Attempt::tcp(port));
            probe.in_cgroup(path.join("/"))
        };
        anyhow::Ok((bind(33, 80), bind(0, 81)))
    };
    for hook in env.deciding_hooks() {
        let _cleanup = PinCleanup;
        let instance = Instance::start_by(env, &policy, hook, &["--pin", "--no-fold"])?;
        let check =
            |probe: &Probe, verdict: Verdict| expect_decision(env, &instance, probe, verdict);
        let (web, root) = in_new_cgroup(&format!("known-{hook}"))?;
        check(&web, allow("web"))?;
        check(&root, default("kernel"))?;
        let full = Full::new("SCRATCH", [0u64; PATH_WORDS])?;
        // The class of a cgroup that was read before is cached.
        check(&web, allow("web"))?;
        let (web, root) = in_new_cgroup(&format!("new-{hook}"))?;
        check(&web, default("kernel").because("unresolved_cgroup"))?;
        check(&root, deny("not"))?;
        full.empty()?;
        check(&web, allow("web"))?;
        check(&root, default("kernel"))?;
        instance.stop()?;
    }
    Ok(())
}

/// Words of a `Path` of the programs: the nodes, four numbers, and the key of an edge.
const PATH_WORDS: usize =
    portguard_common::MAX_CGROUP_DEPTH + 4 + size_of::<portguard_common::TrieKey>() / 8;
