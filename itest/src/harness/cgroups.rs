//! The cgroup v2 tree: its mount point, and cgroups that a test makes.

use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};

/// The mount point of the cgroup v2 tree.
pub(crate) fn cgroup_root() -> anyhow::Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ').skip(3);
            let (root, mount) = (fields.next()?, fields.next()?);
            (after.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(mount))
        })
        .context("no cgroup v2 tree is mounted")
}

/// Cgroups that a test made, removed when dropped. Existing ones are used and left alone.
#[derive(Default)]
pub(crate) struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// Makes every missing level of `path`.
    pub(crate) fn make(&mut self, path: &[String]) -> anyhow::Result<()> {
        let mut at = cgroup_root()?;
        for name in path {
            ensure!(
                !name.is_empty() && name != "..",
                "not a cgroup: /{}",
                path.join("/")
            );
            at.push(name);
            if !at.exists() {
                std::fs::create_dir(&at).with_context(|| at.display().to_string())?;
                self.0.push(at.clone());
            }
        }
        Ok(())
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // A process that just ended may keep the cgroup busy for a moment.
            for _ in 0..50 {
                if std::fs::remove_dir(path).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// Runs `action` while this process is in a new cgroup.
pub(crate) fn within<T>(path: &[&str], action: impl FnOnce() -> T) -> anyhow::Result<T> {
    let path: Vec<String> = path.iter().map(|&name| name.to_owned()).collect();
    let root = cgroup_root()?;
    let before = own_cgroup()?;
    let mut cgroups = Cgroups::default();
    cgroups.make(&path)?;
    enter(&root.join(path.join("/")), "cgroup.procs")?;
    let result = action();
    enter(&root.join(before), "cgroup.procs")?;
    Ok(result)
}

/// This process's path in the v2 tree, without the leading slash.
fn own_cgroup() -> anyhow::Result<String> {
    let all = std::fs::read_to_string("/proc/self/cgroup")?;
    all.lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .map(str::to_owned)
        .context("this process is in no cgroup v2")
}

/// Moves the calling process (`cgroup.procs`) or thread (`cgroup.threads`) into a cgroup.
pub(crate) fn enter(directory: &Path, file: &str) -> anyhow::Result<()> {
    let file = directory.join(file);
    std::fs::write(&file, "0").with_context(|| file.display().to_string())
}
