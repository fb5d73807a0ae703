//! Loads the programs, proves that they run, and hands them a policy.
//!
//! The order leaves no half-guarded moment: programs are attached while no policy is installed (they
//! let everything pass and count a canary), and one write of one map slot puts the policy in force.

use super::btf::BtfError;
use super::environment::Environment;
use super::offsets::{OffsetError, Offsets};
use super::records::Records;
use super::wire::Wire;
use crate::compile::Tables;
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData, MapError, RingBuf};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Lsm, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use portguard_common::{Counter, Page, TrieKey, TrieNode};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use thiserror::Error;

/// `BPF_F_INNER_MAP` of `include/uapi/linux/bpf.h` (Linux 5.10).
const BPF_F_INNER_MAP: u32 = 1 << 12;

/// Why nothing is enforced.
#[derive(Debug, Error)]
pub enum KernelError {
    /// BTF is missing or damaged.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// A structure is unknown.
    #[error(transparent)]
    Offsets(#[from] OffsetError),
    /// The object cannot be loaded.
    #[error("cannot load the eBPF object: {0}")]
    Object(#[source] Box<EbpfError>),
    /// A program was refused.
    #[error("the kernel refused the program {name}: {source}")]
    Program {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<ProgramError>,
    },
    /// A map operation failed.
    #[error("cannot write the map {name}: {source}")]
    Map {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<MapError>,
    },
    /// The object is not the one this binary was built with.
    #[error("the eBPF object has no {0}: rebuild with `cargo xtask build`")]
    Missing(&'static str),
    /// The root of the cgroup v2 tree cannot be opened.
    #[error("cannot open the cgroup v2 tree at {}: {source}", path.display())]
    Cgroup {
        /// Its mount point.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The canary bind itself failed.
    #[error("cannot make the canary bind on 127.0.0.1: {0}")]
    Canary(#[source] std::io::Error),
    /// The LSM programs are attached and never called.
    #[error(
        "the LSM programs are attached, but the kernel never calls them: `bpf` is not among the active LSMs\n  boot with {0}"
    )]
    LsmNotRunning(String),
    /// The cgroup programs are attached and never called.
    #[error("the cgroup programs are attached, but the kernel does not call them")]
    CgroupNotRunning,
}

/// `--hook`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookChoice {
    /// The LSM where it runs, else the cgroup hooks.
    Auto,
    /// The LSM or nothing.
    Lsm,
    /// The cgroup hooks alone.
    Cgroup,
}

/// Which hook decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `lsm/socket_bind` decides, the cgroup hooks grant.
    Lsm,
    /// The cgroup hooks decide and grant.
    Cgroup,
}

/// Programs in the kernel, attached for as long as this lives.
pub struct Enforcer {
    ebpf: Ebpf,
    hook: Hook,
    features: Features,
    fallback: Option<String>,
}

/// What the cgroup programs of this kernel may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Skip the capability check (Linux 5.12).
    pub grants: bool,
    /// Choose the errno of a refusal (Linux 5.18).
    pub set_errno: bool,
}

/// A policy in force: what to say about it.
#[derive(Clone, Copy, Debug)]
pub struct Installed {
    /// Pages of its image.
    pub pages: usize,
}

/// The counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Decisions `allow`.
    pub allow: u64,
    /// Decisions `deny`.
    pub deny: u64,
    /// Decisions `kernel`.
    pub kernel: u64,
    /// Events that found the ring full.
    pub lost: u64,
    /// Binds by kernel threads.
    pub kernel_threads: u64,
    /// Decisions made impossible by a missing table.
    pub faults: u64,
    /// Cgroups whose path could not be read.
    pub unread: u64,
}

/// The object in the kernel, its programs verified but not attached.
pub struct Loaded {
    /// The loaded object.
    pub ebpf: Ebpf,
    /// What its cgroup programs were allowed to do.
    pub features: Features,
}

const LSM_PROGRAMS: [&str; 2] = ["socket_bind", "sctp_bind_connect"];
const CGROUP_PROGRAMS: [&str; 2] = ["bind4", "bind6"];

