//! System calls with arguments that safe wrappers do not allow.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `SOL_SCTP` and `SCTP_SOCKOPT_BINDX_ADD` of `include/uapi/linux/sctp.h`.
const SOL_SCTP: i32 = 132;
const BINDX_ADD: i32 = 100;

/// Numbers of the 32-bit x86 system call table, and socketcall's number of bind.
#[cfg(target_arch = "x86_64")]
const SOCKETCALL: usize = 102;
#[cfg(target_arch = "x86_64")]
const BIND32: usize = 361;
#[cfg(target_arch = "x86_64")]
const SYS_BIND: u32 = 2;

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(-1)
}

fn errno_of(result: i32) -> i32 {
    if result == 0 { 0 } else { last_errno() }
}

/// socket(2) with any numbers.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd, i32> {
    // SAFETY: takes three numbers.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bind(2) with `len` of a buffer that holds at least as much.
pub(crate) fn bind(fd: BorrowedFd<'_>, buffer: &[u8], len: u32) -> i32 {
    assert!(
        len as usize <= buffer.len(),
        "the kernel would read past the buffer"
    );
    // SAFETY: the kernel reads `len` bytes, which the buffer has.
    errno_of(unsafe { libc::bind(fd.as_raw_fd(), buffer.as_ptr().cast(), len) })
}

/// `bindresvport(3)` of glibc on a new TCP socket: the port, or the errno.
pub(crate) fn bindresvport() -> Result<u16, i32> {
    // The libc crate lacks it.
    unsafe extern "C" {
        fn bindresvport(socket: libc::c_int, address: *mut libc::sockaddr_in) -> libc::c_int;
    }
    let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    // SAFETY: all bytes zero are an address without a family and a port, which the function fills in.
    let mut address = unsafe { std::mem::zeroed::<libc::sockaddr_in>() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    // SAFETY: writes the port of the address, which outlives the call.
    match errno_of(unsafe { bindresvport(socket.as_raw_fd(), &raw mut address) }) {
        0 => Ok(u16::from_be(address.sin_port)),
        errno => Err(errno),
    }
}

/// `sctp_bindx`.
pub(crate) fn bindx(fd: BorrowedFd<'_>, buffer: &[u8], len: u32) -> i32 {
    assert!(
        len as usize <= buffer.len(),
        "the kernel would read past the buffer"
    );
    let option = buffer.as_ptr().cast();
    // SAFETY: the kernel reads `len` bytes, which the buffer has.
    errno_of(unsafe { libc::setsockopt(fd.as_raw_fd(), SOL_SCTP, BINDX_ADD, option, len) })
}

/// Sets an option of four bytes.
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: u32,
) -> Result<(), i32> {
    let size = 4;
    // SAFETY: the kernel reads the four bytes of `value`.
    match errno_of(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size,
        )
    }) {
        0 => Ok(()),
        errno => Err(errno),
    }
}

/// `IORING_OP_BIND`, optionally by a polling thread. Fails where the kernel lacks it.
pub(crate) fn uring(fd: BorrowedFd<'_>, buffer: &[u8], len: u32, polled: bool) -> Result<i32, i32> {
    let errno = |error: io::Error| error.raw_os_error().unwrap_or(-1);
    let mut builder = io_uring::IoUring::builder();
    if polled {
        builder.setup_sqpoll(10);
    }
    let mut ring: io_uring::IoUring = builder.build(2).map_err(errno)?;
    let mut operations = io_uring::Probe::new();
    ring.submitter()
        .register_probe(&mut operations)
        .map_err(errno)?;
    if !operations.is_supported(io_uring::opcode::Bind::CODE) {
        return Err(libc::EOPNOTSUPP);
    }
    assert!(
        len as usize <= buffer.len(),
        "the kernel would read past the buffer"
    );
    let target = io_uring::types::Fd(fd.as_raw_fd());
    let entry = io_uring::opcode::Bind::new(target, buffer.as_ptr().cast(), len).build();
    // SAFETY: the descriptor and the buffer outlive the operation, which is waited for below.
    unsafe { ring.submission().push(&entry) }.map_err(|_| libc::EBUSY)?;
    ring.submit_and_wait(1).map_err(errno)?;
    let done = ring.completion().next().ok_or(libc::EIO)?;
    Ok(-done.result())
}

/// Memory below 4 GiB, which 32-bit system calls can address.
#[cfg(target_arch = "x86_64")]
struct Low(*mut u32);

