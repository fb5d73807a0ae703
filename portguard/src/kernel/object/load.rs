//! The object and its programs: loaded with as many features as the kernel's verifier takes.

use crate::kernel::error::{KernelError, refused};
use crate::kernel::maps::map_set;
use crate::kernel::object::embedded::object;
use crate::kernel::object::hook::{CGROUP_PROGRAMS, Features, Hook, LSM_PROGRAMS};
use crate::kernel::preflight::environment::Environment;
use crate::kernel::preflight::offsets::Offsets;
use aya::programs::{CgroupSockAddr, Lsm};
use aya::{Ebpf, EbpfLoader};
use std::path::Path;

/// The object in the kernel, its programs verified but not attached.
pub struct Loaded {
    /// The loaded object.
    pub ebpf: Ebpf,
    /// What its cgroup programs were allowed to do.
    pub features: Features,
}

/// The program that tells whether grants are known; it is loaded, and nothing else.
pub const GRANT_PROBE: &str = "grant_probe";

/// Loads the object and its programs for `hook`, with as many features as the kernel's verifier takes:
/// a probe says whether it can grant, the programs themselves whether they can choose an errno. They get the
/// maps that are pinned in `maps`, where that is given, else fresh ones.
///
/// # Errors
/// Where the kernel refuses the object or a program, or BTF is missing.
pub fn load_programs(
    environment: &Environment,
    hook: Hook,
    maps: Option<&Path>,
) -> Result<Loaded, KernelError> {
    let offsets = environment.offsets()?;
    // One for all attempts: a new one parses the kernel's BTF, which takes longest of all.
    let mut loader = EbpfLoader::new();
    prepare(&mut loader, environment, &offsets, hook, maps);
    let mut features = Features {
        grants: true,
        set_errno: true,
    };
    loop {
        let mut ebpf = load_object(&mut loader, features)?;
        if features.grants && cgroup_program(&mut ebpf, GRANT_PROBE)?.load().is_err() {
            // A kernel without grants knows no chosen errno either, which came later.
            features.grants = false;
            features.set_errno = false;
            continue;
        }
        match load_cgroup_programs(&mut ebpf) {
            Ok(()) => {}
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

/// What is the same whatever the kernel's verifier takes.
fn prepare<'a>(
    loader: &mut EbpfLoader<'a>,
    environment: &'a Environment,
    offsets: &'a Offsets,
    hook: Hook,
    maps: Option<&Path>,
) {
    // The object has no relocations by the kernel's types.
    loader.btf(None);
    for name in map_set::NAMES {
        if let Some(directory) = maps {
            loader.map_pin_path(name, directory.join(name));
        }
    }
    for (global, offset) in offsets.iter() {
        loader.override_global(global, offset, true);
    }
    loader.override_global("CGROUP_DECIDES", flag(hook == Hook::Cgroup), true);
    loader.override_global("HOST_NETNS", &environment.host_netns, true);
}

fn load_object(loader: &mut EbpfLoader<'_>, features: Features) -> Result<Ebpf, KernelError> {
    loader.override_global("GRANTS", flag(features.grants), true);
    loader.override_global("SET_RETVAL", flag(features.set_errno), true);
    loader
        .load(object()?)
        .map_err(|error| KernelError::Object(Box::new(error)))
}

/// A flag as a global of the programs has it.
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
