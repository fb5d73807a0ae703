//! The decision as compiled for the kernel, on generated requests: it equals that of userspace and of the oracle.
//!
//! `decide_test.rs` of `portguard-ebpf` has the same code and, by their pins, the same maps as the programs of
//! a started portguard, and decides without a bind: 100,000 requests in a few seconds.

use crate::convert::{Outcome, errno, oracle_outcome, outcome, parsed, verdict, with_bind};
use crate::generate::{self, GeneratorConfig, LAST_UID};
use crate::harness::foreign_object::object;
use crate::harness::{Needs, Table, TestEnv};
use crate::oracle::{Model, OracleBind, Proto, Unreadable};
use crate::seed::{cases, runner_from, seed};
use crate::verify::end_of_log;
use anyhow::{Context as _, anyhow, bail, ensure};
use aya::maps::{Array, MapData};
use aya::programs::{FExit, TestRun as _};
use aya::{Btf, Ebpf, EbpfLoader};
use portguard::kernel::{BPFFS, Enforcer, Environment, HookChoice, Pins};
use portguard::status::Description;
use portguard_common::{Decision, Errno, Reason, Verdict};
use portguard_policy::compile::{Gids, Setgid, Tables, compile};
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use wire::{BATCH, MAX_LEVELS, TestName, TestRequest, TestResult};

#[path = "../../../portguard-ebpf/src/decide_test/wire.rs"]
mod wire;

pub(super) const TESTS: Table = &[(
    "decide_matches_oracle_in_kernel",
    Needs::Lsm,
    decide_matches_oracle_in_kernel,
)];

const POLICIES: u32 = 50;
/// Requests under each policy: 100,000 in all.
const REQUESTS: usize = 2_000;
/// How many of them are drawn. The others are [`near`] these: drawing takes an emulated guest most of the time.
const DRAWN: usize = REQUESTS / 4;

// SAFETY: plain numbers without padding.
unsafe impl aya::Pod for TestRequest {}
// SAFETY: as above.
unsafe impl aya::Pod for TestName {}

/// What happened, so that a run that proves nothing fails.
#[derive(Default)]
struct Tally {
    requests: usize,
    decided: usize,
    by_rule: usize,
    unresolved: usize,
    no_memory: usize,
    denied_unresolved: usize,
}

fn decide_matches_oracle_in_kernel(_: &TestEnv) -> anyhow::Result<()> {
    let environment = Environment::probe();
    let pins = Pins::open(Path::new(BPFFS))?;
    let mut kernel = InKernel(Enforcer::start(&environment, HookChoice::Auto, Some(pins))?);
    kernel.0.pin()?;
    let directory = kernel.0.pinned_in().context("nothing is pinned")?;
    let mut programs = Programs::load(directory.as_ref())?;
    let seed = seed();
    let policies = cases(POLICIES);
    println!("{policies} policies, {REQUESTS} requests each, PORTGUARD_SEED={seed}");
    let mut runner = runner_from(seed, policies);
    let mut tally = Tally::default();
    for number in 0..policies {
        let (model, binds) = match number % 10 {
            9 => drawn(&generate::sparse_case(600..=4096, DRAWN), &mut runner)?,
            _ => drawn(
                &generate::case(&GeneratorConfig::wide(), 0..=24, DRAWN),
                &mut runner,
            )?,
        };
        let tables = kernel.install(&model)?;
        let requests = binds
            .into_iter()
            .flat_map(near)
            .enumerate()
            .map(|(i, bind)| Request::new(i, bind));
        let requests: Vec<Request> = requests.collect();
        let results = programs.decide(&requests)?;
        for (request, result) in requests.iter().zip(results) {
            request
                .check(&model, &tables, result, &mut tally)
                .with_context(|| {
                    format!("{request:?}\nPORTGUARD_SEED={seed}\n{}", model.to_yaml())
                })?;
        }
    }
    tally.proves_something()
}

