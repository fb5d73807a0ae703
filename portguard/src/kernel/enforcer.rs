//! Loads the programs, proves that they run, and hands them a policy.
//!
//! The order leaves no half-guarded moment: programs are attached while no policy is installed (they
//! let everything pass and count a canary), and one write of one map slot puts the policy in force.

use super::environment::Environment;
use super::error::{KernelError, map_error, refused};
use super::programs::{
    CGROUP_PROGRAMS, Features, LSM_PROGRAMS, Loaded, cgroup_program, load_programs, lsm_program,
};
use super::records::Records;
use crate::compile::Tables;
use aya::Ebpf;
use aya::maps::{Array, Map, MapError, RingBuf};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Lsm};
use aya_log::EbpfLogger;
use portguard_common::Counter;
use std::net::{Ipv4Addr, TcpListener};

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
    pub(super) ebpf: Ebpf,
    hook: Hook,
    features: Features,
    fallback: Option<String>,
    /// The policy in force.
    pub(super) installed: Option<Tables>,
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
            installed: None,
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
    /// in the same moment proves the same, and so does one that finds no port left: the hooks come first.
    fn canary(&self) -> Result<bool, KernelError> {
        let before = self.count(Counter::Canary)?;
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let counted = self.count(Counter::Canary)? > before;
        match bound {
            Err(error) if !counted => Err(KernelError::Canary(error)),
            _ => Ok(counted),
        }
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

    /// The map of this name, as what it is.
    pub(super) fn table<'a, T>(&'a mut self, name: &'static str) -> Result<T, KernelError>
    where
        T: TryFrom<&'a mut Map, Error = MapError>,
    {
        let map = self.ebpf.map_mut(name).ok_or(KernelError::Missing(name))?;
        T::try_from(map).map_err(map_error(name))
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
