//! The programs and their links: loaded by this process, or taken over from pins.

use crate::kernel::bpf_sys;
use crate::kernel::error::{KernelError, refused};
use crate::kernel::maps::counters::count;
use crate::kernel::maps::map_set::Maps;
use crate::kernel::maps::records::FaultLog;
use crate::kernel::object::hook::{Features, Hook, LSM_PROGRAMS, all_programs};
use crate::kernel::object::load::{Loaded, cgroup_program, load_programs, lsm_program};
use crate::kernel::object::program_cost::program_costs;
use crate::kernel::preflight::environment::Environment;
use crate::kernel::preflight::other_programs::ATTACH_TYPES;
use crate::status::ProgramCost;
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Lsm, ProgramError};
use aya_log::EbpfLogger;
use portguard_common::Counter;
use rustix::fd::AsFd as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// The programs of one hook.
pub(in crate::kernel) struct Programs {
    hook: Hook,
    features: Features,
    /// The object that they were loaded from; `None` where they were taken over from pins.
    object: Option<Ebpf>,
    cgroup_root: PathBuf,
    /// Links that are not pinned yet, by program. Dropping one detaches its program.
    links: BTreeMap<&'static str, FdLink>,
    /// Ids of the programs, in the order of [`all_programs`]; 0 for one that is not attached.
    ids: [u32; 4],
}

/// A bind of port 0.
struct Canary {
    /// How many times each hook has counted it.
    counted: Vec<(Hook, u64)>,
    /// Whether it succeeded.
    bound: io::Result<()>,
}

impl Programs {
    /// Loads the object, with the maps that are pinned in `reuse` if given, attaches its programs for `hook` and
    /// checks that they run.
    pub(in crate::kernel) fn attach(
        environment: &Environment,
        hook: Hook,
        reuse: Option<&Path>,
    ) -> Result<(Maps, Self), KernelError> {
        let Loaded { mut ebpf, features } = load_programs(environment, hook, reuse)?;
        let maps = Maps::of_object(&mut ebpf, reuse)?;
        let mut programs = Self {
            hook,
            features,
            object: Some(ebpf),
            cgroup_root: environment.cgroup_root.clone(),
            links: BTreeMap::new(),
            ids: [0; 4],
        };
        programs.attach_all()?;
        if let Some(unresponsive) = programs.unresponsive_hooks(&maps)?.first() {
            return Err(match unresponsive {
                Hook::Lsm => KernelError::LsmNotRunning(environment.lsm_boot_parameter()),
                Hook::Cgroup => KernelError::CgroupNotRunning,
            });
        }
        Ok((maps, programs))
    }

    /// Takes over the programs of pinned links; `ids` are in the order of [`all_programs`].
    pub(in crate::kernel) fn adopted(
        environment: &Environment,
        hook: Hook,
        features: Features,
        ids: [u32; 4],
    ) -> Self {
        Self {
            hook,
            features,
            object: None,
            cgroup_root: environment.cgroup_root.clone(),
            links: BTreeMap::new(),
            ids,
        }
    }

    fn attach_all(&mut self) -> Result<(), KernelError> {
        let path = &self.cgroup_root;
        let root = File::open(path).map_err(|source| KernelError::Cgroup {
            path: path.clone(),
            source,
        })?;
        let Some(ebpf) = &mut self.object else {
            return Ok(());
        };
        for (name, number) in all_programs().zip(&mut self.ids) {
            let (link, id) = if LSM_PROGRAMS.contains(&name) {
                // Nothing can detach a link that this process holds (BPF_LINK_DETACH is EOPNOTSUPP), and Linux 5.10
                // does not attach an LSM program twice.
                if self.hook == Hook::Cgroup || self.links.contains_key(name) {
                    continue;
                }
                let program = lsm_program(ebpf, name)?;
                attach_lsm(program).map_err(refused(name))?
            } else {
                let program = cgroup_program(ebpf, name)?;
                attach_cgroup(program, &root).map_err(refused(name))?
            };
            // Drops an earlier link of this program only now that the next is in place.
            self.links.insert(name, link);
            *number = id;
        }
        Ok(())
    }

    /// Attaches again what may have been detached. Where `maps` are pinned the programs are loaded again first, as
    /// only the pins hold their links.
    pub(in crate::kernel) fn attach_again(
        &mut self,
        environment: &Environment,
        maps: Option<&Path>,
    ) -> Result<(), KernelError> {
        if self.object.is_none() || maps.is_some() {
            let mut loaded = load_programs(environment, self.hook, maps)?;
            // The same maps are open already.
            drop(Maps::of_object(&mut loaded.ebpf, maps)?);
            self.features = loaded.features;
            self.object = Some(loaded.ebpf);
        }
        self.attach_all()
    }

    /// Whether there are links that are not pinned yet.
    pub(in crate::kernel) fn has_unpinned_links(&self) -> bool {
        !self.links.is_empty()
    }

    /// Removes and returns a link that is not pinned yet, with the name of its program.
    pub(in crate::kernel) fn take_link(&mut self) -> Option<(&'static str, FdLink)> {
        self.links.pop_first()
    }

    /// Binds port 0, which every attached program counts, and returns the hooks that did not count it. Another
    /// process's bind at the same moment proves the same, and so does a bind that fails for lack of a port: the hooks
    /// run first.
    pub(in crate::kernel) fn unresponsive_hooks(
        &self,
        maps: &Maps,
    ) -> Result<Vec<Hook>, KernelError> {
        let Canary { counted, bound } = self.canary(maps)?;
        let unresponsive = counted.into_iter().filter(|(_, times)| *times == 0);
        let unresponsive: Vec<Hook> = unresponsive.map(|(hook, _)| hook).collect();
        match bound {
            Err(error) if !unresponsive.is_empty() => Err(KernelError::Canary(error)),
            _ => Ok(unresponsive),
        }
    }