fn drawn<T>(strategy: &impl Strategy<Value = T>, runner: &mut TestRunner) -> anyhow::Result<T> {
    let tree = strategy.new_tree(runner);
    Ok(tree
        .map_err(|reason| anyhow!("no policy: {reason}"))?
        .current())
}

/// A bind, and three beside it: at the next port, by the next protocol, and by a program of the next user and group.
fn near(bind: OracleBind) -> [OracleBind; 4] {
    let port = OracleBind {
        port: bind.port.checked_add(1).unwrap_or(1),
        ..bind.clone()
    };
    let protocol = OracleBind {
        protocol: match bind.protocol {
            Proto::Tcp => Proto::Udp,
            Proto::Udp => Proto::Sctp,
            Proto::Sctp => Proto::Dccp,
            Proto::Dccp => Proto::Tcp,
        },
        ..bind.clone()
    };
    let program = OracleBind {
        euid: (bind.euid + 1).min(LAST_UID),
        egid: (bind.egid + 1).min(LAST_UID),
        ..bind.clone()
    };
    [bind, port, protocol, program]
}

/// Attached programs, detached when dropped.
struct InKernel(Enforcer);

impl InKernel {
    /// Puts a policy in force.
    fn install(&mut self, model: &Model) -> anyhow::Result<Tables> {
        let policy = parsed(&model.to_yaml()).policy;
        let tables = compile(&policy)?;
        let description = Description::new(&policy, &tables, &[], String::new());
        let memo = tables.memo().context("no memory")?;
        self.0.install(&tables, &memo, &description)?;
        Ok(tables)
    }
}

impl Drop for InKernel {
    fn drop(&mut self) {
        if let Err(error) = self.0.detach() {
            eprintln!("{error}");
        }
    }
}

/// The loaded program and its maps.
struct Programs {
    object: Ebpf,
    requests: Array<MapData, [TestRequest; BATCH]>,
    names: Array<MapData, TestName>,
    results: Array<MapData, [TestResult; BATCH]>,
}

impl Programs {
    /// Loads the program with the maps that are pinned in `directory`.
    fn load(directory: &Path) -> anyhow::Result<Self> {
        let mut pins = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name().into_string();
            pins.push(name.map_err(|name| anyhow!("{name:?} is pinned"))?);
        }
        let mut loader = EbpfLoader::new();
        for name in &pins {
            loader.map_pin_path(name, directory.join(name));
        }
        // A section there, whose name no pin may have.
        loader.map_pin_path(".bss.active", directory.join("ACTIVE"));
        let mut object = loader.load_file(object("decide_test.o")?)?;
        let (requests, names, results) = (
            Array::try_from(taken(&mut object, "TEST_REQUESTS")?)?,
            Array::try_from(taken(&mut object, "TEST_NAMES")?)?,
            Array::try_from(taken(&mut object, "TEST_RESULTS")?)?,
        );
        let program = object.program_mut("decide_batch").context("decide_batch")?;
        let program: &mut FExit = program.try_into()?;
        let loaded = program.load("bpf_fentry_test1", &Btf::from_sys_fs()?);
        loaded.map_err(|error| anyhow!(end_of_log(&error.to_string())))?;
        program.attach()?;
        Ok(Self {
            object,
            requests,
            names,
            results,
        })
    }

    /// The kernel's decisions on all requests.
    fn decide(&mut self, requests: &[Request]) -> anyhow::Result<Vec<TestResult>> {
        let mut numbers = HashMap::new();
        let mut results = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            let mut encoded = [TestRequest::default(); BATCH];
            for (slot, request) in encoded.iter_mut().zip(batch) {
                *slot = request.encode(&mut |name| self.number(&mut numbers, name))?;
            }
            self.requests.set(0, encoded, 0)?;
            let program = self
                .object
                .program("decide_batch")
                .context("decide_batch")?;
            <&FExit>::try_from(program)?.test_run(())?;
            results.extend_from_slice(&self.results.get(&0, 0)?[..batch.len()]);
        }
        Ok(results)
    }

    /// The number of a name; a new name is written first.
    fn number<'a>(
        &mut self,
        numbers: &mut HashMap<&'a str, u16>,
        name: &'a str,
    ) -> anyhow::Result<u16> {
        if let Some(number) = numbers.get(name) {
            return Ok(*number);
        }
        let number = u16::try_from(numbers.len())?;
        let mut text = [0; wire::NAME_BYTES];
        let room = text
            .get_mut(..name.len())
            .context("a name that is too long")?;
        room.copy_from_slice(name.as_bytes());
        self.names
            .set(number.into(), TestName { address: 0, text }, 0)?;
        numbers.insert(name, number);
        Ok(number)
    }
}

