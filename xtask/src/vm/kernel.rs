//! The kernels of the guests: Debian's for cloud machines, of the suite that has each series.

use super::cache;
use super::debian_archive::Archive;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The series that are tested, and the suites that have them: the first that does is taken.
const SERIES: &[(&str, &[&str])] = &[
    ("5.10", &["bullseye"]),
    ("6.1", &["bookworm"]),
    ("6.12", &["trixie"]),
    ("6.18", &["trixie-backports"]),
    ("7.2", &["sid", "forky"]),
];

/// The variant that is small and boots fast.
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel's files.
pub(crate) struct Kernel {
    /// What is booted.
    pub(crate) image: PathBuf,
    /// The directory with its modules.
    pub(crate) modules: PathBuf,
}

/// The series, oldest first.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    SERIES.iter().map(|(series, _)| *series)
}

/// The kernels that are asked for, or all; fails for others.
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
            "no kernel {series}; there are {}",
            all().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The newest kernel of a series, from the cache where it is there.
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
            "kernels are taken from Debian by apt-get and dpkg-deb, which are not here; put a kernel \
             {series} at {} and its modules into {}",
            kernel.image.display(),
            kernel.modules.display()
        );
    }
    let mut failure = None;
    for suite in suites {
        match fetch_from(suite, series, &home) {
            Ok(()) => return Ok(kernel),
            Err(error) => {
                eprintln!("xtask: {suite} gives no kernel {series}: {error:#}");
                failure = Some(error);
            }
        }
    }
    Err(failure.context("no suite is known to have it")?)
}

/// Fetches a kernel into its place in the cache, whole or not at all.
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
    fs::remove_dir_all(&work).with_context(|| format!("clearing {}", work.display()))?;
    eprintln!("xtask: kernel {series} is {newest}");
    Ok(())
}

/// The packages that a kernel consists of: newer ones are in two.
fn packages_of(name: &str) -> Vec<String> {
    let modules = name.strip_prefix("linux-binary-").map(|version| {
        let version = version.strip_suffix("-unsigned").unwrap_or(version);
        format!("linux-modules-{version}")
    });
    std::iter::once(name.to_owned()).chain(modules).collect()
}

/// The newest kernel among packages; of two with one version, the one that is not `-unsigned`.
fn newest(names: &[String]) -> Option<String> {
    let wanted = |name: &&String| {
        let plain = name.strip_suffix("-unsigned").unwrap_or(name);
        plain.ends_with(FLAVOUR)
    };
    let rank = |name: &&String| (numbers(name), !name.ends_with("-unsigned"));
    names.iter().filter(wanted).max_by_key(rank).cloned()
}

/// The numbers in a name: names of one series sort by them as versions do.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The first path in a tree that is as wanted, without following links.
fn find(tree: &Path, wanted: &dyn Fn(&Path, &str) -> bool) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(tree).ok()?.flatten().collect();
    let here = entries
        .iter()
        .find(|entry| wanted(&entry.path(), &entry.file_name().to_string_lossy()));
    if let Some(entry) = here {
        return Some(entry.path());
    }
    let directories = entries
        .iter()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .into_iter()
        .find_map(|entry| find(&entry.path(), wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Option<String> {
        newest(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_newest_kernel_is_that_of_the_highest_numbers() {
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
    fn a_signed_kernel_goes_before_the_unsigned_one_of_its_version() {
        let names = [
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-cloud-amd64",
        ];
        assert_eq!(of(&names).as_deref(), Some(names[1]));
    }

    #[test]
    fn newer_kernels_have_their_modules_in_another_package() {
        let packages = packages_of("linux-binary-7.2.13+deb14-cloud-amd64");
        assert_eq!(
            packages.last().map(String::as_str),
            Some("linux-modules-7.2.13+deb14-cloud-amd64")
        );
        assert_eq!(packages_of("linux-image-6.1.0-56-cloud-amd64").len(), 1);
    }

    #[test]
    fn only_known_series_are_selected() {
        assert_eq!(selected(&[]).ok().map(|all| all.len()), Some(5));
        assert_eq!(selected(&["6.1".to_owned()]).ok(), Some(vec!["6.1"]));
        assert!(selected(&["6.2".to_owned()]).is_err());
    }
}