#[cfg(target_arch = "x86_64")]
impl Low {
    const BYTES: usize = 4096;
    /// Where the arguments of socketcall are, after the address.
    const ARGUMENTS: usize = 512;

    fn new(address: &[u8]) -> Result<Self, i32> {
        assert!(address.len() <= Self::ARGUMENTS * 4, "an address is short");
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: a new mapping, which overlaps nothing.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), Self::BYTES, protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let low = Self(at.cast());
        // SAFETY: the mapping is larger than the address, and has no other user.
        unsafe { std::ptr::copy_nonoverlapping(address.as_ptr(), at.cast(), address.len()) };
        Ok(low)
    }

    fn arguments(&self) -> *mut u32 {
        self.0.wrapping_add(Self::ARGUMENTS)
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for Low {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.0.cast(), Self::BYTES) };
    }
}

#[cfg(target_arch = "x86_64")]
fn int80(number: usize, first: usize, second: usize, third: usize) -> i32 {
    let result: usize;
    // SAFETY: a system call that reads memory which its caller holds; LLVM keeps rbx for itself, so it
    // is exchanged and restored, and int 0x80 may clear r8 to r11.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) first => _,
            inout("rax") number => result,
            in("rcx") second,
            in("rdx") third,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    // The result has 32 bits.
    -(u32::try_from(result & 0xffff_ffff)
        .unwrap_or(0)
        .cast_signed())
}

/// bind of the 32-bit system call table: by socketcall, or directly.
#[cfg(target_arch = "x86_64")]
pub(crate) fn bind32(
    fd: BorrowedFd<'_>,
    buffer: &[u8],
    len: u32,
    socketcall: bool,
) -> Result<i32, i32> {
    let low = Low::new(buffer)?;
    let fd = fd.as_raw_fd().cast_unsigned();
    let address = u32::try_from(low.0.addr()).map_err(|_| libc::EFAULT)?;
    if !socketcall {
        return Ok(int80(BIND32, fd as usize, address as usize, len as usize));
    }
    let arguments = low.arguments();
    // SAFETY: three words within the mapping.
    unsafe { std::ptr::copy_nonoverlapping([fd, address, len].as_ptr(), arguments, 3) };
    Ok(int80(SOCKETCALL, SYS_BIND as usize, arguments.addr(), 0))
}

/// There is no 32-bit system call table.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn bind32(_: BorrowedFd<'_>, _: &[u8], _: u32, _: bool) -> Result<i32, i32> {
    Err(libc::ENOSYS)
}

/// unshare(2)
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: changes the namespaces, or the table of files, of the calling thread; no memory is touched.
    if unsafe { libc::unshare(flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The number of loaded BPF programs.
pub(crate) fn loaded_programs() -> io::Result<u32> {
    const BPF_PROG_GET_NEXT_ID: i32 = 11;
    let (mut count, mut id) = (0, 0u32);
    loop {
        // start_id, next_id, open_flags
        let mut attributes = [id, 0, 0, 0];
        let size = size_of_val(&attributes);
        // SAFETY: the kernel reads and writes `size` bytes, which the array has.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_GET_NEXT_ID,
                attributes.as_mut_ptr(),
                size,
            )
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ENOENT) {
                Ok(count)
            } else {
                Err(error)
            };
        }
        [_, id, ..] = attributes;
        count += 1;
    }
}

/// Runs `action` in a child of this process, which must have one thread: an errno or 0.
pub(crate) fn in_child(action: impl FnOnce() -> anyhow::Result<i32>) -> anyhow::Result<i32> {
    /// No bind ends with this errno.
    const FAILED: i32 = 255;
    // SAFETY: this process has one thread, so the child's memory is whole, and it ends below.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = action().unwrap_or_else(|error| {
            eprintln!("{error:#}");
            FAILED
        });
        // SAFETY: ends this child at once, without what its parent has open being flushed twice.
        unsafe { libc::_exit(code) };
    }
    if child < 0 {
        return Err(io::Error::last_os_error().into());
    }
    let mut status = 0;
    // SAFETY: waits for the child that was just made; `status` is ours.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } != child {
        return Err(io::Error::last_os_error().into());
    }
    let code = libc::WEXITSTATUS(status);
    anyhow::ensure!(
        libc::WIFEXITED(status) && code != FAILED,
        "the child failed"
    );
    Ok(code)
}
