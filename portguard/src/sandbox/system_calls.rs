//! The system calls that the daemon never makes: they fail with EPERM.
//!
//! A list of what is refused, not of what is allowed: modules of the name service (sssd, LDAP, systemd) and the C library run
//! in this process, and each version of them makes other calls. What is listed executes programs, looks into other processes,
//! changes mounts, namespaces, clocks or the kernel itself, or would get round the list.

use rustix::thread::set_no_new_privs;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};
use std::collections::BTreeMap;

/// Calls that are refused whatever their arguments are.
const REFUSED: &[i64] = &[
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes. /proc/PID is read, with CAP_SYS_PTRACE.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Mounts and namespaces; of setns and clone a part, see below.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_mknodat,
    libc::SYS_quotactl,
    // The kernel and the machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    libc::SYS_vhangup,
    // Parts of the kernel that the daemon does not use, and that attacks on it begin with.
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_fanotify_init,
    // Rings make calls that no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Those that only this machine has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_mknod,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[libc::SYS_kexec_file_load];

/// The flags of `clone` that make a namespace.
const NEW_NAMESPACE: &[i32] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Filters this thread and those that it starts. A second time it changes nothing but the time that a call takes.
pub(super) fn filter() -> Result<(), String> {
    set_no_new_privs(true).map_err(|error| format!("no_new_privs is not available: {error}"))?;
    let filters = filters().map_err(|error| format!("the system call filter is invalid: {error}"));
    for filter in filters? {
        seccompiler::apply_filter(&filter)
            .map_err(|error| format!("seccomp is not available: {error}"))?;
    }
    Ok(())
}

fn filters() -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = REFUSED
        .iter()
        .chain(REFUSED_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    let namespaces = NEW_NAMESPACE.iter().map(|flag| {
        let flag = u64::from(flag.cast_unsigned());
        rule(0, SeccompCmpOp::MaskedEq(flag), flag)
    });
    refused.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    // The inventory enters network namespaces, where the policy has `scope: all`.
    let netns = u64::from(libc::CLONE_NEWNET.cast_unsigned());
    refused.insert(libc::SYS_setns, vec![rule(1, SeccompCmpOp::Ne, netns)?]);
    // Its flags are in memory, where a filter cannot look. ENOSYS makes the C library use clone.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok(vec![
        compile(refused, libc::EPERM)?,
        compile(clone3, libc::ENOSYS)?,
        other_numbers(),
    ])
}

/// The calls of `rules` fail with `errno`. A call by the convention of another machine ends the process.
fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let refused = SeccompAction::Errno(errno.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

fn rule(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let length = SeccompCmpArgLen::Dword;
    let condition = SeccompCondition::new(argument, length, operator, value)?;
    SeccompRule::new(vec![condition])
}

/// Refuses the numbers of x32, by which x86-64 has every call a second time: `if number & 0x40000000 { EPERM }`.
fn other_numbers() -> BpfProgram {
    /// `__X32_SYSCALL_BIT` of `arch/x86/include/uapi/asm/unistd.h`; no machine has numbers that large.
    const X32: u32 = 0x4000_0000;
    // `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JSET | BPF_K` and `BPF_RET | BPF_K` of `include/uapi/linux/filter.h`; the
    // number is the first field of `struct seccomp_data`.
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let refused = u32::from(SeccompAction::Errno(libc::EPERM.cast_unsigned()));
    vec![
        instruction(0x20, 0, 0, 0),
        instruction(0x45, 0, 1, X32),
        instruction(0x06, 0, 0, refused),
        instruction(0x06, 0, 0, u32::from(SeccompAction::Allow)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd as _;
    use std::process::Command;

    /// Runs `calls` on a thread of its own with the filter.
    fn filtered<T: Send>(calls: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                filter().unwrap();
                calls()
            });
            thread.join().unwrap()
        })
    }

    /// A raw call with arguments that would fail otherwise too; its errno.
    fn errno_of(call: i64) -> i32 {
        // SAFETY: every pointer among the arguments is null, and every descriptor is -1.
        let result = unsafe { libc::syscall(call, -1i64, 0, 0, 0, 0, 0) };
        assert_eq!(result, -1, "{call}");
        std::io::Error::last_os_error().raw_os_error().unwrap()
    }

    #[test]
    fn filter_refuses_to_execute_programs() {
        let started = filtered(|| Command::new("/bin/true").status());
        assert_eq!(started.unwrap_err().raw_os_error(), Some(libc::EPERM));
        // Others still do.
        assert!(Command::new("/bin/true").status().unwrap().success());
    }

    #[test]
    fn filter_refuses_every_listed_call() {
        filtered(|| {
            for call in REFUSED.iter().chain(REFUSED_HERE) {
                assert_eq!(errno_of(*call), libc::EPERM, "{call}");
            }
            // -1 has each flag of a new namespace.
            assert_eq!(errno_of(libc::SYS_clone), libc::EPERM);
            assert_eq!(errno_of(libc::SYS_clone3), libc::ENOSYS);
        });
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn filter_refuses_calls_by_their_x32_numbers() {
        // execve is 520 there; getpid has the number of x86-64.
        for call in [520, libc::SYS_getpid, libc::SYS_mount] {
            assert_eq!(filtered(|| errno_of(call | 0x4000_0000)), libc::EPERM);
        }
    }

    #[test]
    fn filter_permits_network_namespaces_alone_to_be_entered() {
        let own = |kind: &str| std::fs::File::open(format!("/proc/self/ns/{kind}")).unwrap();
        let (net, uts) = (own("net"), own("uts"));
        filtered(|| {
            let entered = move_into_link_name_space(
                uts.as_fd(),
                Some(LinkNameSpaceType::HostNameAndNISDomainName),
            );
            assert_eq!(entered, Err(rustix::io::Errno::PERM));
            let entered = move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network));
            // Without CAP_SYS_ADMIN the kernel refuses it.
            if rustix::process::geteuid().is_root() {
                assert_eq!(entered, Ok(()));
            }
        });
    }

    #[test]
    fn filter_lets_threads_files_and_sockets_pass() {
        filtered(|| {
            let pid = std::thread::spawn(std::process::id).join();
            assert_eq!(pid.unwrap(), std::process::id());
            assert!(std::fs::read("/proc/self/status").is_ok());
            assert!(std::net::TcpListener::bind("127.0.0.1:0").is_ok());
            assert!(uzers::get_user_by_uid(0).is_some());
        });
    }
}
