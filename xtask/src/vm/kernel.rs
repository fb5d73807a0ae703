//! The kernels of guests: Debian's cloud kernels, each from a suite that has its series.

use super::cache;
use super::debian_archive::Archive;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The series that are tested, and the suites to try for each, in order.
const SERIES: &[(&str, &[&str])] = &[
    ("5.10", &["bullseye"]),
    ("6.1", &["bookworm"]),
    ("6.12", &["trixie"]),
    ("6.18", &["trixie-backports"]),
    ("7.2", &["sid", "forky"]),
];

/// The small variant, which boots fast.
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel's files.
pub(crate) struct Kernel {
    /// The image to boot.
    pub(crate) image: PathBuf,
    /// The directory of its modules.
    pub(crate) modules: PathBuf,
}

/// All series, oldest first.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    SERIES.iter().map(|(series, _)| *series)
}

/// The series named, or all where none is; fails for unknown ones.
pub(crate) fn selected(asked: &[String]) -> Result<Vec<&'static str>> {
    if asked.is_empty() {
        return Ok(all().collect());
    }
    asked.iter().map(|series| Ok(known(series)?.0)).collect()
}

fn known(series: &str) -> Result<(&'static str, &'static [&'static str])> {
    match SERIES.iter().find(|(known, _)| *known == series) {
        Some(found) => Ok(*found),
        None => bail!(
            "unknown kernel {series}; expected one of {}",
            all().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The newest kernel of a series, or the one in the cache.
pub(crate) fn fetch(series: &str) -> Result<Kernel> {
    let (series, suites) = known(series)?;
    let home = cache::directory().join("kernels").join(series);
    let kernel = Kernel {
        image: home.join("vmlinuz"),
        modules: home.join("modules"),
    };
    if kernel.image.is_file() && kernel.modules.is_dir() {
        return Ok(kernel);
    }
    if shell::which("apt-get").is_none() || shell::which("dpkg-deb").is_none() {
        bail!(
            "apt-get and dpkg-deb, which fetch kernels from Debian, are missing; put a kernel {series} at {} \
             and its modules into {}",
            kernel.image.display(),
            kernel.modules.display()
        );
    }
    let mut failure = None;
    for suite in suites {
        match fetch_from(suite, series, &home) {
            Ok(()) => return Ok(kernel),
            Err(error) => {
                eprintln!("xtask: no kernel {series} from {suite}: {error:#}");
                failure = Some(error);
            }
        }
    }
    Err(failure.context("no suite is listed for this kernel")?)
}

/// Fetches a kernel into the cache, all of it or nothing.
fn fetch_from(suite: &str, series: &str, home: &Path) -> Result<()> {
    let work = cache::directory().join("fetch").join(series);
    let _ = fs::remove_dir_all(&work);
    let archive = Archive::open(&work, suite)?;
    let mut names = archive.names(&format!("linux-binary-{series}."))?;
    if names.is_empty() {
        names = archive.names(&format!("linux-image-{series}."))?;
    }
    let newest = newest(&names).with_context(|| format!("{suite} has no kernel {series}"))?;
    let packages = packages_of(&newest);
    let tree = work.join("tree");
    archive.unpack(&packages, &tree)?;
    let done = work.join("done");
    fs::create_dir(&done)?;
    let image = find(&tree, &|path, name| {
        path.is_file() && name.starts_with("vmlinuz")
    });
    fs::copy(
        image.with_context(|| format!("no vmlinuz in {newest}"))?,
        done.join("vmlinuz"),
    )?;
    let modules = find(&tree, &|path, name| {
        name == "kernel" && path.join("net").is_dir()
    });
    fs::rename(
        modules.with_context(|| format!("no modules in {newest}"))?,
        done.join("modules"),
    )?;
    fs::write(done.join("package"), format!("{newest}\n"))?;
    let _ = fs::remove_dir_all(home);
    fs::create_dir_all(home.parent().unwrap_or(home))?;
    fs::rename(&done, home).with_context(|| format!("filling {}", home.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    eprintln!("xtask: kernel {series} is {newest}");
    Ok(())
}

/// The packages of a kernel; newer kernels have two.
fn packages_of(name: &str) -> Vec<String> {
    let modules = name.strip_prefix("linux-binary-").map(|version| {
        let version = version.strip_suffix("-unsigned").unwrap_or(version);
        format!("linux-modules-{version}")
    });
    std::iter::once(name.to_owned()).chain(modules).collect()
}

/// The newest kernel among packages; of two with the same version, the signed one.
fn newest(names: &[String]) -> Option<String> {
    let is_small = |name: &&String| {
        let plain = name.strip_suffix("-unsigned").unwrap_or(name);
        plain.ends_with(FLAVOUR)
    };
    let rank = |name: &&String| (numbers(name), !name.ends_with("-unsigned"));
    names.iter().filter(is_small).max_by_key(rank).cloned()
}

/// The package of a kernel in the cache.
pub(crate) fn package(series: &str) -> Result<String> {
    let (series, _) = known(series)?;
    let file = cache::directory()
        .join("kernels")
        .join(series)
        .join("package");
    let name = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    Ok(name.trim().to_owned())
}

/// The numbers in a name, by which the names of one series sort as versions do.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The first path in a tree that satisfies a condition; links are not followed.
fn find(tree: &Path, condition: &dyn Fn(&Path, &str) -> bool) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(tree).ok()?.flatten().collect();
    let here = entries
        .iter()
        .find(|entry| condition(&entry.path(), &entry.file_name().to_string_lossy()));
    if let Some(entry) = here {
        return Some(entry.path());
    }
    let directories = entries
        .iter()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .into_iter()
        .find_map(|entry| find(&entry.path(), condition))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Option<String> {
        newest(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn newest_kernel_has_the_highest_version() {
        let names = [
            "linux-image-5.10.0-9-cloud-amd64",
            "linux-image-5.10.0-32-cloud-amd64-unsigned",
            "linux-image-5.10.0-32-cloud-amd64-dbg",
            "linux-image-5.10.0-33-amd64",
        ];
        assert_eq!(
            of(&names).as_deref(),
            Some("linux-image-5.10.0-32-cloud-amd64-unsigned")
        );
        let names = [
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-6.12.9+deb13-cloud-amd64",
        ];
        assert_eq!(of(&names).as_deref(), Some(names[0]));
        assert_eq!(of(&["linux-image-6.12.117+deb13-cloud-amd64-dbg"]), None);
    }

    #[test]
    fn newest_kernel_is_the_signed_one_of_a_version() {
        let names = [
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-cloud-amd64",
        ];
        assert_eq!(of(&names).as_deref(), Some(names[1]));
    }

    #[test]
    fn packages_of_newer_kernels_include_the_modules() {
        let packages = packages_of("linux-binary-7.2.13+deb14-cloud-amd64");
        assert_eq!(
            packages.last().map(String::as_str),
            Some("linux-modules-7.2.13+deb14-cloud-amd64")
        );
        assert_eq!(packages_of("linux-image-6.1.0-56-cloud-amd64").len(), 1);
    }

    #[test]
    fn selected_rejects_unknown_series() {
        assert_eq!(selected(&[]).ok().map(|all| all.len()), Some(5));
        assert_eq!(selected(&["6.1".to_owned()]).ok(), Some(vec!["6.1"]));
        let error = selected(&["6.2".to_owned()]).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "unknown kernel 6.2; expected one of 5.10, 6.1, 6.12, 6.18, 7.2"
        );
    }
}