fn taken(object: &mut Ebpf, name: &str) -> anyhow::Result<aya::maps::Map> {
    object
        .take_map(name)
        .with_context(|| format!("no map {name}"))
}

/// A bind to decide.
#[derive(Debug)]
struct Request {
    bind: OracleBind,
    unreadable: Unreadable,
}

impl Request {
    /// Request number `i`. Some have a deep cgroup, some a caller whose cgroup or groups cannot be read.
    fn new(i: usize, mut bind: OracleBind) -> Self {
        if i % 16 == 5 {
            bind.cgroup
                .extend((0..MAX_LEVELS).map(|level| format!("level-{level}")));
        }
        Self {
            bind,
            unreadable: Unreadable {
                cgroup: matches!(i % 16, 1 | 2),
                groups: matches!(i % 16, 2 | 3),
            },
        }
    }

    fn encode<'a>(
        &'a self,
        number: &mut impl FnMut(&'a str) -> anyhow::Result<u16>,
    ) -> anyhow::Result<TestRequest> {
        let bind = &self.bind;
        let (high, low) = halves(bind.address);
        let own = Gids::new(bind.gid, bind.egid, bind.groups.iter().copied());
        let setgid = own.setgid;
        let mut request = TestRequest {
            high,
            low,
            uid: bind.uid,
            euid: bind.euid,
            gid_count: own.all.len().try_into()?,
            differing_gids: setgid.map_or([0; 2], |Setgid { gid, egid }| [gid, egid]),
            setgid: setgid.is_some().into(),
            owner_count: bind.owners.len().try_into()?,
            depth: bind.cgroup.len().try_into()?,
            port: bind.port,
            protocol: bind.protocol as u8,
            inet6: bind.address.is_ipv6().into(),
            dual_stack: (bind.address.is_ipv6() && !bind.v6only).into(),
            unreadable: (if self.unreadable.cgroup {
                wire::UNRESOLVED_CGROUP
            } else {
                0
            }) | (if self.unreadable.groups {
                wire::NO_MEMORY
            } else {
                0
            }),
            ..TestRequest::default()
        };
        let gids = request
            .gids
            .get_mut(..own.all.len())
            .context("too many gids")?;
        gids.copy_from_slice(&own.all);
        let owners = request
            .owners
            .get_mut(..bind.owners.len())
            .context("too many owners")?;
        for (slot, (uid, gid)) in owners.iter_mut().zip(&bind.owners) {
            *slot = [*uid, *gid];
        }
        // In the order of the kernel's walk: from the cgroup, or the deepest level that rules can name, to the root.
        let levels = bind.cgroup.iter().take(MAX_LEVELS).rev();
        for (slot, name) in request.names.iter_mut().zip(levels) {
            *slot = number(name)?;
        }
        Ok(request)
    }

