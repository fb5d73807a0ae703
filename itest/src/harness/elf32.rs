//! A 32-bit program that binds its stdin to an address and exits with the errno.

use rustix::fs::{MemfdFlags, memfd_create};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::process::{Command, Stdio};

/// The address that the file is mapped at.
const BASE: u32 = 0x0804_8000;
/// The size of the ELF header and the program header.
const HEADERS: u32 = 52 + 32;

/// `bind(0, ADDRESS, length)` and `exit(errno)`.
fn code(address: u32, length: u32) -> Vec<u8> {
    let [a0, a1, a2, a3] = address.to_le_bytes();
    let [l0, l1, l2, l3] = length.to_le_bytes();
    vec![
        0xb8, 0x69, 0x01, 0, 0, // mov eax, 361 (bind)
        0x31, 0xdb, // xor ebx, ebx
        0xb9, a0, a1, a2, a3, // mov ecx, ADDRESS
        0xba, l0, l1, l2, l3, // mov edx, length
        0xcd, 0x80, // int 0x80
        0xf7, 0xd8, // neg eax
        0x89, 0xc3, // mov ebx, eax
        0xb8, 0x01, 0, 0, 0, // mov eax, 1 (exit)
        0xcd, 0x80, // int 0x80
    ]
}

/// The ELF file.
fn file(address: &[u8]) -> Vec<u8> {
    let length = u32::try_from(address.len()).unwrap_or(0);
    let size = u32::try_from(code(0, 0).len()).unwrap_or(0);
    let all = HEADERS + size + length;
    let half = |value: u16| value.to_le_bytes().to_vec();
    let word = |value: u32| value.to_le_bytes().to_vec();
    [
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        // ET_EXEC for EM_386, version 1, entry, program headers, no sections, no flags.
        [half(2), half(3), word(1), word(BASE + HEADERS), word(52)].concat(),
        [word(0), word(0), half(52), half(32), half(1)].concat(),
        [half(0), half(0), half(0)].concat(),
        // PT_LOAD of the whole file, readable and executable.
        [word(1), word(0), word(BASE), word(BASE), word(all)].concat(),
        [word(all), word(5), word(4096)].concat(),
        code(BASE + HEADERS + size, length),
        address.to_vec(),
    ]
    .concat()
}

/// Binds by such a program: its pid and the errno. Fails where the kernel runs no 32-bit programs.
pub(crate) fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> Result<(u32, i32), i32> {
    let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(-1);
    // Not closed on exec, since the path of the program is that of this descriptor.
    let program = memfd_create("bind32", MemfdFlags::empty()).map_err(|e| e.raw_os_error())?;
    let mut program = std::fs::File::from(program);
    program.write_all(&file(address)).map_err(errno)?;
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    // A file that is open for writing cannot be executed.
    let readable = std::fs::File::open(&path).map_err(errno)?;
    drop(program);
    let path = format!("/proc/self/fd/{}", readable.as_raw_fd());
    rustix::io::fcntl_setfd(&readable, rustix::io::FdFlags::empty())
        .map_err(|e| e.raw_os_error())?;
    let socket = socket.try_clone_to_owned().map_err(errno)?;
    let mut child = Command::new(path)
        .stdin(Stdio::from(socket))
        .spawn()
        .map_err(errno)?;
    let pid = child.id();
    let status = child.wait().map_err(errno)?;
    Ok((pid, status.code().ok_or(libc::EFAULT)?))
}