/// Loads the object and its programs for `hook`, with as many features as the kernel's verifier takes:
/// the probe is the program itself, not a version number.
///
/// # Errors
/// Where the kernel refuses the object or a program, or BTF is missing.
pub fn load_programs(environment: &Environment, hook: Hook) -> Result<Loaded, KernelError> {
    let offsets = Offsets::from_btf(&super::Btf::of_running_kernel()?)?;
    let steps = [(true, true), (true, false), (false, false)];
    let mut refused = None;
    for (grants, set_errno) in steps {
        let features = Features { grants, set_errno };
        let mut ebpf = load_object(environment, &offsets, hook, features)?;
        match load_cgroup_programs(&mut ebpf) {
            Ok(()) => {
                if hook == Hook::Lsm {
                    load_lsm_programs(&mut ebpf)?;
                }
                return Ok(Loaded { ebpf, features });
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or(KernelError::Missing("cgroup programs")))
}

fn load_object(
    environment: &Environment,
    offsets: &Offsets,
    hook: Hook,
    features: Features,
) -> Result<Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    for (global, offset) in offsets.iter() {
        loader.override_global(global, offset, true);
    }
    let flags = [
        ("GRANTS", u32::from(features.grants)),
        ("SET_RETVAL", u32::from(features.set_errno)),
        ("CGROUP_DENIES", u32::from(hook == Hook::Cgroup)),
        ("HOST_NETNS", environment.host_netns),
    ];
    for (global, value) in &flags {
        loader.override_global(global, value, true);
    }
    loader
        .load(super::object())
        .map_err(|error| KernelError::Object(Box::new(error)))
}

fn refused(name: &'static str) -> impl Fn(ProgramError) -> KernelError {
    move |source| KernelError::Program {
        name,
        source: Box::new(source),
    }
}

fn map_error(name: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map {
        name,
        source: Box::new(source),
    }
}

fn cgroup_program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing(name))?;
    program.try_into().map_err(refused(name))
}

