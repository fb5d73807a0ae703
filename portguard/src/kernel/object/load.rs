//! Loads the object and its programs, with as many features as the kernel's verifier accepts.

use crate::kernel::error::{KernelError, refused};
use crate::kernel::maps::{map_set, slots};
use crate::kernel::object::embedded::object;
use crate::kernel::object::hook::{CGROUP_PROGRAMS, Features, Hook, LSM_PROGRAMS};
use crate::kernel::preflight::environment::Environment;
use crate::kernel::preflight::offsets::Offsets;
use aya::programs::{CgroupSockAddr, Lsm};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use std::path::Path;

/// The object in the kernel, its programs verified but not attached.
pub struct Loaded {
    /// The loaded object.
    pub ebpf: Ebpf,
    /// What its cgroup programs can do.
    pub features: Features,
}

/// A program that loads only where the kernel supports grants. It is never attached.
pub const GRANT_PROBE: &str = "grant_probe";

/// Loads the object and its programs for `hook`, with as many features as the kernel's verifier accepts. A probe
/// finds out whether it supports grants, the programs themselves whether they can choose an errno. They use the maps
/// that are pinned in `maps`, if given, else new ones.
pub fn load_programs(
    environment: &Environment,
    hook: Hook,
    maps: Option<&Path>,
) -> Result<Loaded, KernelError> {
    let offsets = environment.offsets()?;
    let contents = maps.map(slots::pinned_contents).unwrap_or_default();
    // Used for all attempts: a new loader parses the kernel's BTF, which takes longest.
    let mut loader = EbpfLoader::new();
    prepare(&mut loader, environment, &offsets, hook, maps);
    for (name, content) in &contents {
        loader.override_global(name, content.as_slice(), true);
    }
    let object = offsets.put_into(object()?)?;
    let mut features = Features {
        grants: true,
        set_errno: true,
    };
    let mut typed_task = true;
    loop {
        let mut ebpf = load_object(&mut loader, &object, features, typed_task)?;
        if features.grants && cgroup_program(&mut ebpf, GRANT_PROBE)?.load().is_err() {
            // A kernel without grants has neither what came later: a chosen errno, and the task by a typed pointer.
            features.grants = false;
            features.set_errno = false;
            typed_task = false;
            continue;
        }
        match load_cgroup_programs(&mut ebpf) {
            Ok(()) => {}
            Err(_) if typed_task => {
                typed_task = false;
                continue;
            }
            Err(_) if features.set_errno => {
                features.set_errno = false;
                continue;
            }
            Err(error) => return Err(error),
        }
        if hook == Hook::Lsm {
            load_lsm_programs(&mut ebpf)?;
        }
        return Ok(Loaded { ebpf, features });
    }
}

/// Sets what does not depend on the features.
fn prepare<'a>(
    loader: &mut EbpfLoader<'a>,
    environment: &'a Environment,
    offsets: &'a Offsets,
    hook: Hook,
    maps: Option<&Path>,
) {
    // The object has no CO-RE relocations.
    loader.btf(None);
    // Why a program is refused, and how many instructions were checked, but not each of them: megabytes, for which
    // it would be verified again and again until they fit.
    loader.verifier_log_level(VerifierLogLevel::STATS);
    for name in map_set::NAMES {
        if let Some(directory) = maps {
            loader.map_pin_path(map_set::name_in_object(name), directory.join(name));
        }
    }
    for (global, offset) in offsets.iter() {
        loader.override_global(global, offset, true);
    }
    loader.override_global("CGROUP_DECIDES", flag(hook == Hook::Cgroup), true);
    loader.override_global("HOST_NETNS", &environment.host_netns, true);
}

fn load_object(
    loader: &mut EbpfLoader<'_>,
    object: &[u8],
    features: Features,
    typed_task: bool,
) -> Result<Ebpf, KernelError> {
    loader.override_global("GRANTS", flag(features.grants), true);
    loader.override_global("SET_RETVAL", flag(features.set_errno), true);
    loader.override_global("TYPED_TASK", flag(typed_task), true);
    loader
        .load(object)
        .map_err(|error| KernelError::Object(Box::new(error)))
}

/// A flag as the programs' globals encode it.
const fn flag(value: bool) -> &'static u32 {
    if value { &1 } else { &0 }
}

pub(in crate::kernel) fn cgroup_program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing(name))?;
    program.try_into().map_err(refused(name))
}

pub(in crate::kernel) fn lsm_program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut Lsm, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing(name))?;
    program.try_into().map_err(refused(name))
}

fn load_cgroup_programs(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    for name in CGROUP_PROGRAMS {
        cgroup_program(ebpf, name)?.load().map_err(refused(name))?;
    }
    Ok(())
}

fn load_lsm_programs(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let btf =
        aya::Btf::from_sys_fs().map_err(|error| KernelError::Object(Box::new(error.into())))?;
    for name in LSM_PROGRAMS {
        let program = lsm_program(ebpf, name)?;
        program.load(name, &btf).map_err(refused(name))?;
    }
    Ok(())
}
