//! BPF programs of others on the cgroup path: they refuse, grant and rewrite binds.

use crate::harness::cgroups::Cgroups;
use crate::harness::doctor::doctor;
use crate::harness::foreign_object;
use crate::harness::instance::{Instance, program};
use crate::harness::probe::{Attempt, BindResult, Probe};
use crate::harness::{NotApplicable, SharedInstance, TestEnv};
use anyhow::{Context as _, ensure};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use std::fs::File;
use std::process::Command;

const CGROUP: &str = "pgforeign";

/// The foreign program rewrites other ports to 80.
const POLICY: &str = "
version: 1
rules:
  - { name: web, action: allow, ports: [80, 85], users: [33] }
  - { name: refused, action: deny, ports: [80, 81] }
";

/// A foreign program on a cgroup of its own, detached when dropped.
struct Foreign {
    _object: Ebpf,
    _cgroups: Cgroups,
}

impl Foreign {
    /// `None` if the kernel lacks what it does.
    fn attach(env: &TestEnv, name: &str) -> anyhow::Result<Option<Self>> {
        Self::attach_to(env, name, CGROUP)
    }

    /// The same on another cgroup, the root if its path is empty.
    fn attach_to(env: &TestEnv, name: &str, cgroup: &str) -> anyhow::Result<Option<Self>> {
        let mut cgroups = Cgroups::default();
        cgroups.make(&[CGROUP.to_owned()])?;
        let mut object = foreign_object::load()?;
        let program: &mut CgroupSockAddr = object
            .program_mut(name)
            .with_context(|| format!("the object has no program {name}"))?
            .try_into()?;
        if let Err(error) = program.load() {
            // The verifier of a kernel without grants rejects a return value of 3, and one without bpf_set_retval
            // its call.
            let lacks = match name {
                "grant" => !env.grants(),
                "undo" => env.denial("cgroup") == libc::EPERM,
                _ => false,
            };
            ensure!(lacks, "{name}: {error}");
            return Ok(None);
        }
        let cgroup = File::open(env.cgroups.join(cgroup))?;
        program.attach(&cgroup, CgroupAttachMode::Single)?;
        Ok(Some(Self {
            _object: object,
            _cgroups: cgroups,
        }))
    }
}

/// The errno and the events of a bind in the cgroup of the foreign program.
fn bound(
    instance: &Instance,
    uid: u32,
    port: u16,
) -> anyhow::Result<(i32, Vec<serde_json::Value>)> {
    let probe = Probe::user(uid).in_cgroup(CGROUP).bind(Attempt::tcp(port));
    match probe.run()?[..] {
        [BindResult::Bound(errno)] => Ok((errno, instance.events_of(&probe.comm)?)),
        ref other => anyhow::bail!("{other:?}"),
    }
}

fn expect_errno(instance: &Instance, uid: u32, port: u16, expected: i32) -> anyhow::Result<()> {
    let (actual, events) = bound(instance, uid, port)?;
    ensure!(
        actual == expected,
        "{}: uid {uid}, port {port}: errno {actual}, expected {expected}: {events:?}",
        instance.hook
    );
    Ok(())
}

/// A foreign refusal overrides a grant; a foreign grant does not override a denial.
pub(super) fn foreign_programs(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, POLICY)?;
        if let Some(_refuses) = Foreign::attach(env, "refuse")? {
            expect_errno(instance, 33, 85, libc::EPERM)?;
        }
        if let Some(_grants) = Foreign::attach(env, "grant")? {
            expect_errno(instance, 1000, 81, env.denial(hook))?;
            expect_errno(instance, 1000, 80, env.denial(hook))?;
            expect_errno(instance, 33, 85, 0)?;
            // A port without a decision is the other program's to grant.
            expect_errno(instance, 1000, 82, 0)?;
        }
    }
    Ok(())
}

/// A program that was attached to the root later, and sets the result of refused binds to 0, is found; portguard's is
/// attached again and so runs last.
pub(super) fn undone_denials(env: &TestEnv) -> anyhow::Result<()> {
    for arguments in [
        &["--check-every", "1"][..],
        &["--check-every", "1", "--pin"],
    ] {
        let mut instance = Instance::start_by(env, POLICY, "cgroup", arguments)?;
        let Some(foreign) = Foreign::attach_to(env, "undo", "")? else {
            return Err(NotApplicable("this kernel has no bpf_set_retval".into()).into());
        };
        instance.wait_for(
            "was attached to the root of the cgroup tree after bind4 and can undo its denials",
        )?;
        instance.wait_for("hooks re-attached")?;
        expect_errno(&instance, 1000, 81, env.denial("cgroup"))?;
        drop(foreign);
        let status = instance.status()?;
        ensure!(status["enforcing"] == "enforce", "{status}");
        instance.stop()?;
        let detached = Command::new(program()).arg("detach").output()?;
        ensure!(detached.status.success(), "{detached:?}");
    }
    Ok(())
}

/// If a program rewrites the port, the port that is bound is decided.
pub(super) fn rewritten_ports(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, POLICY)?;
        let _rewrites = Foreign::attach(env, "rewrite")?.context("no program")?;
        for uid in [1000, 0] {
            let (actual, events) = bound(instance, uid, 8080)?;
            let expected = env.denial("cgroup");
            ensure!(
                actual == expected,
                "{hook}: uid {uid}: errno {actual}, expected {expected}"
            );
            let [event] = &events[..] else {
                anyhow::bail!("{hook}: events {events:?}");
            };
            ensure!(
                event["port"] == 80 && event["hook"] == "cgroup" && event["rule"] == "refused",
                "{hook}: {event}"
            );
        }
        let granted = if env.grants() { 0 } else { libc::EACCES };
        expect_errno(instance, 33, 8080, granted)?;
    }
    Ok(())
}

/// `doctor` lists other bind programs with their names and ids.
pub(super) fn doctor_lists_others(env: &TestEnv) -> anyhow::Result<()> {
    let foreign = Foreign::attach(env, "refuse")?.context("no program")?;
    let output = doctor(None)?;
    ensure!(
        output.contains("refuse (id ") && output.contains(", bind4) on /pgforeign"),
        "doctor does not name it:\n{output}"
    );
    drop(foreign);
    let output = doctor(None)?;
    ensure!(
        output.contains("none on the cgroup tree"),
        "doctor names what is gone:\n{output}"
    );
    Ok(())
}
