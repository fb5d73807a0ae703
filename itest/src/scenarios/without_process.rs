//! `portguard inventory`: sockets that no process has in its table of files.

use super::inventory::{USER, at, bound, expect_fields, inventory, policy, table_line, tcp};
use super::missing_features::in_own_mounts;
use crate::harness::instance::{policy_file, program};
use crate::harness::probe::Probe;
use crate::harness::socket_holder::{Held, Hold, KeptIn};
use crate::harness::{Needs, NotApplicable, Table, TestEnv};
use anyhow::{Context as _, ensure};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

pub(super) const TESTS: Table = &[
    ("inventory_in_flight", Needs::Nothing, in_flight),
    ("inventory_thread", Needs::Nothing, thread),
    ("inventory_io_uring", Needs::Nothing, ring),
    ("inventory_hidepid", Needs::Nothing, hidepid),
];

const DENY: &str = "default: deny\n";

/// Each test has a port of its own: the kernel takes its time to close an `io_uring`.
fn hold(uid: u32, kept_in: KeptIn, offset: u16) -> anyhow::Result<Held> {
    let hold = Hold {
        kept_in,
        ..Hold::of(Probe::user(uid).bind(tcp(offset)))
    };
    let held = hold.start()?;
    bound(&held)?;
    Ok(held)
}

/// The objects of a policy that denies all; not applicable where processes hide.
fn denied(more: &[&str]) -> anyhow::Result<(Option<i32>, Vec<Value>)> {
    let (code, objects, stderr) = inventory(&policy(DENY), more)?;
    if stderr.contains("processes hide their open files") {
        let why = "a sandbox hides processes from root";
        return Err(NotApplicable(why.into()).into());
    }
    Ok((code, objects))
}

/// A socket in flight is listed as that, with the process whose queue it may be in. It is evaluated by its uid. One of
/// root may be the kernel's own: it is no violation, and is not closed.
fn in_flight(_: &TestEnv) -> anyhow::Result<()> {
    for uid in [USER, 0] {
        let held = hold(uid, KeptIn::Message, 0)?;
        let violation = uid == USER;
        let (code, objects) = denied(&[])?;
        ensure!(code == Some(i32::from(violation)), "{code:?}: {objects:?}");
        let object = at(&objects, 0)?;
        let doubt = if violation {
            json!(null)
        } else {
            json!("kernel")
        };
        expect_fields(
            object,
            json!({ "by": "in_flight", "verdict": "deny", "violation": violation, "doubt": doubt, "processes": [],
                "uid": uid }),
        )?;
        let places = object["may_be_in"].as_array().context("a list")?;
        let place = places.iter().find(|place| place["pid"] == held.pid());
        let place = place.with_context(|| object.to_string())?;
        expect_fields(place, json!({ "what": "unix_queue", "descriptors": 1 }))?;
        let (line, table) = table_line(&policy(DENY), "tcp/")?;
        ensure!(line.contains("no process; in flight to "), "{table}");
        let unsure = line.contains("deny (not closed: it may be the kernel's)");
        ensure!(unsure != violation, "{table}");
        if !violation {
            let (code, objects) = denied(&["--enforce-existing"])?;
            ensure!(code == Some(0), "{code:?}");
            expect_fields(
                at(&objects, 0)?,
                json!({ "closed": null, "state": "listen" }),
            )?;
        }
    }
    Ok(())
}

/// A thread may have a table of files of its own.
fn thread(_: &TestEnv) -> anyhow::Result<()> {
    let held = hold(0, KeptIn::Thread, 1)?;
    let (code, objects) = denied(&[])?;
    ensure!(code == Some(1), "{code:?}: {objects:?}");
    let object = at(&objects, 1)?;
    expect_fields(
        object,
        json!({ "by": "process", "violation": true, "doubt": null }),
    )?;
    expect_fields(&object["processes"][0], json!({ "pid": held.pid() }))
}

/// Newer kernels say which sockets are among the files of an `io_uring`; with older ones the socket may be there.
fn ring(_: &TestEnv) -> anyhow::Result<()> {
    if let Err(error) = io_uring::IoUring::new(2) {
        return Err(NotApplicable(format!("io_uring: {error}")).into());
    }
    let held = hold(0, KeptIn::Ring, 2)?;
    let (_, objects) = denied(&[])?;
    let object = at(&objects, 2)?;
    if object["by"] == "in_flight" {
        expect_fields(object, json!({ "violation": false, "doubt": "kernel" }))?;
        let place = json!({ "pid": held.pid(), "what": "io_uring", "descriptors": 1 });
        return expect_fields(&object["may_be_in"][0], place);
    }
    expect_fields(object, json!({ "by": "process", "violation": true }))?;
    expect_fields(&object["processes"][0], json!({ "pid": held.pid() }))
}

/// Where /proc does not list the processes of others, a user does not get a list that says that nobody holds a socket.
fn hidepid(_: &TestEnv) -> anyhow::Result<()> {
    let _held = hold(USER, KeptIn::Process, 3)?;
    let file = policy_file(&policy(DENY))?;
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644))?;
    let mut command = Command::new(program());
    command.args(["inventory", "--policy"]).arg(file.path());
    in_own_mounts(&mut command, || {
        mount(
            "proc",
            "/proc",
            "proc",
            MountFlags::empty(),
            Some(c"hidepid=2"),
        )?;
        let (uid, gid) = (Uid::from_raw(USER + 1), Gid::from_raw(USER + 1));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    });
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    ensure!(code == Some(3), "{code:?}: {stderr}");
    ensure!(stderr.contains("run as root, or with CAP_"), "{stderr}");
    Ok(())
}