    /// Makes a canary bind.
    fn canary(&self, maps: &Maps) -> Result<Canary, KernelError> {
        let canaries = [
            (Hook::Lsm, Counter::CanaryLsm),
            (Hook::Cgroup, Counter::CanaryCgroup),
        ];
        let expected = canaries
            .iter()
            .filter(|(hook, _)| *hook == Hook::Cgroup || self.hook == Hook::Lsm);
        let mut counted = Vec::new();
        for (hook, counter) in expected {
            counted.push((*hook, *counter, count(maps, *counter)?));
        }
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let times = |(hook, counter, earlier)| Ok((hook, count(maps, counter)? - earlier));
        let counted: Result<_, KernelError> = counted.into_iter().map(times).collect();
        Ok(Canary {
            counted: counted?,
            bound: bound.map(drop),
        })
    }

    /// Whether these programs alone decide, and none of the `replaced`: a bind is counted once, and no replaced program is
    /// on the cgroup. Nothing else can be seen without CAP_SYS_ADMIN. True where even that cannot be seen.
    pub(in crate::kernel) fn decide_alone(&self, maps: &Maps, replaced: &BTreeSet<u32>) -> bool {
        let Ok(Canary { counted, .. }) = self.canary(maps) else {
            return true;
        };
        let Ok(root) = File::open(&self.cgroup_root) else {
            return true;
        };
        let is_replaced = |(attach_type, _)| {
            let on = bpf_sys::programs_on(root.as_fd(), attach_type).unwrap_or_default();
            on.iter().any(|id| replaced.contains(id))
        };
        counted.iter().all(|(_, times)| *times == 1) && !ATTACH_TYPES.into_iter().any(is_replaced)
    }

    /// Whether none of these programs decides any more.
    pub(in crate::kernel) fn have_gone(&self, maps: &Maps) -> bool {
        let canary = self.canary(maps);
        canary.is_ok_and(|canary| canary.counted.iter().all(|(_, times)| *times == 0))
    }

    /// What is wrong with the attached programs.
    pub(in crate::kernel) fn problems(&self, maps: &Maps) -> Result<Vec<String>, KernelError> {
        let mut problems = Vec::new();
        for hook in self.unresponsive_hooks(maps)? {
            problems.push(format!("the {} programs do not run", hook.as_str()));
        }
        let root = File::open(&self.cgroup_root).map_err(|source| KernelError::Cgroup {
            path: self.cgroup_root.clone(),
            source,
        })?;
        let [_, _, ids @ ..] = self.ids;
        for ((attach_type, hook), id) in ATTACH_TYPES.into_iter().zip(ids) {
            // Where the query fails nothing is reported: the canary bind was counted.
            let Ok(attached) = bpf_sys::programs_on(root.as_fd(), attach_type) else {
                continue;
            };
            let hook = hook.as_str();
            match attached.last() {
                Some(last) if *last == id => {}
                // A program that runs later can set the result of a bind that this one refused to 0, with
                // bpf_set_retval (kernel/bpf/cgroup.c, Linux 5.18). Attached again, this one runs last.
                Some(last) if attached.contains(&id) => {
                    if self.features.set_errno {
                        problems.push(format!(
                            "program {last} was attached to the root of the cgroup tree after {hook} and can undo its denials"
                        ));
                    }
                }
                _ => problems.push(format!(
                    "{hook} is no longer attached to the root of the cgroup tree"
                )),
            }
        }
        Ok(problems)
    }

    /// Detaches and unloads the programs that are not pinned.
    pub(in crate::kernel) fn detach(&mut self) {
        self.links.clear();
        // Unloads the programs.
        self.object = None;
    }

    /// See [`crate::kernel::Enforcer::fault_log`].
    pub(in crate::kernel) fn fault_log(&mut self) -> Option<FaultLog> {
        match &mut self.object {
            Some(ebpf) => EbpfLogger::init(ebpf).ok(),
            None => {
                let id = self.ids.into_iter().find(|id| *id != 0)?;
                EbpfLogger::init_from_id(id).ok()
            }
        }
    }

    /// See [`crate::kernel::Enforcer::program_costs`].
    pub(in crate::kernel) fn costs(&self) -> Vec<ProgramCost> {
        let object = self.object.as_ref();
        object.map_or_else(Vec::new, |object| program_costs(object, all_programs()))
    }

    /// Ids of the programs, in the order of [`all_programs`]; 0 for one that is not attached.
    pub(in crate::kernel) const fn ids(&self) -> [u32; 4] {
        self.ids
    }

    pub(in crate::kernel) const fn hook(&self) -> Hook {
        self.hook
    }

    pub(in crate::kernel) const fn features(&self) -> Features {
        self.features
    }
}

/// The link, and the id of the program.
fn attach_lsm(program: &mut Lsm) -> Result<(FdLink, u32), ProgramError> {
    let link = program.attach()?;
    let link = program.take_link(link)?;
    Ok((link.into(), program.info()?.id()))
}

fn attach_cgroup(program: &mut CgroupSockAddr, root: &File) -> Result<(FdLink, u32), ProgramError> {
    // The kernel makes every link ALLOW_MULTI; passing that flag is EINVAL.
    let link = program.attach(root, CgroupAttachMode::Single)?;
    let link = program.take_link(link)?;
    let link = FdLink::try_from(link)
        .map_err(|error| ProgramError::IOError(std::io::Error::other(error)))?;
    Ok((link, program.info()?.id()))
}
