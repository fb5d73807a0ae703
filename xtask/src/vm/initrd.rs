//! The file system of a guest: busybox, the programs, their libraries, the policies, modules.

use super::kernel::Kernel;
use super::{Boot, modules};
use crate::shell;
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

/// The programs of this repository, which a guest has where they are built.
const PROGRAMS: &[&str] = &["portguard", "portguard-itest"];

/// Where the libraries of a guest's programs come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Libraries {
    /// This machine, whose programs they are.
    OfThisMachine,
    /// The guest's own packages, which have all of them.
    OfTheTree,
}

/// Packs what all guests with a kernel have.
pub(super) fn common(series: &str, kernel: &Kernel) -> Result<PathBuf> {
    let tree = super::directory().join("tree").join(series);
    let _ = fs::remove_dir_all(&tree);
    for directory in DIRECTORIES {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::write(tree.join("init"), INIT)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    identities(&tree)?;
    programs(&tree, Libraries::OfThisMachine)?;
    copy_tree(&shell::path("policies"), &tree.join("policies"))?;
    fs::create_dir_all(tree.join("lib/portguard"))?;
    for name in ["others.o", "decide_test.o"] {
        let object = shell::path("target/ebpf").join(name);
        if object.is_file() {
            fs::copy(object, tree.join("lib/portguard").join(name))?;
        }
    }
    let order = modules::copy(&kernel.modules, &tree.join("modules"), modules::WANTED)?;
    eprintln!(
        "xtask: kernel {series} gets the modules {}",
        order.join(" ")
    );
    fs::write(tree.join("etc/modules-load"), order.join("\n") + "\n")?;
    pack(
        &tree,
        &super::directory().join(format!("{series}.common.gz")),
    )
}

/// Adds a guest's command: a kernel unpacks archives that follow one another.
pub(super) fn with_command(common: &Path, boot: &Boot) -> Result<PathBuf> {
    let name = format!("{}-{}", boot.series, boot.name);
    let tree = super::directory().join("tree").join(&name);
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(&tree)?;
    fs::write(
        tree.join("command"),
        format!("exec {}\n", shell::words(&boot.arguments)),
    )?;
    for (from, to) in &boot.files {
        copy_tree(from, &tree.join(to))?;
    }
    let command = pack(
        &tree,
        &super::directory().join(format!("{name}.command.gz")),
    )?;
    let mut bytes = fs::read(common)?;
    bytes.extend(fs::read(command)?);
    let whole = super::directory().join(format!("{name}.gz"));
    fs::write(&whole, bytes).with_context(|| format!("writing {}", whole.display()))?;
    Ok(whole)
}

/// Users, groups and names.
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

/// Busybox and the programs, with the libraries that they are linked to.
pub(super) fn programs(tree: &Path, origin: Libraries) -> Result<()> {
    let busybox = shell::which("busybox").context("there is no busybox")?;
    fs::copy(&busybox, tree.join("bin/busybox"))?;
    let mut libraries = libraries_of(&busybox)?;
    for name in PROGRAMS {
        let built = shell::path("target/release").join(name);
        if !built.is_file() {
            eprintln!("xtask: {name} is not built: the guest goes without");
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

/// The files that a program is linked to; none for a static one, at which ldd fails.
fn libraries_of(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut ldd = shell::command("ldd");
    let output = ldd.arg(program).output().context("running ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        !text.contains("not found"),
        "ldd {} misses libraries:\n{text}",
        program.display()
    );
    Ok(linked(&text))
}

/// The absolute paths in ldd's lines `libc.so.6 => /lib/libc.so.6 (0x7f..)`.
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

/// Copies a file or a directory with all that is in it.
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

/// Packs a tree as the kernel takes it, all of it root's.
pub(super) fn pack(tree: &Path, archive: &Path) -> Result<PathBuf> {
    let line = "find . -mindepth 1 -print0 | cpio --quiet -0 -o -H newc -R 0:0 | gzip -1 > \"$1\"";
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
    fn ldd_names_libraries_and_the_loader() {
        let text = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f00)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n";
        let paths = ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(linked(text), BTreeSet::from(paths));
        assert!(linked("\tstatically linked\n").is_empty());
    }

    #[test]
    fn every_user_of_a_guest_has_a_group() {
        for line in PASSWD.lines() {
            let gid = line.split(':').nth(3);
            assert!(
                GROUP.lines().any(|group| group.split(':').nth(2) == gid),
                "{line}"
            );
        }
    }
}
