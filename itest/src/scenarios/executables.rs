//! The program in an event is the one that made the bind, under the path that it had at the bind.
//!
//! The daemon is stopped meanwhile, and the programs are gone when it reads the events.

use super::missing_features::in_own_mounts;
use crate::harness::frozen::Frozen;
use crate::harness::instance::Instance;
use crate::harness::{Needs, Table, TestEnv};
use anyhow::{Context as _, bail, ensure};
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};
use rustix::process::chroot;
use serde_json::Value;
use std::ffi::CString;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Of what the kernel's structures tell.
pub(super) const PATHS: Table = &[
    ("exe_before_an_exec", Needs::Nothing, before_an_exec),
    ("exe_that_is_removed", Needs::Nothing, removed),
    ("exe_in_mounts", Needs::Nothing, mounted),
];

/// Of the order of records, and of long paths.
pub(super) const RECORDS: Table = &[
    ("exe_of_short_lived_programs", Needs::Nothing, short_lived),
    ("exe_of_folded_binds", Needs::Nothing, folded),
    ("exe_under_the_name_of_the_bind", Needs::Nothing, renamed),
    ("exe_below_many_directories", Needs::Nothing, deep),
];

const POLICY: &str = "version: 1\nrules: [{ name: low, action: deny, ports: [701] }]\n";

/// Executes these programs, each in place of the one before; each binds port 701 `times` times first. The first one
/// removes its own file before if `unlink` is set.
pub fn bind_then_exec(unlink: bool, times: u32, programs: &[PathBuf]) -> anyhow::Result<()> {
    if unlink {
        std::fs::remove_file(std::env::args_os().next().context("a name")?)?;
    }
    for _ in 0..times {
        // It is refused.
        let _ = TcpListener::bind((Ipv4Addr::LOCALHOST, 701));
    }
    match programs.split_first() {
        Some((next, then)) => Err(command(next, times, then).exec().into()),
        None => Ok(()),
    }
}

fn command(program: &Path, times: u32, then: &[PathBuf]) -> Command {
    let mut command = Command::new(program);
    command.args(["bind-then-exec", "--times", &times.to_string()]);
    command.args(then);
    command
}

/// A directory for names of this program, in its filesystem.
struct Programs(TempDir);

impl Programs {
    fn new() -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().context("a directory")?;
        Ok(Self(tempfile::tempdir_in(beside)?))
    }

    /// The program under another name.
    fn link(&self, name: impl AsRef<Path>) -> anyhow::Result<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().context("a directory")?)?;
        std::fs::hard_link(std::env::current_exe()?, &path)?;
        Ok(path)
    }
}

