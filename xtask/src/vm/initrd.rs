//! The file system of a guest: busybox, the programs, their libraries, the policies, modules.

use super::guest::GuestSpec;
use super::kernel::Kernel;
use super::{cache, modules};
use crate::build::Profile;
use crate::{repo, shell};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const INIT: &str = include_str!("init.sh");

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/false
alice:x:1000:1000:Alice:/tmp:/bin/sh
bob:x:1001:1001:Bob:/tmp:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
";

const GROUP: &str = "root:x:0:
www-data:x:33:
alice:x:1000:
bob:x:1001:
nogroup:x:65534:
";

const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files\n";

const DIRECTORIES: &[&str] = &[
    "bin", "dev", "etc", "lib", "modules", "proc", "root", "run", "sys", "tmp",
];

/// The programs of this repository; a guest gets those that are built.
const PROGRAMS: &[&str] = &["portguard", "portguardd", "portguard-itest"];

/// Where the libraries of the programs in a guest come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Libraries {
    /// This machine, for which the programs were built.
    OfThisMachine,
    /// The packages of the guest, which include all of them.
    OfTheTree,
}

/// Packs the files that all guests with a kernel have in common.
pub(super) fn common(series: &str, kernel: &Kernel, profile: Profile) -> Result<PathBuf> {
    let tree = cache::directory().join("tree").join(series);
    let _ = fs::remove_dir_all(&tree);
    for directory in DIRECTORIES {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::write(tree.join("init"), INIT)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    identities(&tree)?;
    programs(&tree, profile, Libraries::OfThisMachine)?;
    copy_tree(&repo::path("policies"), &tree.join("policies"))?;
    test_objects(&tree)?;
    let order = modules::copy(&kernel.modules, &tree.join("modules"), modules::PROTOCOLS)?;
    eprintln!("xtask: modules for kernel {series}: {}", order.join(" "));
    fs::write(tree.join("etc/modules-load"), order.join("\n") + "\n")?;
    pack(
        &tree,
        &cache::directory().join(format!("{series}.common.cpio")),
    )
}

/// Copies the eBPF objects that only tests load; the programs embed the other one.
fn test_objects(tree: &Path) -> Result<()> {
    let to = tree.join("lib/portguard");
    fs::create_dir_all(&to)?;
    let Ok(objects) = fs::read_dir(repo::path("target/ebpf")) else {
        return Ok(());
    };
    for object in objects {
        let object = object?;
        if object.file_name() != "portguard.o" {
            fs::copy(object.path(), to.join(object.file_name()))?;
        }
    }
    Ok(())
}

/// Adds the command of a guest: a kernel unpacks archives one after the other.
pub(super) fn with_command(common: &Path, guest: &GuestSpec) -> Result<PathBuf> {
    let name = format!("{}-{}", guest.series, guest.name);
    let tree = cache::directory().join("tree").join(&name);
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(&tree)?;
    fs::write(
        tree.join("command"),
        format!("exec {}\n", shell::quoted_words(&guest.arguments)),
    )?;
    for (from, to) in &guest.files {
        copy_tree(from, &tree.join(to))?;
    }
    let command = pack(
        &tree,
        &cache::directory().join(format!("{name}.command.cpio")),
    )?;
    let mut bytes = fs::read(common)?;
    bytes.extend(fs::read(command)?);
    let whole = cache::directory().join(format!("{name}.cpio"));
    fs::write(&whole, bytes).with_context(|| format!("writing {}", whole.display()))?;
    Ok(whole)
}

/// Writes users, groups and host names.
pub(super) fn identities(tree: &Path) -> Result<()> {
    fs::write(tree.join("etc/passwd"), PASSWD)?;
    fs::write(tree.join("etc/group"), GROUP)?;
    fs::write(tree.join("etc/nsswitch.conf"), NSSWITCH)?;
    fs::write(
        tree.join("etc/hosts"),
        "127.0.0.1 localhost guest\n::1 localhost\n",
    )?;
    Ok(())
}

/// Copies busybox and the programs, with the libraries that they are linked to.
pub(super) fn programs(tree: &Path, profile: Profile, origin: Libraries) -> Result<()> {
    let mut libraries = busybox(tree)?;
    for name in PROGRAMS {
        let built = profile.program(name);
        if !built.is_file() {
            eprintln!("xtask: {name} is not built and will be missing in the guest");
            continue;
        }
        let to = tree.join("bin").join(name);
        if shell::which("strip").is_some() {
            shell::run(shell::command("strip").arg("-o").arg(&to).arg(&built))?;
        } else {
            fs::copy(&built, &to)?;
        }
        libraries.extend(libraries_of(&built)?);
    }
    if origin == Libraries::OfTheTree {
        return Ok(());
    }
    for library in libraries {
        let to = tree.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(to.parent().unwrap_or(tree))?;
        fs::copy(&library, &to).with_context(|| format!("copying {}", library.display()))?;
    }
    Ok(())
}

/// Copies busybox, and returns the libraries that it is linked to.
pub(super) fn busybox(tree: &Path) -> Result<BTreeSet<PathBuf>> {
    let busybox = shell::which("busybox").context("busybox is not installed")?;
    fs::copy(&busybox, tree.join("bin/busybox")).context("copying busybox")?;
    libraries_of(&busybox)
}

/// The libraries that a program is linked to; none for a static one, for which ldd fails.
fn libraries_of(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut ldd = shell::command("ldd");
    let output = ldd.arg(program).output().context("running ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        !text.contains("not found"),
        "{} needs libraries that are missing:\n{text}",
        program.display()
    );
    Ok(linked(&text))
}

/// The absolute paths in lines of ldd, `libc.so.6 => /lib/libc.so.6 (0x7f..)`.
fn linked(text: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(PathBuf::from)
    };
    text.lines()
        .filter(|line| line.contains(" (0x"))
        .filter_map(path)
        .collect()
}

/// Copies a file or a whole directory.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

/// Packs a tree as the kernel unpacks it, owned by root. Not compressed: an emulated CPU would take seconds to
/// undo that.
pub(super) fn pack(tree: &Path, archive: &Path) -> Result<PathBuf> {
    let line = "find . -mindepth 1 -print0 | cpio --quiet -0 -o -H newc -R 0:0 > \"$1\"";
    let mut bash = shell::command("bash");
    bash.args(["-o", "pipefail", "-c", line, "pack"])
        .arg(archive)
        .current_dir(tree);
    shell::run(&mut bash)?;
    Ok(archive.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linked_finds_libraries_and_the_loader() {
        let text = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f00)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n";
        let paths = ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(linked(text), BTreeSet::from(paths));
        assert!(linked("\tstatically linked\n").is_empty());
    }

    #[test]
    fn passwd_users_have_a_group() {
        for line in PASSWD.lines() {
            let gid = line.split(':').nth(3);
            assert!(
                GROUP.lines().any(|group| group.split(':').nth(2) == gid),
                "{line}"
            );
        }
    }
}
