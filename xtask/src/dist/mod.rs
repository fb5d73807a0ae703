//! The verb `dist`: everything that a release is made of, under target/dist.

mod archive;
mod contents;
mod documents;
mod image;
mod lint;
mod notices;
mod package;
mod paths;
mod program;
mod release;
mod sbom;
mod target;

pub(crate) use release::version;
pub(crate) use target::Target;

use crate::build::{self, Profile};
use crate::{shell, tools};
use anyhow::{Context, Result, ensure};
use documents::Documents;
use paths::{artefacts, work};
use program::{Program, Programs};
use release::Release;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use target::Format;

/// What to make.
pub(crate) struct Options {
    /// Only these targets; all if empty.
    pub(crate) targets: Vec<Target>,
    /// The container image, and of the rest what it is made of.
    pub(crate) image: bool,
    /// The directory of programs that are built already, for the first target alone.
    pub(crate) programs: Option<PathBuf>,
}

impl Options {
    fn targets(&self) -> Vec<Target> {
        match (self.image, self.targets.as_slice()) {
            (true, []) => vec![Target::X86_64Static],
            (_, []) if self.programs.is_some() => vec![Target::X86_64],
            (_, []) => Target::ALL.to_vec(),
            (_, some) => some.to_vec(),
        }
    }
}

/// The verb `dist`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let release = Release::of_checkout()?;
    let programs = programs(options)?;
    let documents = Documents::make(&runnable(&programs)?, &release)?;
    clear()?;
    for (target, of_target) in &programs {
        for into in [artefacts(), work("again")] {
            pack_all(*target, of_target, &documents, &release, &into)?;
        }
    }
    archive::ensure_equal(&artefacts(), &work("again"))?;
    for (target, _) in &programs {
        for format in target.formats() {
            lint::check(*format, *target, &release.version, &artefacts())?;
        }
    }
    if let Some((target, of_target)) = programs.iter().find(|(target, _)| target.is_static()) {
        image::make(*target, of_target, &documents, &release)?;
    }
    fs::copy(
        documents.path("portguard.cdx.json"),
        artefacts().join(format!("portguard-{}.cdx.json", release.version)),
    )?;
    archive::checksums(&artefacts())?;
    println!("{}:", artefacts().display());
    for name in archive::names(&artefacts())? {
        let size = fs::metadata(artefacts().join(&name))?.len();
        println!("{size:>12}  {name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Three versions of the .deb that `dist` made, by the names that the tests give them: `old`, `new`, and `broken`, whose
/// program ends with 1.
pub(crate) fn versions_for_tests() -> Result<Vec<(PathBuf, &'static str)>> {
    let tree = work(Target::X86_64.name()).join("deb");
    ensure!(
        tree.join("usr/bin/portguard").is_file(),
        "there is no package to test: run `cargo xtask dist` first"
    );
    let broken = work("broken");
    let _ = fs::remove_dir_all(&broken);
    shell::run(shell::command("cp").arg("-a").arg(&tree).arg(&broken))?;
    fs::write(broken.join("usr/bin/portguard"), "#!/bin/sh\nexit 1\n")?;
    let release = Release::of_checkout()?;
    let pack = |(name, suffix, tree): (&'static str, &str, &Path)| {
        let into = work("versions").join(name);
        let _ = fs::remove_dir_all(&into);
        fs::create_dir_all(&into)?;
        let release = Release {
            version: format!("{}{suffix}", release.version),
            ..release.clone()
        };
        package::pack(Target::X86_64, "deb", &release, tree, &into)?;
        let made = package::name(Format::Deb, Target::X86_64, &release.version);
        Ok((into.join(made.context("no name")?), name))
    };
    let versions = [
        ("old", "", tree.as_path()),
        ("new", "+1", &tree),
        ("broken", "+2", &broken),
    ];
    versions.into_iter().map(pack).collect()
}

/// The programs, built with all that this needs.
fn programs(options: &Options) -> Result<Vec<(Target, Programs)>> {
    let targets = options.targets();
    tools::for_packages()?;
    if let (Some(built), Some(target)) = (&options.programs, targets.first()) {
        eprintln!("xtask: packing {} as it is", built.display());
        return Ok(vec![(*target, program::split(*target, built)?)]);
    }
    install_compilers(&targets)?;
    build::objects()?;
    let built = targets
        .into_iter()
        .map(|target| Ok((target, program::build(target)?)));
    built.collect()
}

fn install_compilers(targets: &[Target]) -> Result<()> {
    tools::for_building()?;
    for target in targets {
        if let Some(cross) = target.cross() {
            tools::install_program(cross.linker, &[cross.package, cross.libraries])?;
        }
        if !tools::has_std(target.triple())? {
            shell::run(shell::command("rustup").args(["target", "add", target.triple()]))
                .with_context(|| format!("the standard library for {}", target.triple()))?;
        }
    }
    Ok(())
}

/// A command of these that runs on this machine, or else one that is built for it.
fn runnable(programs: &[(Target, Programs)]) -> Result<PathBuf> {
    let mut native = programs.iter().filter(|(target, _)| target.is_native());
    if let Some((_, programs)) = native.next() {
        return Ok(programs.command.stripped.clone());
    }
    build::everything(Profile::Release)?;
    Ok(Profile::Release.program(build::PROGRAM))
}

/// Removes the artefacts of an earlier run, whose versions may be others.
fn clear() -> Result<()> {
    for directory in [artefacts(), work("again")] {
        fs::create_dir_all(&directory)?;
        for name in archive::names(&directory)? {
            fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

/// Packs the programs in all formats of their target.
fn pack_all(
    target: Target,
    programs: &Programs,
    documents: &Documents,
    release: &Release,
    into: &Path,
) -> Result<()> {
    for format in target.formats() {
        let tree = work(target.name()).join(format.name());
        contents::stage(*format, programs, documents, release, &tree)?;
        match format.packager() {
            Some(packager) => package::pack(target, packager, release, &tree, into)?,
            None => {
                let name = format!("portguard-{}-{}", release.version, target.name());
                let archive = into.join(format!("{name}.tar.gz"));
                archive::pack(&tree, &name, release, &archive)?;
            }
        }
    }
    debug_symbols(target, programs, release, into)
}

/// Packs the debug symbols of the programs, at the paths where gdb looks for them.
fn debug_symbols(
    target: Target,
    programs: &Programs,
    release: &Release,
    into: &Path,
) -> Result<()> {
    let tree = work(target.name()).join("debug");
    let places = ["usr/bin", "usr/lib/portguard"];
    for (program, place) in programs.all().into_iter().zip(places) {
        let Program { debug, .. } = program;
        let directory = tree.join("usr/lib/debug").join(place);
        fs::create_dir_all(&directory)?;
        fs::copy(debug, directory.join(debug.file_name().context("no name")?))?;
    }
    let name = format!("portguard-{}-{}-debug", release.version, target.name());
    archive::pack(&tree, &name, release, &into.join(format!("{name}.tar.gz")))
}
