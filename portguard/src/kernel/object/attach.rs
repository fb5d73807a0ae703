//! The programs and what attaches them: loaded by this process, or pinned by one before.

use crate::kernel::bpf_sys;
use crate::kernel::error::{KernelError, refused};
use crate::kernel::maps::counters::count;
use crate::kernel::maps::map_set::Maps;
use crate::kernel::maps::records::FaultLog;
use crate::kernel::object::hook::{Features, Hook, LSM_PROGRAMS, all_programs};
use crate::kernel::object::load::{Loaded, cgroup_program, load_programs, lsm_program};
use crate::kernel::preflight::environment::Environment;
use crate::kernel::preflight::other_programs::ATTACH_TYPES;
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Lsm, ProgramError};
use aya_log::EbpfLogger;
use portguard_common::Counter;
use rustix::fd::AsFd as _;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// The programs of one hook.
pub(in crate::kernel) struct Programs {
    hook: Hook,
    features: Features,
    /// The object that they were loaded from; `None` where they were taken over by their pins.
    object: Option<Ebpf>,
    cgroup_root: PathBuf,
    /// Links that no pin holds yet, by their programs. Dropped, they detach.
    links: BTreeMap<&'static str, FdLink>,
    /// Numbers of the programs, as [`all_programs`] lists them; 0 for one that is not there.
    ids: [u32; 4],
}

impl Programs {
    /// Loads the object, with the maps that are pinned in `reuse` where there are some, attaches its programs
    /// for `hook` and proves that they run.
    pub(in crate::kernel) fn attach(
        environment: &Environment,
        hook: Hook,
        reuse: Option<&Path>,
    ) -> Result<(Maps, Self), KernelError> {
        let Loaded { mut ebpf, features } = load_programs(environment, hook, reuse)?;
        let maps = Maps::of_object(&mut ebpf)?;
        let mut programs = Self {
            hook,
            features,
            object: Some(ebpf),
            cgroup_root: environment.cgroup_root.clone(),
            links: BTreeMap::new(),
            ids: [0; 4],
        };
        programs.attach_all()?;
        if let Some(silent) = programs.unresponsive_hooks(&maps)?.first() {
            return Err(match silent {
                Hook::Lsm => KernelError::LsmNotRunning(environment.lsm_boot_parameter()),
                Hook::Cgroup => KernelError::CgroupNotRunning,
            });
        }
        Ok((maps, programs))
    }

    /// The programs of pinned links; `ids` are their numbers, in the order of [`all_programs`].
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
                // One that we hold cannot be taken from us (BPF_LINK_DETACH is EOPNOTSUPP), nor attached twice on
                // Linux 5.10.
                if self.hook == Hook::Cgroup || self.links.contains_key(name) {
                    continue;
                }
                let program = lsm_program(ebpf, name)?;
                attach_lsm(program).map_err(refused(name))?
            } else {
                let program = cgroup_program(ebpf, name)?;
                attach_cgroup(program, &root).map_err(refused(name))?
            };
            // An earlier link of this program goes only now that the next is in place.
            self.links.insert(name, link);
            *number = id;
        }
        Ok(())
    }

    /// Attaches once more what may have been taken away. Where `maps` are pinned the programs are loaded anew first:
    /// their links are nobody's but the pins'.
    pub(in crate::kernel) fn attach_again(
        &mut self,
        environment: &Environment,
        maps: Option<&Path>,
    ) -> Result<(), KernelError> {
        if self.object.is_none() || maps.is_some() {
            let mut loaded = load_programs(environment, self.hook, maps)?;
            // The maps are those that are in use already.
            drop(Maps::of_object(&mut loaded.ebpf)?);
            self.features = loaded.features;
            self.object = Some(loaded.ebpf);
        }
        self.attach_all()
    }

    /// Whether there are links that no pin holds yet.
    pub(in crate::kernel) fn has_unpinned_links(&self) -> bool {
        !self.links.is_empty()
    }

    /// Hands over a link that no pin holds yet, with the name of its program.
    pub(in crate::kernel) fn take_link(&mut self) -> Option<(&'static str, FdLink)> {
        self.links.pop_first()
    }

    /// Binds a port of the kernel's choice and looks which programs counted it: the hooks that did not. Somebody
    /// else's bind in the same moment proves the same, and so does one that finds no port left: the hooks come
    /// first.
    pub(in crate::kernel) fn unresponsive_hooks(
        &self,
        maps: &Maps,
    ) -> Result<Vec<Hook>, KernelError> {
        let canaries = [
            (Hook::Lsm, Counter::CanaryLsm),
            (Hook::Cgroup, Counter::CanaryCgroup),
        ];
        let asked = canaries
            .iter()
            .filter(|(hook, _)| *hook == Hook::Cgroup || self.hook == Hook::Lsm);
        let mut before = Vec::new();
        for (hook, counter) in asked {
            before.push((*hook, *counter, count(maps, *counter)?));
        }
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let mut silent = Vec::new();
        for (hook, counter, earlier) in before {
            if count(maps, counter)? == earlier {
                silent.push(hook);
            }
        }
        match bound {
            Err(error) if !silent.is_empty() => Err(KernelError::Canary(error)),
            _ => Ok(silent),
        }
    }

    /// What is wrong now, in words.
    pub(in crate::kernel) fn problems(&self, maps: &Maps) -> Result<Vec<String>, KernelError> {
        let mut problems = Vec::new();
        for hook in self.unresponsive_hooks(maps)? {
            problems.push(format!("the {} programs do not answer", hook.as_str()));
        }
        let root = File::open(&self.cgroup_root).map_err(|source| KernelError::Cgroup {
            path: self.cgroup_root.clone(),
            source,
        })?;
        let [_, _, ids @ ..] = self.ids;
        for ((attach_type, hook), id) in ATTACH_TYPES.into_iter().zip(ids) {
            // A kernel that does not say is no reason for alarm: the canary has answered.
            let there = bpf_sys::programs_on(root.as_fd(), attach_type);
            if there.is_ok_and(|there| !there.contains(&id)) {
                problems.push(format!(
                    "{} is no longer attached to the root of the cgroup tree",
                    hook.as_str()
                ));
            }
        }
        Ok(problems)
    }

    /// Takes those out of the kernel that no pin holds.
    pub(in crate::kernel) fn detach(&mut self) {
        self.links.clear();
        // The programs themselves go with their object.
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

    /// Numbers of the programs, in the order of [`all_programs`]; 0 for one that is not loaded.
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

/// The link, and the number of the program.
fn attach_lsm(program: &mut Lsm) -> Result<(FdLink, u32), ProgramError> {
    let link = program.attach()?;
    let link = program.take_link(link)?;
    Ok((link.into(), program.info()?.id()))
}

fn attach_cgroup(program: &mut CgroupSockAddr, root: &File) -> Result<(FdLink, u32), ProgramError> {
    // The kernel makes every link ALLOW_MULTI itself; that flag on a link is EINVAL.
    let link = program.attach(root, CgroupAttachMode::Single)?;
    let link = program.take_link(link)?;
    let link = FdLink::try_from(link)
        .map_err(|error| ProgramError::IOError(std::io::Error::other(error)))?;
    Ok((link, program.info()?.id()))
}
