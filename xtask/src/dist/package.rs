//! The packages, by nfpm from dist/nfpm.yaml.

use super::release::Release;
use super::target::{Format, Target};
use crate::{repo, shell, tools};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// The description of all packages.
const CONFIG: &str = "dist/nfpm.yaml";

/// Packs the files below `tree`; the name of the package is its format's own.
pub(super) fn pack(
    target: Target,
    packager: &str,
    release: &Release,
    tree: &Path,
    into: &Path,
) -> Result<()> {
    // nfpm itself replaces variables too, but not in patterns.
    let config = fs::read_to_string(repo::path(CONFIG)).context("reading dist/nfpm.yaml")?;
    let config = config
        .replace("${ARCH}", target.debian())
        .replace("${VERSION}", &release.version)
        .replace("${TREE}", &tree.display().to_string());
    let filled = tree.with_extension("yaml");
    fs::write(&filled, config).with_context(|| format!("writing {}", filled.display()))?;
    let mut nfpm = shell::command(tools::nfpm()?);
    nfpm.args(["package", "--config"]).arg(&filled);
    nfpm.args(["--packager", packager, "--target"]).arg(into);
    nfpm.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    shell::run(&mut nfpm).with_context(|| format!("packing {packager} for {}", target.name()))
}

/// The name of the package that [`pack`] makes.
pub(super) fn name(format: Format, target: Target, version: &str) -> Option<String> {
    let machine = match target {
        Target::X86_64 | Target::X86_64Static => "x86_64",
        Target::Aarch64 => "aarch64",
    };
    match format {
        Format::Deb => Some(format!("portguard_{version}-1_{}.deb", target.debian())),
        Format::Rpm => Some(format!("portguard-{version}-1.{machine}.rpm")),
        Format::Apk => Some(format!("portguard_{version}-r1_{machine}.apk")),
        Format::Arch => Some(format!("portguard-{version}-1-{machine}.pkg.tar.zst")),
        Format::Tar => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(repo::path(path)).expect(path)
    }

    #[test]
    fn scripts_exist_and_are_valid() {
        let config = read(CONFIG);
        let words = config.split([' ', ',', '"', '\n']);
        let scripts: Vec<&str> = words.filter(|word| word.starts_with("dist/")).collect();
        assert!(scripts.len() >= 10, "{scripts:?}");
        for script in scripts.into_iter().chain(["dist/package-scripts"]) {
            let path = repo::path(script).canonicalize().expect(script);
            let mut shell = shell::command("sh");
            shell::query(shell.arg("-n").arg(path)).expect(script);
        }
    }

    #[test]
    fn unit_and_default_file_have_the_same_options() {
        let unit = read("dist/systemd/portguard.service");
        for line in [
            "EnvironmentFile=-/etc/default/portguard",
            "ExecStart=/usr/bin/portguard run --bpffs /run/portguard/bpffs $PORTGUARD_OPTIONS",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}");
        }
        let options = read("dist/default/portguard");
        let set = options
            .lines()
            .find(|line| line.starts_with("PORTGUARD_OPTIONS="));
        let of_unit = set.expect("options").replace('"', "");
        assert!(
            unit.contains(&format!("Environment=\"{of_unit}\"\n")),
            "{of_unit}"
        );
    }

    #[test]
    fn logrotate_makes_files_that_the_sink_takes() {
        // The sink refuses a file of another user than root and its own.
        let rotation = read("dist/logrotate/portguard");
        assert!(rotation.contains("\n    create 0640 root portguard\n"));
        assert!(rotation.contains("--signal=USR1"));
        // Compressed at once, the file would still be written to.
        assert!(rotation.contains("\n    delaycompress\n"));
    }

    #[test]
    fn removal_is_what_the_default_file_says() {
        let options = read("dist/default/portguard");
        assert!(options.contains("\nON_REMOVE=detach\n"));
        assert!(read("dist/package-scripts").contains("= keep ]"));
    }
}