fn lsm_program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Lsm, KernelError> {
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

impl Enforcer {
    /// Loads and attaches the programs by `choice` and proves that they run. Nothing is decided until
    /// [`Enforcer::install`].
    ///
    /// # Errors
    /// Where the kernel refuses a program, or does not run what it took.
    pub fn start(environment: &Environment, choice: HookChoice) -> Result<Self, KernelError> {
        if choice == HookChoice::Cgroup {
            return Self::attach(environment, Hook::Cgroup);
        }
        match Self::attach(environment, Hook::Lsm) {
            Ok(enforcer) => Ok(enforcer),
            Err(error) if choice == HookChoice::Lsm => Err(error),
            Err(error) => {
                let mut enforcer = Self::attach(environment, Hook::Cgroup)?;
                enforcer.fallback = Some(error.to_string());
                Ok(enforcer)
            }
        }
    }

    fn attach(environment: &Environment, hook: Hook) -> Result<Self, KernelError> {
        let Loaded { ebpf, features } = load_programs(environment, hook)?;
        let mut enforcer = Self {
            ebpf,
            hook,
            features,
            fallback: None,
        };
        if hook == Hook::Lsm {
            for name in LSM_PROGRAMS {
                let program = lsm_program(&mut enforcer.ebpf, name)?;
                program.attach().map_err(refused(name))?;
            }
            if !enforcer.canary()? {
                return Err(KernelError::LsmNotRunning(environment.lsm_boot_parameter()));
            }
        }
        let path = &environment.cgroup_root;
        let root = std::fs::File::open(path).map_err(|source| KernelError::Cgroup {
            path: path.clone(),
            source,
        })?;
        for name in CGROUP_PROGRAMS {
            let program = cgroup_program(&mut enforcer.ebpf, name)?;
            // The kernel makes every link ALLOW_MULTI itself; that flag on a link is EINVAL.
            program
                .attach(&root, CgroupAttachMode::Single)
                .map_err(refused(name))?;
        }
        if hook == Hook::Cgroup && !enforcer.canary()? {
            return Err(KernelError::CgroupNotRunning);
        }
        Ok(enforcer)
    }

    /// Binds a port of the kernel's choice and looks whether a program counted it. Somebody else's bind
    /// in the same moment proves the same.
    fn canary(&self) -> Result<bool, KernelError> {
        let before = self.count(Counter::Canary)?;
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(KernelError::Canary)?);
        Ok(self.count(Counter::Canary)? > before)
    }

    fn count(&self, counter: Counter) -> Result<u64, KernelError> {
        let name = "COUNTERS";
        let map = self.ebpf.map(name).ok_or(KernelError::Missing(name))?;
        let counters: Array<_, u64> = Array::try_from(map).map_err(map_error(name))?;
        counters.get(&(counter as u32), 0).map_err(map_error(name))
    }

    /// Reads all counters.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub fn counts(&self) -> Result<Counts, KernelError> {
        Ok(Counts {
            allow: self.count(Counter::Allow)?,
            deny: self.count(Counter::Deny)?,
            kernel: self.count(Counter::Kernel)?,
            lost: self.count(Counter::Lost)?,
            kernel_threads: self.count(Counter::KernelThread)?,
            faults: self.count(Counter::Fault)?,
            unread: self.count(Counter::Unread)?,
        })
    }

    /// Puts a policy in force: fills fresh tables beside those in force, then switches by one write.
    ///
    /// The kernel waits until no program reads the old tables before the write returns
    /// (`maybe_wait_bpf_programs`, 5.10 to 7.2).
    ///
    /// # Errors
    /// Where a map cannot be written; then the old policy is still in force.
    pub fn install(&mut self, tables: &Tables) -> Result<Installed, KernelError> {
        self.insert_names(tables)?;
        let name = "POLICY";
        let count = u32::try_from(tables.pages().len()).unwrap_or(u32::MAX);
        let mut pages: Array<MapData, Wire<Page>> =
            Array::create(count, BPF_F_INNER_MAP).map_err(map_error(name))?;
        for (number, page) in (0..).zip(tables.pages()) {
            pages.set(number, Wire(*page), 0).map_err(map_error(name))?;
        }
        let map = self.ebpf.map_mut(name).ok_or(KernelError::Missing(name))?;
        let mut slot: ArrayOfMaps<_, Array<MapData, Wire<Page>>> =
            ArrayOfMaps::try_from(map).map_err(map_error(name))?;
        slot.set(0, &pages, 0).map_err(map_error(name))?;
        Ok(Installed {
            pages: tables.pages().len(),
        })
    }

    fn insert_names(&mut self, tables: &Tables) -> Result<(), KernelError> {
        let name = "TRIE";
        let map = self.ebpf.map_mut(name).ok_or(KernelError::Missing(name))?;
        let mut trie: HashMap<_, Wire<TrieKey>, Wire<TrieNode>> =
            HashMap::try_from(map).map_err(map_error(name))?;
        for entry in tables.trie() {
            trie.insert(Wire(entry.key), Wire(entry.node), 0)
                .map_err(map_error(name))?;
        }
        Ok(())
    }

    /// Takes the consumer's end of the ring buffer; there is one.
    ///
    /// # Errors
    /// Where it was taken before.
    pub fn take_records(&mut self) -> Result<Records, KernelError> {
        let name = "EVENTS";
        let map = self.ebpf.take_map(name).ok_or(KernelError::Missing(name))?;
        Ok(Records::new(
            RingBuf::try_from(map).map_err(map_error(name))?,
        ))
    }

    /// The programs' own complaints, for the `log` crate; `None` where the channel cannot be opened.
    pub fn fault_log(&mut self) -> Option<EbpfLogger<&'static dyn log::Log>> {
        EbpfLogger::init(&mut self.ebpf).ok()
    }

    /// Takes all programs out of the kernel. Maps stay, to be read a last time.
    pub fn detach(&mut self) {
        // Fails only for a program that was not loaded.
        for name in LSM_PROGRAMS {
            let _ = lsm_program(&mut self.ebpf, name).map(Lsm::unload);
        }
        for name in CGROUP_PROGRAMS {
            let _ = cgroup_program(&mut self.ebpf, name).map(CgroupSockAddr::unload);
        }
    }

    /// Which hook decides.
    #[must_use]
    pub const fn hook(&self) -> Hook {
        self.hook
    }

    /// What the cgroup programs can do here.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Why `auto` did not take the LSM, where it did not.
    #[must_use]
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }
}