fn run(mut command: Command) -> anyhow::Result<()> {
    let status = command.status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// The events of what is done while the daemon is stopped.
fn events(
    env: &TestEnv,
    arguments: &[&str],
    act: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Value>> {
    let mut all = vec!["--output", "json"];
    all.extend(arguments);
    let instance = Instance::start_by(env, POLICY, env.auto_hook(), &all)?;
    {
        let _frozen = Frozen::new(&instance)?;
        act()?;
    }
    let ended = instance.stop()?;
    let lines = ended.stdout.iter();
    let events: Result<Vec<Value>, _> = lines.map(|line| serde_json::from_str(line)).collect();
    Ok(events?)
}

const EACH: &[&str] = &["--no-fold"];

fn expect_paths(events: &[Value], expected: &[PathBuf]) -> anyhow::Result<()> {
    let paths: Vec<Option<&str>> = events.iter().map(|event| event["exe"].as_str()).collect();
    let expected: Vec<Option<&str>> = expected.iter().map(|path| path.to_str()).collect();
    ensure!(paths == expected, "{paths:?}, not {expected:?}");
    let whole = events.iter().all(|event| event["exe_cut"] == false);
    ensure!(whole, "{events:?}");
    Ok(())
}

/// All names are of one file, so its device and inode tell nothing of which was executed.
fn short_lived(env: &TestEnv) -> anyhow::Result<()> {
    let programs = Programs::new()?;
    let names = (0..41).map(|number| programs.link(format!("program-{number}")));
    let names: Vec<PathBuf> = names.collect::<Result<_, _>>()?;
    // Each twice: the second finds its path known.
    for arguments in [EACH, &[]] {
        let events = events(env, arguments, || {
            let twice = names.iter().chain(&names);
            twice.map(|name| command(name, 1, &[])).try_for_each(run)
        })?;
        if arguments.is_empty() {
            // The first, and one for all others: of one uid they are equal.
            let [first, others] = &events[..] else {
                bail!("{events:?}");
            };
            expect_paths(std::slice::from_ref(first), &names[..1])?;
            let nulls = ["exe", "exe_dev", "exe_inode"].map(|field| others[field].is_null());
            ensure!(nulls == [true; 3] && others["several"] == true, "{others}");
            continue;
        }
        let twice: Vec<PathBuf> = names.iter().chain(&names).cloned().collect();
        expect_paths(&events, &twice)?;
        let found = std::fs::metadata(&names[0])?;
        let (major, minor) = (libc::major(found.dev()), libc::minor(found.dev()));
        for event in &events {
            ensure!(event["exe_inode"] == found.ino(), "{event}");
            ensure!(event["exe_dev"] == format!("{major}:{minor}"), "{event}");
            ensure!(event["exe_deleted"] == false, "{event}");
        }
    }
    Ok(())
}

fn before_an_exec(env: &TestEnv) -> anyhow::Result<()> {
    let programs = Programs::new()?;
    let names = ["first", "second", "third"].map(|name| programs.link(name));
    let [first, second, third] = names;
    let names = [first?, second?, third?];
    let events = events(env, EACH, || run(command(&names[0], 1, &names[1..])))?;
    expect_paths(&events, &names)?;
    let same = |field| events.iter().all(|event| event[field] == events[0][field]);
    ensure!(same("pid") && same("start_time"), "{events:?}");
    Ok(())
}

/// Of binds by one process that executed another program meanwhile an event names none; of others it names the one.
fn folded(env: &TestEnv) -> anyhow::Result<()> {
    let programs = Programs::new()?;
    let [first, second] = ["first", "second"].map(|name| programs.link(name));
    let (first, second) = (first?, second?);
    for (then, known) in [(vec![], true), (vec![second], false)] {
        let events = events(env, &[], || run(command(&first, 3, &then)))?;
        let [alone, others] = &events[..] else {
            bail!("{events:?}");
        };
        ensure!(alone["exe"].as_str() == first.to_str(), "{alone}");
        ensure!(others["pid"] == alone["pid"], "{others}");
        ensure!(others["several"] == !known, "{others}");
        for field in ["exe", "exe_dev", "exe_inode"] {
            let expected = if known { &alone[field] } else { &Value::Null };
            ensure!(others[field] == *expected, "{others}");
        }
    }
    Ok(())
}

fn renamed(env: &TestEnv) -> anyhow::Result<()> {
    let programs = Programs::new()?;
    let before = programs.link("a/b/c/program")?;
    let (a, z) = (programs.0.path().join("a"), programs.0.path().join("z"));
    let after = z.join("b/c/program");
    let events = events(env, EACH, || {
        run(command(&before, 1, &[]))?;
        std::fs::rename(&a, &z)?;
        run(command(&after, 1, &[]))?;
        std::fs::rename(&z, &a)?;
        run(command(&before, 1, &[]))
    })?;
    expect_paths(&events, &[before.clone(), after, before])
}

fn removed(env: &TestEnv) -> anyhow::Result<()> {
    let programs = Programs::new()?;
    let name = programs.link("program")?;
    let mut command = command(&name, 1, &[]);
    command.arg("--unlink");
    let events = events(env, EACH, || run(command))?;
    let marked = PathBuf::from(format!("{} (deleted)", name.display()));
    expect_paths(&events, &[marked])?;
    ensure!(events[0]["exe_deleted"] == true, "{events:?}");
    Ok(())
}

/// More directories than are walked, and names longer than are kept: what is missing is marked.
fn deep(env: &TestEnv) -> anyhow::Result<()> {
    let programs = Programs::new()?;
    let many = programs.link(["d"; 40].join("/") + "/program")?;
    let long = "n".repeat(250);
    let long = programs.link([long.as_str(); 8].join("/") + "/program")?;
    let events = events(env, EACH, || {
        run(command(&many, 1, &[]))?;
        run(command(&long, 1, &[]))
    })?;
    let [many, cut] = &events[..] else {
        bail!("{events:?}");
    };
    let path = many["exe"].as_str().unwrap_or_default();
    ensure!(
        path.starts_with(".../d/") && path.ends_with("/d/program"),
        "{many}"
    );
    let path = cut["exe"].as_str().unwrap_or_default();
    let (known, _) = path.split_once("/...").with_context(|| cut.to_string())?;
    let depth = known.matches("nnn/").count();
    ensure!(long.starts_with(known) && depth >= 2, "{cut}");
    for event in [many, cut] {
        ensure!(event["exe_cut"] == true, "{event}");
    }
    Ok(())
}

/// As the host sees it: below mounts of the process's own, over a file, below its root, and in an overlay.
fn mounted(env: &TestEnv) -> anyhow::Result<()> {
    let programs = Programs::new()?;
    let [original, over] = ["original/program", "over"].map(|name| programs.link(name));
    let (original, over) = (original?, over?);
    let path = |name: &str| -> anyhow::Result<PathBuf> {
        let path = programs.0.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    };
    let (source, empty) = (path("original")?, path("empty")?);
    let (target, root, overlay) = (path("mounted/here")?, path("root")?, path("overlay")?);
    let below = |root: &Path, path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let bound = target.join("program");
    let layered = overlay.join("program");
    let in_root = below(&root, &original);
    let expected = [bound.clone(), over.clone(), in_root, layered.clone()];
    let events = events(env, EACH, || {
        let mut of_directory = command(&bound, 1, &[]);
        let (from, to) = (source.clone(), target.clone());
        in_own_mounts(&mut of_directory, move || mount_bind(&from, &to));
        run(of_directory)?;
        let mut of_file = command(&over, 1, &[]);
        let (from, to) = (original.clone(), over.clone());
        in_own_mounts(&mut of_file, move || mount_bind(&from, &to));
        run(of_file)?;
        let mut of_root = command(&original, 1, &[]);
        let to = root.clone();
        in_own_mounts(&mut of_root, move || {
            mount_bind_recursive("/", &to)?;
            chroot(&to)
        });
        run(of_root)?;
        let mut of_overlay = command(&layered, 1, &[]);
        let layers = format!("lowerdir={}:{}", source.display(), empty.display());
        let (layers, to) = (CString::new(layers)?, overlay.clone());
        in_own_mounts(&mut of_overlay, move || {
            let options = layers.as_c_str();
            mount("overlay", &to, "overlay", MountFlags::empty(), options)
        });
        run(of_overlay)
    })?;
    expect_paths(&events, &expected)
}