    /// Compares a result with userspace and the oracle.
    fn check(
        &self,
        model: &Model,
        tables: &Tables,
        result: TestResult,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let decision = decision(result)?;
        tally.add(decision);
        let actual = decision.map(|decision| outcome(tables, decision));
        if self.unreadable.cgroup || self.unreadable.groups {
            let (expected, reasons) = self.expected_unreadable(model);
            ensure!(
                actual == expected,
                "the kernel decides {actual:?}, expected {expected:?}"
            );
            let reason = decision.map_or(Reason::None, |decision| decision.reason);
            ensure!(
                reasons.contains(&reason),
                "{reason:?}, expected one of {reasons:?}"
            );
            let denied = decision.is_some_and(|d| d.verdict == Verdict::Deny);
            tally.denied_unresolved += usize::from(denied && reason == Reason::None);
            return Ok(());
        }
        let userspace = with_bind(&self.bind, |bind| tables.decide(bind));
        ensure!(
            decision == userspace,
            "the kernel decides {decision:?}, userspace {userspace:?}"
        );
        // The oracle has no limit on the depth of cgroups.
        if self.bind.cgroup.len() <= MAX_LEVELS {
            let expected = oracle_outcome(model, &self.bind);
            ensure!(
                actual == expected,
                "the kernel decides {actual:?}, expected {expected:?}"
            );
        }
        Ok(())
    }

    /// What the oracle decides if something cannot be read, and the possible reasons.
    fn expected_unreadable<'a>(
        &self,
        model: &'a Model,
    ) -> (Option<Outcome<'a>>, &'static [Reason]) {
        let Some((decision, unsure)) = model.decide_unreadable(&self.bind, self.unreadable) else {
            return (None, &[Reason::None]);
        };
        let actual = (
            verdict(decision.verdict),
            decision.rule,
            decision.report,
            model.only_reports(decision.rule),
            errno(decision.errno),
        );
        let reasons: &[Reason] = match (unsure, self.unreadable.cgroup, self.unreadable.groups) {
            (false, ..) => &[Reason::None],
            (true, true, true) => &[Reason::UnresolvedCgroup, Reason::NoMemory],
            (true, true, false) => &[Reason::UnresolvedCgroup],
            (true, false, _) => &[Reason::NoMemory],
        };
        (Some(actual), reasons)
    }
}

/// The decision of a result; `None` for a port that is not protected.
fn decision(result: TestResult) -> anyhow::Result<Option<Decision>> {
    ensure!(
        result & wire::FAULT == 0,
        "a table of the policy is missing"
    );
    if result & wire::DECIDED == 0 {
        return Ok(None);
    }
    let Ok(rule) = u16::try_from(result >> wire::RULE & 0xffff) else {
        bail!("{result:#x} has no rule");
    };
    Ok(Some(Decision {
        verdict: Verdict::from_bits((result & 3) as u8),
        rule,
        report: result & wire::REPORT != 0,
        audit: result & wire::AUDIT != 0,
        errno: Errno::from_bits((result >> wire::ERRNO & 3) as u8),
        reason: Reason::from_bits((result >> wire::REASON & 3) as u8),
    }))
}

/// An address as two words with the same bytes in memory.
fn halves(address: IpAddr) -> (u64, u64) {
    match address {
        IpAddr::V4(address) => (u32::from_ne_bytes(address.octets()).into(), 0),
        IpAddr::V6(address) => {
            let bits = u128::from_ne_bytes(address.octets());
            (bits as u64, (bits >> 64) as u64)
        }
    }
}

impl Tally {
    fn add(&mut self, decision: Option<Decision>) {
        self.requests += 1;
        let Some(decision) = decision else { return };
        self.decided += 1;
        self.by_rule += usize::from(decision.rule != portguard_common::NO_RULE);
        self.unresolved += usize::from(decision.reason == Reason::UnresolvedCgroup);
        self.no_memory += usize::from(decision.reason == Reason::NoMemory);
    }

    fn proves_something(&self) -> anyhow::Result<()> {
        let Self {
            requests,
            decided,
            by_rule,
            unresolved,
            no_memory,
            denied_unresolved,
        } = self;
        println!(
            "{requests} requests, {decided} of protected ports, {by_rule} decided by a rule, {unresolved} with an \
             unresolved cgroup, {no_memory} without memory, {denied_unresolved} denied in spite of that"
        );
        ensure!(
            decided * 3 > *requests && by_rule * 3 > *decided,
            "most requests miss the rules"
        );
        ensure!(
            *unresolved.min(no_memory).min(denied_unresolved) > requests / 1000,
            "hardly any request has a caller that cannot be read"
        );
        Ok(())
    }
}
